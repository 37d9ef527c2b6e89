//! Promise: what volbak restores is what GNU tar restores, on whichever filesystem it came from and however many the volume
//! had; without root it restores what it may, and says what it could not; many files cost no more memory than a few.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::testkit::guest::backups::{run_expecting, snapshot};
use crate::testkit::guest::{Mounted, extract_with_gnu_tar, make_image, quoted, restore_target, sh, sh_output};
use crate::testkit::proof::{Told, back_up, copy, four, restore_options, restore_with, with};
use crate::testkit::tree::{Filesystem, Kind, Tree, assert_equal_trees, fingerprint, make_hard_tree};
use crate::testkit::{guest, tree};
use volbak::archive::level::CompressionLevel;
use volbak::archive::members::Outputs;
use volbak::archive::write::{ArchiveWriter, WriteOptions};
use volbak::entry::{Entry, EntryKind, Metadata, Timestamp};
use volbak::run::restore::Existing;
use volbak::store::Backup;

/// What a restore may take: this much, and as much again for each thread.
const MEMORY_KIB: u64 = 64 << 10;
const MEMORY_A_THREAD_KIB: u64 = 8 << 10;

fn comes_back_on(filesystem: Filesystem) {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("guest.img");
    make_image(&image, "1G", filesystem);
    let guest = Mounted::partition(&image, &scratch.path().join("guest"));
    let hard = guest.point.join("tree");
    fs::create_dir(&hard).unwrap();
    make_hard_tree(&hard, filesystem);
    let files = back_up(&hard, &scratch.path().join("backup"));
    let target = restore_target(scratch.path(), filesystem);
    let ours = target.point.join("tree");
    let (report, problems) = restore_with(&files, &restore_options(&ours));
    let report = report.unwrap();
    assert!(report.is_complete() && report.shortfalls.is_empty(), "{problems:?}");
    let ours = fingerprint(&ours);
    // With a directory of the same length the longest paths just fit.
    assert_equal_trees(&extract_with_gnu_tar(&files.archive_path(), &target.point.join("tars")), &ours);
    let mut expected = fingerprint(&hard);
    expected.retain(|_, attributes| attributes.kind != Kind::Socket);
    assert_equal_trees(&expected, &ours);
}

#[test]
fn a_tree_of_xfs_comes_back() {
    comes_back_on(Filesystem::Xfs);
}

#[test]
fn a_tree_of_btrfs_comes_back() {
    comes_back_on(Filesystem::Btrfs);
}

/// A directory that is there, and one that the volume had, give an ACL to what is made in them: each entry has its own rights all the
/// same, for a restore into a shared directory must not open a tenant's files to somebody.
#[test]
fn no_entry_inherits_an_acl() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    sh(&format!(
        "mkdir -p {0}/plain/below {0}/gives; cd {0}; setfacl -d -m u:8:rwx gives
         for d in plain plain/below gives; do echo x > $d/file; echo x > $d/other; mkfifo $d/pipe; ln -s file $d/link; done
         mknod gives/device c 1 3; setfacl -b gives/file gives/pipe gives/device; setfacl -m u:9:r plain/other",
        quoted(&tree)
    ));
    let files = back_up(&tree, &scratch.path().join("backup"));
    let mut expected = fingerprint(&tree);
    expected.remove(b".".as_slice()).unwrap();
    let to = scratch.path().join("to");
    sh(&format!("mkdir {0}; setfacl -d -m u:8:rwx {0}", quoted(&to)));
    for existing in [Existing::Keep, Existing::Overwrite, Existing::Resume] {
        let options = with(restore_options(&to), |options| options.existing = existing);
        let (report, problems) = restore_with(&files, &options);
        assert!(report.unwrap().is_complete(), "{existing:?}: {problems:?}");
        assert_equal_trees(&expected, &without_root(fingerprint(&to)));
    }
}

/// The directory that holds several filesystems is none of the volume's.
fn without_root(mut tree: Tree) -> Tree {
    tree.remove(b".".as_slice()).unwrap();
    tree
}

