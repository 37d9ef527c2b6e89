//! Promise: whatever single byte of a backup is changed, cut off, added or exchanged with another, verify finds it and
//! names the file, and restore never puts a wrong byte in place without saying so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::testkit::cases;
use crate::testkit::proof::{Random, back_up, back_up_as, copy, four, restore_options, restore_with, verify_level};
use crate::testkit::tree;
use crate::testkit::tree::{Kind, fingerprint, noise, text};
use volbak::archive::kind::Compression;
use volbak::run::check::{BackupFile, CheckLevel, Verdict};
use volbak::store::Backup;

fn make_tree(dir: &Path) {
    fs::create_dir_all(dir.join("etc/deep/er")).unwrap();
    fs::create_dir_all(dir.join("srv")).unwrap();
    for number in 0..60 {
        fs::write(dir.join(format!("etc/file-{number}")), text(number, 900)).unwrap();
    }
    fs::write(dir.join("etc/deep/er/file"), "deep\n").unwrap();
    fs::hard_link(dir.join("etc/file-3"), dir.join("srv/link")).unwrap();
    std::os::unix::fs::symlink("../etc", dir.join("srv/symlink")).unwrap();
    fs::write(dir.join("srv/noise"), noise(7, 600_000)).unwrap();
    fs::write(dir.join("srv/text"), text(9, 540_000)).unwrap();
    let sparse = fs::File::create(dir.join("srv/sparse")).unwrap();
    sparse.set_len(5_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 3_000_000).unwrap();
}

/// One change of a file's bytes; what was done, or nothing when it would have changed nothing.
fn damage(bytes: &mut Vec<u8>, kind: usize, random: &mut Random) -> Option<String> {
    let at = random.below(bytes.len());
    match kind {
        0..=4 => {
            let flip = 1 << random.below(8);
            bytes[at] ^= flip;
            Some(format!("byte {at} xor {flip:#x}"))
        }
        5 => {
            bytes.truncate(at);
            Some(format!("cut at {at}"))
        }
        6 => {
            bytes.remove(at);
            Some(format!("byte {at} taken out"))
        }
        7 => {
            let byte = u8::try_from(random.below(256)).unwrap();
            bytes.insert(at, byte);
            Some(format!("{byte:#x} put in at {at}"))
        }
        8 => {
            bytes.push(u8::try_from(random.below(256)).unwrap());
            Some("a byte added at the end".to_owned())
        }
        _ => {
            let other = if random.below(2) == 0 { (at + 1).min(bytes.len() - 1) } else { random.below(bytes.len()) };
            bytes.swap(at, other);
            (bytes[at] != bytes[other]).then(|| format!("bytes {at} and {other} exchanged"))
        }
    }
}

#[test]
fn every_damage_is_found_and_the_file_named() {
    damage_is_found(Compression::Gzip, cases::count(1000));
}

#[test]
fn every_damage_of_zstandard_frames_is_found() {
    damage_is_found(Compression::Zstd, cases::count(500));
}

