//! Promise: what volbak restores is what GNU tar restores from the same archive, in every attribute; a part of it costs
//! a part of the work; what is there already is safe; a restore that was cut off goes on.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::testkit::proof::{back_up, copy, restore_options, restore_paths, restore_with, verify_level, with};
use crate::testkit::tree::{Filesystem, Kind, assert_equal_trees, fingerprint, make_hard_tree, noise, text};
use volbak::events::Silent;
use volbak::outside::{Cancel, CommandOutput, RunCommand, SystemClock, SystemCommands};
use volbak::run::browse::{BrowseError, Change, cat, diff, list};
use volbak::run::check::{CheckLevel, Findings, Verdict, record};
use volbak::run::rehearse::compare::{How, compare};
use volbak::run::restore::Existing;
use volbak::run::verify::{Surroundings, VerifyOptions, verify};
use volbak::store::Backup;

fn gnu_tar(archive: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let status = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpzf"])
        .arg(archive)
        .arg("-C")
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

fn small_tree(dir: &Path) {
    fs::create_dir_all(dir.join("etc/ssh")).unwrap();
    fs::create_dir_all(dir.join("var/log")).unwrap();
    fs::create_dir_all(dir.join("zz")).unwrap();
    fs::write(dir.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(dir.join("etc/ssh/sshd_config"), text(1, 4000)).unwrap();
    fs::write(dir.join("var/log/a.log"), text(2, 900_000)).unwrap();
    fs::write(dir.join("var/log/b.gz"), noise(3, 1_500_000)).unwrap();
    fs::hard_link(dir.join("etc/hosts"), dir.join("zz/hosts")).unwrap();
    fs::hard_link(dir.join("etc/hosts"), dir.join("zz/hosts2")).unwrap();
    fs::set_permissions(dir.join("etc/ssh"), fs::Permissions::from_mode(0o710)).unwrap();
}

#[test]
fn the_hard_tree_comes_back_as_gnu_tar_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let hard = dir.path().join("tree");
    fs::create_dir(&hard).unwrap();
    make_hard_tree(&hard, Filesystem::Ext4);
    let files = back_up(&hard, &dir.path().join("backup"));
    let (report, problems) = restore_with(&files, &restore_options(&dir.path().join("ours")));
    let report = report.unwrap();
    assert!(report.is_complete() && report.verified, "{problems:?}");
    gnu_tar(&files.archive_path(), &dir.path().join("theirs"));
    let ours = fingerprint(&dir.path().join("ours"));
    assert_equal_trees(&fingerprint(&dir.path().join("theirs")), &ours);
    let mut expected = fingerprint(&hard);
    expected.retain(|_, attributes| attributes.kind != Kind::Socket);
    assert_equal_trees(&expected, &ours);
    println!("{} entries equal, {} bytes", ours.len(), report.data_bytes);

    // Without its index, by the members' own headers, it is the same.
    fs::remove_file(files.index_path()).unwrap();
    let (report, _) = restore_with(&files, &restore_options(&dir.path().join("again")));
    assert_eq!(report.unwrap().failed, 0);
    assert_equal_trees(&expected, &fingerprint(&dir.path().join("again")));
}

#[test]
fn the_restore_test_finds_nothing_wrong_with_a_good_backup() {
    let dir = tempfile::tempdir().unwrap();
    let hard = dir.path().join("tree");
    fs::create_dir(&hard).unwrap();
    make_hard_tree(&hard, Filesystem::Ext4);
    let files = back_up(&hard, &dir.path().join("backup"));
    let report = verify_level(&files, CheckLevel::RestoreTest);
    assert_eq!(report.verdict, Verdict::Good, "{:?} {:?}", report.findings, report.not_checked);
    report.save_record(&files).unwrap();
    let record = record::load(&files, report.archive_sha1.as_deref(), report.archive_bytes).unwrap();
    assert!(matches!(record.health(), record::Health::Good { level: CheckLevel::RestoreTest, .. }));
}

/// Notes the mode of the file on which mkfs runs.
#[derive(Default)]
struct ModeOfImage(Mutex<Vec<u32>>);

impl RunCommand for ModeOfImage {
    fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
        if program == "mkfs.ext4" {
            let mode = fs::metadata(args.last().unwrap()).unwrap().permissions().mode();
            self.0.lock().unwrap().push(mode & 0o777);
        }
        SystemCommands.run(program, args)
    }
}