#[test]
fn several_filesystems_come_back_whole_and_in_part() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    sh(&format!(
        "cd {}; mkdir boot root backups; mkdir -p root/etc root/var/log boot/grub; echo web-01 >root/etc/hostname
         seq 5000 >root/var/log/log; ln root/var/log/log root/var/log/other; echo set >boot/grub/grub.cfg
         truncate -s 200M disk.img; printf 'label: gpt\\nstart=2048, size=131072\\nstart=133120, size=262144\\n' |
             sfdisk -q disk.img
         mke2fs -q -t ext4 -d boot -E offset=$((2048 * 512)) disk.img 64M
         mke2fs -q -t ext4 -d root -E offset=$((133120 * 512)) disk.img 128M",
        quoted(at)
    ));
    let archive = snapshot(&at.join("disk.img"), &at.join("backups"), &[]);
    let whole = at.join("whole");
    let restore = |to: &Path, more: &[&str]| {
        let arguments = ["restore", archive.to_str().unwrap(), "--to", to.to_str().unwrap(), "--devices"];
        run_expecting(0, &[&arguments, more].concat());
        without_root(fingerprint(to))
    };
    let ours = restore(&whole, &[]);
    assert_equal_trees(&without_root(extract_with_gnu_tar(&archive, &at.join("tar"))), &ours);
    assert!(ours.contains_key(b"p1/grub/grub.cfg".as_slice()) && ours.contains_key(b"p2/var/log/other".as_slice()));
    let part = restore(&at.join("part"), &["--path", "p2/var"]);
    for (path, attributes) in &ours {
        let wanted = path.starts_with(b"p2/var");
        assert!(part.get(path) == wanted.then_some(attributes) || !wanted, "{}", tree::shown(path));
    }
    assert!(!part.contains_key(b"p2/etc".as_slice()) && !part.contains_key(b"p1".as_slice()));
}

