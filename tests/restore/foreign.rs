//! Promise: an archive of another program comes back as GNU tar and bsdtar both bring it back, or as one of them where they
//! differ; or the restore says that it does not, and why. `make.py` makes the archives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::testkit::proof::{restore_options, restore_with, with};
use crate::testkit::tree::{Tree, fingerprint, shown};
use volbak::store::Backup;

/// What comes back as both other programs bring it, without a word.
const COMPLETE: [&str; 42] = [
    "v7-slash-dir",
    "v7-slash-dir-zero",
    "v7-slash-dir-size",
    "ustar-slash-contiguous",
    "pax-slash-dir",
    "long-slash-dir",
    "dir-size",
    "fifo-size",
    "symlink-size",
    "hard-size-no-data",
    "hard-data-ustar",
    "hard-data-pax",
    "hard-data-long",
    "hard-data-v7",
    "bsd-pax-attributes-names",
    "bsd-pax-attributes-numeric",
    "acl-star",
    "acl-numeric-twice",
    "acl-mask-one-colon",
    "acl-effective",
    "time-fraction",
    "time-long-fraction",
    "time-header-256",
    "numbers-256",
    "checksum-signed",
    "checksum-forms",
    "star-xstar",
    "star-old",
    "gnu-L-nuls",
    "gnu-L-inner-nul",
    "gnu-D",
    "gnu-concatenated-A",
    "gnu-oldgnu-sparse",
    "gzip-members",
    "gzip-empty-members",
    "gzip-all-fields",
    "gzip-zeros-after",
    "gzip-few-zeros-after",
    "plain",
    "git",
    "busybox",
    "end-padding-junk",
];

/// What is refused in whole or in part, and the word that names the kind.
const NAMED: [(&str, &str); 18] = [
    ("gnu-concatenated-cat", "another archive follows"),
    ("gzip-two-archives", "--ignore-zeros"),
    ("end-garbage", "behind the archive's end"),
    ("xz", "xz -dc"),
    ("bzip2", "bzip2 -dc"),
    ("zero-bytes", "empty"),
    ("type-5a", "its type Z is not known: restored as a regular file"),
    ("gnu-M", "multi-volume"),
    ("gnu-L-empty", "long name is empty"),
    ("pax-two-x", "two extended headers"),
    ("acl-names-unknown", "user nosuchuser, group nosuchgroup"),
    ("acl-default-names-some", "user nosuchuser, without a number"),
    ("gnu-posix-attributes-unknown", "user volbk0, without a number"),
    ("hard-data-other", "differs from its target"),
    ("hard-slash", "named as a directory"),
    ("names-duplicate", "another entry of the archive has its name"),
    ("time-word", "its time is no number"),
    ("symlink-empty", "target is empty"),
];

/// What comes back as tar brings it, without a word: ACLs with names that have no numbers beside them. bsdtar looks no name up.
const AS_TAR: [&str; 5] =
    ["acl-names", "acl-default-names", "acl-names-escaped", "acl-names-twice", "gnu-posix-attributes-names"];

/// What only volbak brings back as it was: a directory's default ACL goes to what tar makes in it before that has its own; and
/// the kernel's value of an SELinux label ends with a NUL.
const BETTER: [&str; 5] = ["bsd-pax", "bsd-pax-attributes", "bsd-pax-binary", "bsd-pax-sparse", "pax-selinux"];

fn extracted(to: &Path, program: &str, arguments: &[&str], archive: &Path) -> Tree {
    fs::create_dir(to).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg("-xpf").arg(archive).arg("-C").arg(to);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    comparable(to)
}

/// The tree, where a directory that no entry describes has no time of its own.
fn comparable(to: &Path) -> Tree {
    let mut tree = fingerprint(to);
    tree.remove(b".".as_slice());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    for attributes in tree.values_mut().filter(|attributes| (now - attributes.mtime.0).abs() < 3600) {
        attributes.mtime = (0, 0);
    }
    tree
}

fn difference(one: &Tree, other: &Tree) -> String {
    let differs = |path: &&Vec<u8>| one.get(*path) != other.get(*path);
    let paths: Vec<String> = one.keys().chain(other.keys()).filter(differs).map(|path| shown(path)).collect();
    paths.join(", ")
}

#[test]
fn archives_of_other_programs_come_back_as_theirs_do_or_are_named() {
    // Each restore ends with a sync, which takes its time on a disk.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let corpus = scratch.path().join("corpus");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/restore/foreign/make.py");
    assert!(Command::new("python3").arg(script).arg(&corpus).status().unwrap().success());
    let mut archives: Vec<PathBuf> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    archives.sort();
    assert!(archives.len() > 250, "{}", archives.len());
    let (mut wrong, mut as_both, mut said) = (Vec::new(), 0, 0);
    for archive in &archives {
        let name = archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
        let at = scratch.path().join("work");
        fs::create_dir(&at).unwrap();
        let all = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"];
        let gnu = extracted(&at.join("gnu"), "tar", &all, archive);
        let bsd = extracted(&at.join("bsd"), "bsdtar", &["--numeric-owner", "--acls", "--xattrs"], archive);
        let files = Backup::in_directory(corpus.clone(), name.to_owned());
        let to = at.join("ours");
        let (report, problems) = restore_with(&files, &with(restore_options(&to), |options| options.top = false));
        let ours = comparable(&to);
        let complete = report.as_ref().is_ok_and(|report| report.is_complete() && report.shortfalls.is_empty());
        let same = if gnu == bsd { ours == gnu } else { ours == gnu || ours == bsd };
        as_both += u32::from(same && gnu == bsd);
        said += u32::from(!complete);
        if !same && complete && !BETTER.contains(&name) {
            wrong.push(format!("{name}: differs in silence from tar ({})", difference(&gnu, &ours)));
        }
        if !complete && problems.is_empty() {
            wrong.push(format!("{name}: not complete, and no word of it"));
        }
        if COMPLETE.contains(&name) && !(same && gnu == bsd && complete) {
            wrong.push(format!("{name}: not as by tar and bsdtar: {problems:?} {}", difference(&gnu, &ours)));
        }
        if AS_TAR.contains(&name) && !(ours == gnu && complete) {
            wrong.push(format!("{name}: not as by tar: {problems:?} {}", difference(&gnu, &ours)));
        }
        let named = |text: &str| problems.iter().any(|problem| problem.to_string().contains(text));
        if let Some((_, text)) = NAMED.iter().find(|(other, _)| *other == name)
            && (complete || !named(text))
        {
            wrong.push(format!("{name}: {text:?} is not said: {problems:?}"));
        }
        fs::remove_dir_all(&at).unwrap();
    }
    for name in COMPLETE.iter().chain(&AS_TAR).chain(NAMED.iter().map(|(name, _)| name)).chain(&BETTER) {
        assert!(corpus.join(format!("{name}.tar.gz")).exists(), "{name} was not made");
    }
    println!("{} archives: {as_both} as by both, {said} with something to say", archives.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