#[test]
fn no_other_user_can_read_the_files_of_a_restore_test() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(&dir.path().join("tree"));
    let files = back_up(&dir.path().join("tree"), &dir.path().join("backup"));
    let modes = ModeOfImage::default();
    let around = Surroundings { observer: &Silent, clock: &SystemClock, commands: &modes };
    let report = verify(&files, &VerifyOptions::at(CheckLevel::RestoreTest), around).unwrap();
    assert_eq!((report.verdict, modes.0.into_inner().unwrap()), (Verdict::Good, vec![0o600]));
}

/// What the comparison of the restore test finds in a tree, by path.
fn differences(files: &Backup, tree: &Path) -> Vec<String> {
    let mut findings = Findings::default();
    let root = fs::File::open(tree).unwrap();
    let how = How { attributes: true, threads: 2, cancel: Cancel::default() };
    compare(files, root.as_fd(), &how, &mut findings).unwrap();
    findings
        .first
        .into_iter()
        .map(|finding| format!("{}: {}", finding.path.unwrap_or_default(), finding.what))
        .collect()
}

#[test]
fn the_restore_test_notices_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    small_tree(&tree);
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    for run in 0..100_u64 {
        sparse.write_all_at(b"data", run * 100_000).unwrap();
    }
    sparse.set_len(20_000_000).unwrap();
    std::os::unix::fs::symlink("etc", tree.join("link")).unwrap();
    let files = back_up(&tree, &dir.path().join("backup"));
    let good = dir.path().join("good");
    assert!(restore_with(&files, &restore_options(&good)).0.unwrap().is_complete());
    assert_eq!(differences(&files, &good), [""; 0]);

    let changes = [
        ("printf x | dd of=var/log/a.log bs=1 seek=500000 conv=notrunc status=none", "./var/log/a.log"),
        ("printf x | dd of=sparse bs=1 seek=300001 conv=notrunc status=none", "./sparse"),
        ("printf x | dd of=sparse bs=1 seek=350000 conv=notrunc status=none", "./sparse"),
        ("printf x | dd of=sparse bs=1 seek=19999999 conv=notrunc status=none", "./sparse"),
        ("truncate -s -1 sparse", "./sparse"),
        ("rm sparse; mkfifo sparse", "./sparse"),
        ("chmod 600 sparse", "./sparse"),
        ("setfattr -n user.x -v y sparse", "./sparse"),
        ("cp -a zz/hosts2 copy; mv copy zz/hosts2", "./zz/hosts2"),
        ("ln -f sparse zz/hosts2", "./zz/hosts2"),
        ("chown 5 etc/hosts", "./etc/hosts"),
        ("printf x | dd of=etc/hosts bs=1 seek=3 conv=notrunc status=none", "./etc/hosts"),
        ("ln -sfn zz link", "./link"),
        ("rm zz/hosts", "./zz/hosts"),
        ("touch -d 2001-01-01 var/log", "./var/log"),
        ("touch new", "./new"),
    ];
    let changed = dir.path().join("changed");
    for (change, path) in changes {
        let script = format!(
            "cp -a --sparse=always good changed; cd changed; touch -r sparse ../stamp; {change}
             touch -h -r ../tree/link link; touch -r ../tree .; for f in sparse etc/hosts var/log/a.log zz; do
                 touch -r ../tree/$f $f; done"
        );
        let output = Command::new("bash").args(["-ec", &script]).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{change}: {}", String::from_utf8_lossy(&output.stderr));
        let found = differences(&files, &changed);
        assert!(found.iter().any(|found| found.starts_with(&format!("{path}: "))), "{change}: {found:?}");
        assert!(found.len() <= 2, "{change}: {found:?}");
        fs::remove_dir_all(&changed).unwrap();
    }
}