#[test]
fn without_root_all_comes_back_that_may() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    sh(&format!(
        "cd {}; mkdir -p tree/etc; cd tree; echo web-01 >etc/hostname; ln etc/hostname etc/other; ln -s etc link
         mkfifo fifo; mknod null c 1 3; truncate -s 1M sparse; echo x >>sparse; echo s >suid; chown 65534 suid
         chmod 4755 suid; chmod 640 etc/hostname; setfattr -n user.note -v kept etc/hostname
         setfattr -n trusted.note -v root etc/hostname; chown -h 1234:1234 link; touch -d 2001-02-03 etc",
        quoted(at)
    ));
    let good = back_up(&at.join("tree"), &at.join("backup"));
    let files = copy(&good, &at.join("readable"));
    for file in four(&files) {
        sh(&format!("chmod 644 {}", quoted(&file)));
    }
    // Neither cargo's directories nor a temporary one are everybody's.
    sh(&format!(
        "cd {}; chmod 755 . readable; cp {} volbak; mkdir to; chown 65534:65534 to",
        quoted(at),
        quoted(Path::new(env!("CARGO_BIN_EXE_volbak")))
    ));
    let output = sh_output(&format!(
        "cd {}; exec setpriv --reuid 65534 --regid 65534 --clear-groups ./volbak restore {} --to to --top --devices",
        quoted(at),
        quoted(&files.archive_path())
    ));
    let said = guest::both_outputs(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for expected in ["owner", "null: is a device, which only root can make", "`trusted.*`", "1 left out, 0 failed"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let mut expected = fingerprint(&at.join("tree"));
    expected.remove(b"null".as_slice());
    let mut found = fingerprint(&at.join("to"));
    assert!(found.values().all(|attributes| attributes.uid == 65534 && attributes.gid == 65534));
    assert!(found[b"etc/hostname".as_slice()].xattrs.contains_key(b"user.note".as_slice()));
    for attributes in expected.values_mut().chain(found.values_mut()) {
        (attributes.uid, attributes.gid) = (65534, 65534);
        attributes.xattrs.clear();
        // A set-id bit for another owner or group would be one that it never had.
        attributes.mode &= 0o777;
    }
    assert_equal_trees(&expected, &found);
}

/// An archive of this many small entries, in directories of a thousand.
fn make_large_archive(files: &Backup, entries: u64) {
    fs::create_dir_all(files.directory()).unwrap();
    let outputs = Outputs {
        archive: Box::new(File::create(files.archive_path()).unwrap()),
        index: Box::new(File::create(files.index_path()).unwrap()),
        segments: None,
    };
    let told = Told::default();
    let options = WriteOptions::new(CompressionLevel::Fixed(1), 2);
    let mut writer = ArchiveWriter::new(outputs, &options, &told).unwrap();
    writer.start_filesystem(None, None).unwrap();
    for number in 0..entries {
        let is_directory = number.is_multiple_of(1000);
        let directory = format!("directory-with-a-long-name-{}", number / 1000);
        let path = if is_directory { directory } else { format!("{directory}/entry-{number}") };
        let kind = if is_directory { EntryKind::Directory } else { EntryKind::Symlink(b"target".to_vec()) };
        let mtime = Timestamp { sec: 1_000_000_000, nsec: 5 };
        let mode = if is_directory { 0o755 } else { 0o777 };
        let metadata = Metadata { mode, ino: number + 1, nlink: 1, mtime, ..Metadata::default() };
        writer.append(Entry { path: path.into(), kind, metadata, xattrs: Vec::new() }).unwrap();
    }
    writer.finish().unwrap();
}

/// The most memory that the program takes with these arguments, in KiB.
fn peak_kib(arguments: &[&str]) -> u64 {
    const SCRIPT: &str = "import resource, subprocess, sys; status = subprocess.run(sys.argv[1:]).returncode
# 3: the archive that is made here has no manifest.
assert status in (0, 3), status
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut python = Command::new("python3");
    let output = python.args(["-c", SCRIPT, env!("CARGO_BIN_EXE_volbak")]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", guest::both_outputs(&output));
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().parse().unwrap()
}

#[test]
fn more_entries_cost_no_more_memory() {
    // Restored to memory, which is not the program's own.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    // Both have more members than there are buffers.
    let peaks = [12_000, 42_000].map(|entries| {
        let directory = scratch.path().join(entries.to_string());
        let files = Backup::in_directory(directory.clone(), "vol_20_11_2026".to_owned());
        make_large_archive(&files, entries);
        let (archive, to) = (files.archive_path(), directory.join("to"));
        let (archive, to) = (archive.to_str().unwrap(), to.to_str().unwrap());
        let threads = ["--threads", "2"];
        let peaks = [
            peak_kib(&[&["-q", "verify", "--no-record", archive][..], &threads].concat()),
            peak_kib(&[&["-q", "restore", archive, "--to", to][..], &threads].concat()),
        ];
        let last = directory.join(format!("to/directory-with-a-long-name-{}", entries / 1000 - 1));
        assert_eq!(fs::read_dir(last).unwrap().count(), 999);
        peaks
    });
    println!("KiB for verify and restore, few entries and many: {peaks:?}");
    for (few, many) in peaks[0].into_iter().zip(peaks[1]) {
        assert!(many <= few + 3 * 1024, "{peaks:?}");
        assert!(many <= MEMORY_KIB + 2 * MEMORY_A_THREAD_KIB, "{peaks:?}");
    }
}

#[test]
fn problems_that_are_not_shown_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.tar.gz");
    let make = "import tarfile, sys
with tarfile.open(sys.argv[1], 'w:gz', format=tarfile.PAX_FORMAT) as archive:
    for number in range(70):
        entry = tarfile.TarInfo('f%03d' % number)
        entry.pax_headers = {'SCHILY.fflags': 'uchg,nodump'}
        archive.addfile(entry)";
    sh(&format!("python3 -c {} {}", quoted(Path::new(make)), quoted(&archive)));
    let out = dir.path().join("out");
    let said = run_expecting(3, &["restore", archive.to_str().unwrap(), "--to", out.to_str().unwrap()]);
    assert_eq!(said.matches("file flags uchg are not known").count(), 50, "{said}");
    assert!(said.contains("and 20 more problems"), "{said}");
    assert!(out.join("f069").exists());
}
