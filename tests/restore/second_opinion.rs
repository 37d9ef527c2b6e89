//! Promise: a good backup never has a second opinion against it, whatever a tenant writes into names and attributes; and what our
//! reader and the libraries of others read differently is a finding that holds until there is another second opinion.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use sha2::{Digest, Sha256};
use volbak::archive::gzip::MemberEncoder;
use volbak::archive::index::{EntryLine, HEADER_LINE, IndexedKind, MemberDigest, MemberLine, Totals};
use volbak::archive::kind::Compression;
use volbak::archive::read::head::HeadBuilder;
use volbak::entry::Timestamp;
use volbak::events::{Event, Observer};
use volbak::outside::Cancel;
use volbak::run::check::second_opinion::{SecondOpinion, check};
use volbak::run::check::side_files::SideFiles;
use volbak::run::check::{BackupFile, CheckError, CheckLevel, Findings, Verdict};
use volbak::store::Backup;

use crate::testkit::proof::{STEM, back_up, copy, verify_level};

fn sh(directory: &Path, script: &str) {
    let status = Command::new("bash").current_dir(directory).args(["-euc", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn what_a_tenant_writes_is_no_disagreement() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    // The first four are read wrongly by the tar crate.
    sh(
        &tree,
        r#"echo data >size; setfattr -n user.a -v $'\n10 size=1\n' size
        echo data >name; setfattr -n user.a -v $'\n16 path=./x/y/z\n' name
        echo data >time; setfattr -n user.a -v $'x\n11 mtime=7\nx' time
        echo data >key; setfattr -n $'user.a\n9 size=1\nb' -v v key
        echo data >"$(printf '%0200d\n%054d' 1 2)"; ln -s "$(printf '%0200d\nx' 1)" link
        mkdir -p "$(printf 'd%0.s' {1..200})/$(printf 'e%0.s' {1..200})"
        setfattr -n user.bytes -v 0x00ff0aff00 "$(printf 'd%0.s' {1..200})"
        echo data >binary; setfattr -n user.bytes -v 0x00ff00 binary; setfattr -n user.none binary
        setfattr -n 'user.a=b%3D 7 path=x' -v 'size=1' binary
        truncate -s 9G hole; echo end >>hole; truncate -s 1M empty-hole
        echo old >old; touch -d '1902-01-01 00:00:00.123456789 UTC' old; touch -d '2400-01-01 UTC' new
        echo owners >owners; chown 4294967294:3000000 owners; chmod 7777 owners; ln owners owners-again
        echo data >$'line\nfeed'; ln -s $'to\n10 size=1\n' short; ln $'line\nfeed' $'a\n'
        mkfifo fifo; mknod char c 4095 1048575; mknod block b 7 0; touch nothing
        setfacl -m u:5:r,g:3000000000:rx owners; setfacl -d -m u:5:rwx ."#,
    );
    for name in [b"\xff\xfe".as_slice(), b"back\\slash", b"tab\tand\x7f", "\u{e9}".as_bytes()] {
        fs::write(tree.join(std::ffi::OsStr::from_bytes(name)), "data").unwrap();
    }
    let files = back_up(&tree, &dir.path().join("backup"));
    let report = verify_level(&files, CheckLevel::Full);
    assert_eq!(report.verdict, Verdict::Good, "{:?} {:?}", report.findings, report.not_checked);
    let second = report.second_opinion.unwrap();
    assert_eq!(second.asked + second.not_asked, report.entries);
    assert_eq!((second.not_asked_holes, second.not_asked_line_feeds, second.not_asked), (2, 7, 9), "{second:?}");
    let said = report.summary();
    let words = ", not asked about 2 with holes and 7 with line feeds in attributes or long names";
    assert!(said.contains(&format!("second opinion on {} entries", second.asked)) && said.ends_with(words), "{said}");
}

/// An entry that volbak would not write, with the kind and the size that its reader finds.
struct Forged {
    what: &'static str,
    headers: Vec<u8>,
    data: &'static [u8],
    kind: IndexedKind,
}

fn ustar(name: &str, size: usize, flag: u8) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000007\0");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A header with content: an extended one, or a long name.
fn with_content(flag: u8, content: &str) -> Vec<u8> {
    let mut bytes = ustar("extended", content.len(), flag);
    bytes.extend_from_slice(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn forged() -> Vec<Forged> {
    let file = |what, before: Vec<u8>| Forged {
        what,
        headers: [before, ustar("./f", 4, b'0')].concat(),
        data: b"data",
        kind: IndexedKind::File,
    };
    vec![
        file("the name", with_content(b'x', "12 path=./x\n12 path=./f\n")),
        file("the name", [with_content(b'L', "./long\0"), with_content(b'x', "12 path=./f\n")].concat()),
        file("the time", with_content(b'x', "9 mtime=\n")),
        file("the size", with_content(b'x', "10 size=9\n10 size=4\n")),
        file("the owner", with_content(b'x', "9 uid=77\n9 uid=78\n")),
        file("the type `g`", with_content(b'g', "12 path=./f\n")),
        Forged {
            what: "the link target",
            headers: [with_content(b'x', "14 linkpath=a\n14 linkpath=b\n"), ustar("./l", 0, b'2')].concat(),
            data: b"",
            kind: IndexedKind::Symlink,
        },
        Forged { what: "the type", headers: ustar("./d/", 0, b'0'), data: b"", kind: IndexedKind::Directory },
    ]
}

/// An archive of one good entry and these, with an index that agrees with what volbak reads.
fn write_forged(directory: &Path, forged: &[&Forged]) -> Backup {
    fs::create_dir_all(directory).unwrap();
    let good = Forged { what: "", headers: ustar("./good", 4, b'0'), data: b"good", kind: IndexedKind::File };
    let (mut tar, mut lines) = (Vec::new(), Vec::new());
    let all = std::iter::once(&good).chain(forged.iter().copied());
    let entries = all.clone().count() as u64;
    for forged in all {
        let mut builder = HeadBuilder::default();
        for block in forged.headers.as_chunks().0 {
            builder.add(block).unwrap();
        }
        let (head, _) = builder.finish().unwrap();
        let tar_offset = tar.len() as u64;
        tar.extend_from_slice(&forged.headers);
        tar.extend_from_slice(forged.data);
        tar.resize(tar.len().next_multiple_of(512), 0);
        let line = EntryLine {
            kind: forged.kind,
            damaged: false,
            tar_offset,
            tar_length: tar.len() as u64 - tar_offset,
            size: forged.data.len() as u64,
            ino: 1,
            ctime: Timestamp { sec: 0, nsec: 0 },
            head: head.digest,
            content: (forged.kind == IndexedKind::File).then(|| Sha256::digest(forged.data).into()),
            path: head.path.strip_suffix(b"/").unwrap_or(&head.path).to_vec(),
        };
        line.add_to(&mut lines);
    }
    tar.resize(tar.len() + 1024, 0);
    let mut archive = Vec::new();
    let length = MemberEncoder::new(1).unwrap().encode(&tar, &mut archive);
    archive.truncate(length);
    let (length, tar_bytes) = (length as u64, tar.len() as u64);
    let member = MemberLine {
        number: 0,
        offset: 0,
        length,
        tar_offset: 0,
        tar_length: tar_bytes,
        digest: MemberDigest::of(&archive),
        heads: Some([0; 16]),
        data: None,
    };
    let mut index = HEADER_LINE.as_bytes().to_vec();
    member.add_to(&mut index);
    index.extend_from_slice(&lines);
    Totals { members: 1, entries, archive_bytes: length, tar_bytes }.write_to(&mut index).unwrap();
    let files = Backup::in_directory(directory, STEM.to_owned());
    fs::write(files.archive_path(), archive).unwrap();
    fs::write(files.index_path(), index).unwrap();
    files
}

/// Exit status, standard output and standard error.
fn volbak(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_the_readers_read_differently_is_found_and_holds() {
    let dir = tempfile::tempdir().unwrap();
    let good = write_forged(&dir.path().join("good"), &[]);
    assert_eq!(verify_level(&good, CheckLevel::Full).findings, []);
    for (number, forged) in forged().iter().enumerate() {
        let files = write_forged(&dir.path().join(number.to_string()), &[forged]);
        let archive = files.archive_path();
        let archive = archive.to_str().unwrap();
        let what = forged.what;
        // Nothing but the missing side files is noticed without a second opinion; a backup without its manifest is a problem.
        let (status, printed, said) = volbak(&["verify", "--json", archive]);
        assert_eq!(status, 3, "{what}: {printed}{said}");
        let report = verify_level(&files, CheckLevel::Full);
        assert_eq!((report.verdict, report.findings.len()), (Verdict::Bad, 1), "{what}: {report:?}");
        let finding = &report.findings[0];
        assert_eq!(finding.file, BackupFile::Archive);
        assert!(finding.what.contains("the tar crate reads") && finding.what.contains(what), "{what}: {finding:?}");
        assert_eq!(report.second_opinion.unwrap().asked, 2, "the crate lost its place in no other entry");

        let (status, printed, said) = volbak(&["verify", "--json", "--second-opinion", archive]);
        assert_eq!(status, 1, "{said}");
        let report: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(report["backups"][0]["second_opinion"]["asked"], 2);
        assert!(said.contains("the tar crate reads"), "{said}");
        // A verification that does not look for it does not clear it.
        let (status, _, said) = volbak(&["-q", "verify", archive]);
        assert!(status == 3 && said.contains("it stays BAD"), "{said}");
        assert!(said.contains("only a verification of level full with --second-opinion can clear it"), "{said}");
        let record: Value = serde_json::from_slice(&fs::read(files.record_path()).unwrap()).unwrap();
        let verdicts: Vec<_> = record["results"].as_array().unwrap().iter().map(|one| &one["verdict"]).collect();
        assert_eq!(verdicts, ["good_as_far_as_checked", "bad"]);
    }
}

#[test]
fn a_quick_check_has_no_second_opinion() {
    let dir = tempfile::tempdir().unwrap();
    let files = write_forged(dir.path(), &[]);
    let archive = files.archive_path();
    let archive = archive.to_str().unwrap();
    assert_eq!(volbak(&["verify", "--quick", "--second-opinion", archive]).0, 2);
    let (status, _, said) = volbak(&["verify", "--level", "quick", "--second-opinion", archive]);
    assert!(status > 0 && said.contains("use --level full"), "{status}: {said}");
    let (_, printed, _) = volbak(&["verify", "--second-opinion", "--no-record", archive]);
    assert!(printed.contains("second opinion on 1 entry"), "{printed}");
}

/// What the second opinion alone finds of a backup, with what it said meanwhile.
fn alone(files: &Backup, cancel: &Cancel) -> (Result<Option<SecondOpinion>, CheckError>, Findings, Bytes) {
    let archive = files.open_archive().unwrap();
    let sides = SideFiles {
        archive_bytes: archive.len_bytes(),
        archive: Some(archive),
        index: files.open_index().ok(),
        manifest: files.manifest().map(Box::new),
        ..SideFiles::default()
    };
    let (mut findings, bytes) = (Findings::default(), Bytes::default());
    (check(&sides, Compression::Gzip, cancel, &bytes, &mut findings), findings, bytes)
}

/// How many bytes were expected and read.
#[derive(Default)]
struct Bytes(AtomicU64, AtomicU64);

impl Observer for Bytes {
    fn on_event(&self, event: &Event) {
        match event {
            Event::ExpectedBytes { bytes } => self.0.fetch_add(*bytes, Ordering::Relaxed),
            Event::Read { bytes } => self.1.fetch_add(*bytes, Ordering::Relaxed),
            _ => 0,
        };
    }
}

#[test]
fn its_progress_ends_where_the_manifest_says_and_it_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), vec![7; 70 << 20]).unwrap();
    let files = back_up(&tree, &dir.path().join("backup"));
    let (opinion, findings, bytes) = alone(&files, &Cancel::default());
    assert_eq!((findings.total, opinion.unwrap().unwrap().asked), (0, 2));
    let (expected, read) = (bytes.0.into_inner(), bytes.1.into_inner());
    assert!(expected == read && read > 70 << 20, "{expected} {read}");
    let cancel = Cancel::default();
    cancel.flag().store(true, Ordering::Relaxed);
    let (stopped, findings, _) = alone(&files, &cancel);
    assert!(matches!(stopped, Err(CheckError::Stopped)) && findings.total == 0);
}

/// The full check finds each of these first; the second opinion must not rely on that.
#[test]
fn what_flate2_reads_is_compared_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..40 {
        fs::write(tree.join(format!("file-{number}")), vec![number; 30_000]).unwrap();
    }
    sh(&tree, r"truncate -s 1M hole; echo end >>hole; echo data >feed; setfattr -n user.a -v $'a\nb' feed");
    let good = back_up(&tree, &dir.path().join("good"));
    assert_eq!(alone(&good, &Cancel::default()).1.total, 0);
    let mut archive = fs::read(good.archive_path()).unwrap();
    let index = fs::read_to_string(good.index_path()).unwrap();
    let found = |what: &str, archive: &[u8], index: &str, expected: &str| {
        let files = copy(&good, &dir.path().join(what));
        fs::write(files.archive_path(), archive).unwrap();
        fs::write(files.index_path(), index).unwrap();
        let (_, findings, _) = alone(&files, &Cancel::default());
        assert!(findings.total >= 1, "{what}: nothing is found");
        let said = &findings.first[0].what;
        assert!(said.contains(expected), "{what}: {said}");
    };
    let field_of = |name: &str, number: usize| {
        let line = index.lines().find(|line| line.ends_with(name)).unwrap();
        line.split('\t').nth(number).unwrap()
    };
    let changed = |name: &str, number: usize| {
        let field = field_of(name, number);
        let other = if field.starts_with('0') { "1" } else { "0" };
        index.replace(field, &format!("{other}{}", &field[1..]))
    };
    found("content", &archive, &changed("/file-7", 8), "the tar crate reads the SHA-256");
    found("content-with-holes", &archive, &changed("/hole", 8), "read with flate2, it has another SHA-256");
    found("content-with-feeds", &archive, &changed("/feed", 8), "read with flate2, it has another SHA-256");
    found("headers", &archive, &changed("/file-7", 7), "its headers have another digest");
    found("name", &archive, &index.replace("./file-7\n", "./file-8\n"), r#"the name "./file-7", and the index says"#);
    found("kind", &archive, &index.replace("E\td", "E\tp"), "the type `5`, and the index says `p`");
    let (without_end, end) = index.trim_end().rsplit_once('\n').unwrap();
    found("cut-index", &archive, without_end, "it is cut off");
    assert!(end.starts_with("Z\t"));
    let middle = archive.len() / 2;
    found("cut", &archive[..middle], &index, "flate2 cannot decompress it beyond byte");
    let member = field_of_member(&index, 1);
    found("fewer-members", &archive[..member], &index, "flate2 finds its end at byte");
    // In the first member's CRC32: a byte of a header may say what nobody needs, as the program that made it.
    archive[member - 6] ^= 1;
    found("flipped", &archive, &index, "flate2 cannot decompress it beyond byte");
    archive[member - 6] ^= 1;
    let first = archive[..member].to_vec();
    found("more-members", &[archive.as_slice(), &first].concat(), &index, "flate2 decompresses more than the");
    found("no-gzip-behind", &[archive.as_slice(), b"x"].concat(), &index, "flate2 cannot decompress it beyond byte");
}

/// Where a member begins in the archive.
fn field_of_member(index: &str, number: u64) -> usize {
    let begins = format!("M\t{number}\t");
    let line = index.lines().find_map(|line| line.strip_prefix(&begins)).unwrap();
    line.split('\t').next().unwrap().parse().unwrap()
}