#[test]
fn a_part_is_restored_with_its_directories_and_links() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(&dir.path().join("tree"));
    let files = back_up(&dir.path().join("tree"), &dir.path().join("backup"));
    let to = dir.path().join("one");
    let report = restore_paths(&files, &to, &["etc/ssh/sshd_config"]);
    assert_eq!(report.restored + report.present, 4, "the file, and the three directories that lead to it");
    let whole = fingerprint(&dir.path().join("tree"));
    for (path, attributes) in fingerprint(&to) {
        let was = &whole[&path];
        assert!(was.mode == attributes.mode && was.mtime == attributes.mtime && was.kind == attributes.kind);
    }
    restore_paths(&files, &dir.path().join("glob"), &["var/log/*.gz"]);
    assert!(dir.path().join("glob/var/log/b.gz").exists() && !dir.path().join("glob/var/log/a.log").exists());
    // Wherever the data of a file with several names is, each of its names brings it.
    for name in ["etc/hosts", "zz/hosts", "zz/hosts2"] {
        let to = dir.path().join(name.replace('/', "-"));
        restore_paths(&files, &to, &[name]);
        assert_eq!(fs::read(to.join(name)).unwrap(), b"127.0.0.1 localhost\n");
    }
    let to = dir.path().join("zz");
    restore_paths(&files, &to, &["zz"]);
    assert_eq!(fs::metadata(to.join("zz/hosts")).unwrap().ino(), fs::metadata(to.join("zz/hosts2")).unwrap().ino());
    let options = with(restore_options(&dir.path().join("none")), |options| options.paths = vec!["none".to_owned()]);
    assert!(restore_with(&files, &options).0.is_err());
}

#[test]
fn what_is_there_is_kept_and_an_interrupted_restore_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(&dir.path().join("tree"));
    let files = back_up(&dir.path().join("tree"), &dir.path().join("backup"));
    let to = dir.path().join("to");
    assert!(restore_with(&files, &restore_options(&to)).0.unwrap().is_complete());
    let expected = fingerprint(&to);
    // Again: nothing is overwritten, and each file is told of.
    let again = restore_with(&files, &restore_options(&to)).0.unwrap();
    assert_eq!((again.restored, again.failed), (1, 6), "the root, which is as it was");
    assert_equal_trees(&expected, &fingerprint(&to));

    // As an interrupted restore leaves it: some files are not there, one is under its temporary name.
    let resume = with(restore_options(&to), |options| options.existing = Existing::Resume);
    fs::remove_file(to.join("var/log/b.gz")).unwrap();
    fs::remove_dir_all(to.join("zz")).unwrap();
    fs::write(to.join("var/log/.volbak-tmp.restore-99-1-2"), "half").unwrap();
    let (resumed, problems) = restore_with(&files, &resume);
    assert!(resumed.unwrap().is_complete(), "{problems:?}");
    assert_equal_trees(&expected, &fingerprint(&to));
    // A file of another content is not what an interrupted restore leaves.
    let log = to.join("var/log/a.log");
    let mtime = fs::metadata(&log).unwrap().modified().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&log, &bytes).unwrap();
    fs::File::options().write(true).open(&log).unwrap().set_modified(mtime).unwrap();
    assert_eq!(restore_with(&files, &resume).0.unwrap().failed, 1);
    let overwrite = with(restore_options(&to), |options| options.existing = Existing::Overwrite);
    assert!(restore_with(&files, &overwrite).0.unwrap().is_complete());
    assert_equal_trees(&expected, &fingerprint(&to));
}