fn damage_is_found(compression: Compression, cases: usize) {
    // Each restore ends with a sync, which takes its time on a disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    make_tree(&dir.path().join("tree"));
    let good = back_up_as(&dir.path().join("tree"), &dir.path().join("good"), compression);
    let report = verify_level(&good, CheckLevel::Full);
    assert_eq!(report.verdict, Verdict::Good, "{report:?}");
    let expected = fingerprint(&dir.path().join("tree"));
    let contents: Vec<Vec<u8>> = four(&good).iter().map(|path| fs::read(path).unwrap()).collect();
    let names = [BackupFile::Archive, BackupFile::Checksum, BackupFile::Index, BackupFile::Manifest];

    let mut random = Random(20_261_120);
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut made, mut named_member, mut named_path, mut restored) = (0, 0, 0, 0);
    let bad = copy(&good, &dir.path().join("bad"));
    while made < cases {
        // Half of them in the archive, the others by turns in the side files.
        let which = if made % 2 == 0 { 0 } else { 1 + made / 2 % 3 };
        let mut bytes = contents[which].clone();
        let Some(what) = damage(&mut bytes, made % 11, &mut random) else { continue };
        made += 1;
        fs::write(&four(&bad)[which], &bytes).unwrap();
        let report = verify_level(&bad, CheckLevel::Full);
        let about: Vec<_> = report.findings.iter().filter(|finding| finding.file == names[which]).collect();
        assert_eq!(report.verdict, Verdict::Bad, "{:?}: {what}", names[which]);
        assert!(!about.is_empty(), "{:?}: {what}: {:?}", names[which], report.findings);
        if which == 0 {
            named_member += usize::from(about.iter().any(|finding| finding.member.is_some()));
            named_path += usize::from(about.iter().any(|finding| finding.path.is_some()));
        }
        *found.entry(["archive", "checksum", "index", "manifest"][which]).or_default() += 1;
        // Restoring each of them would take too long; the archive's and the index's damage is what could do harm.
        if made % 16 == 0 || (which == 2 && made % 8 == 3) {
            restore_says_what_is_wrong(&bad, &expected, &dir.path().join(format!("restored-{made}")), &what);
            restored += 1;
        }
        fs::write(&four(&bad)[which], &contents[which]).unwrap();
    }
    println!("found {} of {cases}: {found:?}", found.values().sum::<usize>());
    println!(
        "of those in the archive, {named_member} with the member and {named_path} with the path; {restored} restored"
    );
    assert_eq!(found.values().sum::<usize>(), cases);
}

/// Whatever is restored is as it was, and what is not was told.
fn restore_says_what_is_wrong(bad: &Backup, expected: &tree::Tree, to: &Path, what: &str) {
    let (report, problems) = restore_with(bad, &restore_options(to));
    let Ok(report) = report else { return };
    let restored = fingerprint(to);
    let mut missing = 0;
    for (path, attributes) in expected {
        match restored.get(path) {
            None => missing += 1,
            // A directory's own times are set even when something in it is missing.
            Some(found) => assert!(
                found.kind == attributes.kind && found.mode == attributes.mode && found.mtime == attributes.mtime
                    || matches!(found.kind, Kind::Directory),
                "{what}: {} differs",
                tree::shown(path)
            ),
        }
    }
    assert!(restored.keys().all(|path| expected.contains_key(path)), "{what}: something else was made");
    assert!(!problems.is_empty(), "{what}: nothing was said");
    assert!(missing == 0 || !report.is_complete(), "{what}: {missing} missing and called complete");
    fs::remove_dir_all(to).unwrap();
}

#[test]
fn without_side_files_it_says_how_far() {
    says_how_far(Compression::Gzip);
}

#[test]
fn without_side_files_it_says_how_far_in_zstandard_frames() {
    says_how_far(Compression::Zstd);
}

fn says_how_far(compression: Compression) {
    let dir = tempfile::tempdir().unwrap();
    make_tree(&dir.path().join("tree"));
    let good = back_up_as(&dir.path().join("tree"), &dir.path().join("good"), compression);
    let files = copy(&good, &dir.path().join("other"));
    fs::remove_file(files.manifest_path()).unwrap();
    let report = verify_level(&files, CheckLevel::Full);
    assert_eq!(report.verdict, Verdict::GoodAsFarAsChecked, "{report:?}");
    assert_eq!(report.not_checked.len(), 1);
    fs::remove_file(files.index_path()).unwrap();
    let report = verify_level(&files, CheckLevel::Full);
    assert_eq!((report.verdict, report.not_checked.len()), (Verdict::GoodAsFarAsChecked, 3), "{report:?}");
    fs::remove_file(files.checksum_path()).unwrap();
    let report = verify_level(&files, CheckLevel::Full);
    assert_eq!((report.verdict, report.not_checked.len()), (Verdict::GoodAsFarAsChecked, 4), "{report:?}");
    // Its members' CRCs are still there.
    let mut random = Random(5);
    let content = fs::read(files.archive_path()).unwrap();
    for _ in 0..100 {
        let mut bytes = content.clone();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        fs::write(files.archive_path(), &bytes).unwrap();
        let report = verify_level(&files, CheckLevel::Full);
        // In periodic data a match from another distance can be the same data.
        let is_same = || unpacked(&files.archive_path()) == unpacked(&good.archive_path());
        assert!(report.verdict == Verdict::Bad || is_same(), "byte {at}: {report:?}");
    }
}