#[test]
fn files_are_listed_given_out_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    small_tree(&tree);
    let before = back_up(&tree, &dir.path().join("before"));
    let mut names = Vec::new();
    list(&before, "/etc", false, &Cancel::default(), &volbak::Silent, |entry| {
        names.push(entry.path);
        Ok(())
    })
    .unwrap();
    names.sort();
    assert_eq!(names, ["etc", "etc/hosts", "etc/ssh"]);
    assert!(matches!(
        list(&before, "none", true, &Cancel::default(), &volbak::Silent, |_| Ok(())),
        Err(BrowseError::NotFound(_))
    ));
    for name in ["var/log/a.log", "zz/hosts2", "./etc/hosts"] {
        let mut out = Vec::new();
        cat(&before, name, &Cancel::default(), &mut out).unwrap();
        assert!(out == fs::read(tree.join(name)).unwrap(), "{name}");
    }
    assert!(matches!(cat(&before, "etc", &Cancel::default(), &mut Vec::new()), Err(BrowseError::NotAFile { .. })));

    fs::write(tree.join("etc/new"), "x").unwrap();
    fs::remove_file(tree.join("var/log/b.gz")).unwrap();
    chown(tree.join("etc/ssh/sshd_config"), Some(5), None).unwrap();
    let mtime = fs::metadata(tree.join("var/log/a.log")).unwrap().modified().unwrap();
    fs::write(tree.join("var/log/a.log"), text(5, 900_000)).unwrap();
    fs::File::options().write(true).open(tree.join("var/log/a.log")).unwrap().set_modified(mtime).unwrap();
    let after = back_up(&tree, &dir.path().join("after"));
    let changes: Vec<_> = diff(&before, &after, &Cancel::default())
        .unwrap()
        .into_iter()
        .map(|difference| (difference.path, difference.change))
        .collect();
    for expected in [
        ("etc/new", Change::Added),
        ("var/log/b.gz", Change::Removed),
        ("etc/ssh/sshd_config", Change::Attributes),
        ("var/log/a.log", Change::Content),
    ] {
        assert!(changes.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {changes:?}");
    }
    let damaged = copy(&before, &dir.path().join("damaged"));
    let mut bytes = fs::read(damaged.archive_path()).unwrap();
    for at in (2000..bytes.len()).step_by(5000) {
        bytes[at] ^= 1;
    }
    fs::write(damaged.archive_path(), bytes).unwrap();
    assert!(cat(&damaged, "var/log/a.log", &Cancel::default(), &mut Vec::new()).is_err());
}

#[test]
fn names_that_would_move_the_cursor_or_hide_are_written_out() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("evil\u{202e}\u{200b}\u{1b}[31m\nname"), noise(1, 90_000)).unwrap();
    let before = back_up(&tree, &dir.path().join("before"));
    fs::write(tree.join("evil\u{202e}\u{200b}\u{1b}[31m\nname"), noise(2, 90_000)).unwrap();
    let after = back_up(&tree, &dir.path().join("after"));
    let mut bytes = fs::read(after.archive_path()).unwrap();
    bytes[50_000] ^= 1;
    fs::write(after.archive_path(), &bytes).unwrap();
    let to = dir.path().join("to");
    let [before, after, to] =
        [before.archive_path(), after.archive_path(), to].map(|path| path.to_str().unwrap().to_owned());
    for arguments in [
        &["browse", &before][..],
        &["diff", &before, &after],
        &["verify", "--no-record", &after],
        &["restore", &after, "--to", &to],
        &["cat", &format!("{before}:evil\u{202e}")],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("\\u{202e}"), "{arguments:?}: {said}");
        let hidden = |character| matches!(character, '\u{202e}' | '\u{200b}' | '\u{1b}');
        assert!(!said.contains(hidden) && !said.contains("\nname"), "{arguments:?}: {said:?}");
    }
}