/// What gzip or zstd makes of an archive; `None` if it refuses it.
fn unpacked(archive: &Path) -> Option<Vec<u8>> {
    let program = if archive.extension().is_some_and(|suffix| suffix == "zst") { "zstd" } else { "gzip" };
    let output = std::process::Command::new(program).arg("-dcq").arg(archive).output().unwrap();
    output.status.success().then_some(output.stdout)
}

#[test]
fn the_documented_scripts_archives_are_verified_as_far_as_they_allow() {
    let dir = tempfile::tempdir().unwrap();
    make_tree(&dir.path().join("tree"));
    let archive = dir.path().join("volume-1_28_09_2011.tar.gz");
    let script = "set -e; cd \"$1\"; tar -czf \"$2\" -C tree . ; sha1sum \"$2\" >\"${2%.tar.gz}.checksum\"";
    let status = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .args([dir.path(), archive.as_path()])
        .status()
        .unwrap();
    assert!(status.success());
    let files = Backup::of_archive(&archive).unwrap();
    let report = verify_level(&files, CheckLevel::Full);
    assert_eq!(report.verdict, Verdict::GoodAsFarAsChecked, "{report:?}");
    assert!(report.found_sha1.is_some() && report.entries > 60);

    let (restored, problems) = restore_with(&files, &restore_options(&dir.path().join("restored")));
    assert!(restored.unwrap().is_complete(), "{problems:?}");
    let mut expected = fingerprint(&dir.path().join("tree"));
    let mut found = fingerprint(&dir.path().join("restored"));
    // GNU tar's own format has whole seconds; -S was not given, so holes are written out.
    for attributes in expected.values_mut().chain(found.values_mut()) {
        attributes.mtime.1 = 0;
        if let Kind::File { data, .. } = &mut attributes.kind {
            data.0 = 0;
        }
    }
    tree::assert_equal_trees(&expected, &found);

    let content = fs::read(&archive).unwrap();
    let mut random = Random(77);
    for case in 0..60 {
        let mut bytes = content.clone();
        if damage(&mut bytes, case % 11, &mut random).is_some() {
            fs::write(&archive, &bytes).unwrap();
            let report = verify_level(&files, CheckLevel::Full);
            assert_eq!(report.verdict, Verdict::Bad, "case {case}");
        }
    }
}

#[test]
fn what_lies_in_a_files_place_is_named_and_never_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, makedev};
    let dir = tempfile::tempdir().unwrap();
    make_tree(&dir.path().join("tree"));
    let good = back_up(&dir.path().join("tree"), &dir.path().join("good"));
    let names = [BackupFile::Archive, BackupFile::Checksum, BackupFile::Index, BackupFile::Manifest];
    for (which, name) in names.into_iter().enumerate() {
        for kind in ["a fifo", "a directory", "a symbolic link", "a character device", "missing"] {
            let files = copy(&good, &dir.path().join(format!("{which}-{kind}")));
            let path = &four(&files)[which];
            fs::remove_file(path).unwrap();
            match kind {
                "a fifo" => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
                "a directory" => fs::create_dir(path).unwrap(),
                "a symbolic link" => std::os::unix::fs::symlink(&four(&good)[which], path).unwrap(),
                // Only root can make one.
                "a character device"
                    if rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RWXU, makedev(1, 5))
                        .is_err() =>
                {
                    continue;
                }
                _ => {}
            }
            let report = verify_level(&files, CheckLevel::Quick);
            if (kind, name) == ("missing", BackupFile::Manifest) {
                assert_eq!(report.verdict, Verdict::GoodAsFarAsChecked);
                continue;
            }
            assert_eq!(report.verdict, Verdict::Bad, "{name:?}: {kind}");
            let named = report.findings.iter().any(|finding| finding.file == name && finding.what.contains(kind));
            assert!(named, "{name:?}: {kind}: {:?}", report.findings);
            let full = verify_level(&files, CheckLevel::Full);
            assert_eq!(full.verdict, Verdict::Bad);
        }
    }
}
