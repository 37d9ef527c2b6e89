//! Promise: a mounted backup has every entry with every attribute that the volume had, to several readers at once; a damaged
//! member is an error of the files in it and of no others; nothing stays mounted.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::testkit::guest::backups::{beside, leftovers, run_expecting, snapshot, volbak};
use crate::testkit::guest::{Mounted, make_image, quoted, sh, sh_output};
use crate::testkit::tree::{Filesystem, assert_equal_trees, fingerprint, make_hard_tree, make_many_entries, noise};
use crate::testkit::wait::wait_until;

/// A mount of backups by a process of its own.
struct Served {
    point: PathBuf,
    process: Child,
    log: PathBuf,
}

impl Served {
    fn new(scratch: &Path, arguments: &[&str]) -> Self {
        let point = scratch.join("served");
        let log = scratch.join("served.log");
        let _ = fs::create_dir(&point);
        let arguments = [&["mount"], arguments, &[point.to_str().unwrap()]].concat();
        let process = volbak(&arguments).stderr(File::create(&log).unwrap()).stdout(Stdio::null()).spawn().unwrap();
        let mut served = Self { point, process, log };
        wait_until("the mount is there", || {
            assert!(served.process.try_wait().unwrap().is_none(), "{}", served.said());
            served.said().contains("mounted on")
        });
        served
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The root of the one backup of `volume`.
    fn backup(&self, volume: &str) -> PathBuf {
        let mut dates = fs::read_dir(self.point.join(volume)).unwrap();
        let date = dates.next().unwrap().unwrap().path();
        assert!(dates.next().is_none());
        date
    }

    /// Unmounts, and waits for the process to end well.
    fn unmount(mut self) -> String {
        sh(&format!("umount {}", quoted(&self.point)));
        assert!(self.process.wait().unwrap().success());
        self.said()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        sh_output(&format!("umount -l {}", quoted(&self.point)));
    }
}

#[test]
fn a_mounted_backup_has_what_the_volume_had() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = (scratch.path().join("vol.img"), scratch.path().join("dest"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "600M", Filesystem::Ext4);
    let point = scratch.path().join("guest");
    let guest = Mounted::partition(&image, &point);
    make_hard_tree(&point, Filesystem::Ext4);
    make_many_entries(&point.join("many"), 3000);
    fs::write(point.join("large"), noise(7, 20_000_000)).unwrap();
    let mut before = fingerprint(&point);
    // No archive has them.
    assert!(before.remove(b"lost+found".as_slice()).is_some() && before.remove(b"special/socket".as_slice()).is_some());
    guest.unmount();
    snapshot(&image, &dest, &[]);

    let served = Served::new(scratch.path(), &["--destination", dest.to_str().unwrap()]);
    let root = served.backup("vol");
    assert_equal_trees(&before, &fingerprint(&root));
    // Through a cache that is too small for all: 20 MB are read by each of eight readers.
    std::thread::scope(|scope| {
        for reader in 0..8_usize {
            let (root, before) = (&root, &before);
            scope.spawn(move || {
                let file = File::open(root.join("large")).unwrap();
                let wanted = noise(7, 20_000_000);
                for step in 0..40 {
                    let at = (reader * 7_919_111 + step * 3_333_337) % 19_900_000;
                    let mut piece = vec![0; 100_000];
                    file.read_exact_at(&mut piece, at as u64).unwrap();
                    assert!(piece == wanted[at..at + 100_000], "reader {reader}, offset {at}");
                }
                assert_equal_trees(before, &fingerprint(root));
            });
        }
    });
    // Read-only, without devices and set-id programs of the tenant.
    assert_eq!(
        fs::write(root.join("new"), "").unwrap_err().raw_os_error(),
        Some(rustix::io::Errno::ROFS.raw_os_error())
    );
    let options = sh(&format!("findmnt -no OPTIONS {}", quoted(&served.point)));
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.trim().split(',').any(|one| one == option), "{options}");
    }
    // A backup that is made now is there, too.
    snapshot(&image, &dest, &[]);
    let count = || fs::read_dir(served.point.join("vol")).unwrap().count();
    wait_until("the new backup is listed", || count() == 2);
    let said = served.unmount();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(leftovers(&dest), "");
}

#[test]
fn a_damaged_member_is_an_error_of_its_files_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = (scratch.path().join("vol.img"), scratch.path().join("dest"));
    fs::create_dir(&dest).unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..20_u64 {
        fs::write(tree.join(format!("f{number:02}")), noise(number, 300_000)).unwrap();
    }
    sh(&format!("mke2fs -q -t ext4 -d {} {} 64M >/dev/null 2>&1", quoted(&tree), quoted(&image)));
    let archive = snapshot(&image, &dest, &[]);
    // In the middle of the content of the archive's member that is half-way.
    let index = fs::read_to_string(beside(&archive, "index")).unwrap();
    let members: Vec<Vec<&str>> =
        index.lines().filter(|line| line.starts_with("M\t")).map(|line| line.split('\t').collect()).collect();
    let member = &members[members.len() / 2];
    let [offset, length] = [2, 3].map(|field| member[field].parse::<u64>().unwrap());
    let file = File::options().read(true).write(true).open(&archive).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset + length / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset + length / 2).unwrap();

    let served = Served::new(scratch.path(), &["vol", "--destination", dest.to_str().unwrap()]);
    let (mut read, mut refused) = (0, 0);
    for number in 0..20_u64 {
        let mut content = Vec::new();
        let opened = File::open(served.point.join(format!("f{number:02}")));
        match opened.and_then(|mut file| file.read_to_end(&mut content)) {
            Ok(_) => {
                assert!(content == noise(number, 300_000), "f{number:02}");
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
                refused += 1;
            }
        }
    }
    assert!(read >= 15 && refused >= 1, "{read} {refused}");
    let said = served.unmount();
    assert!(said.contains("is damaged: its digest is not the one in the index"), "{said}");
}

#[test]
fn an_image_is_served_as_the_volume() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = (scratch.path().join("vol.img"), scratch.path().join("dest"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "64M", Filesystem::Ext4);
    let point = scratch.path().join("guest");
    let guest = Mounted::partition(&image, &point);
    fs::write(point.join("file"), noise(1, 3_000_000)).unwrap();
    guest.unmount();
    run_expecting(0, &["snapshot", "--image", image.to_str().unwrap(), "--to", dest.to_str().unwrap()]);

    let served = Served::new(scratch.path(), &["--destination", dest.to_str().unwrap()]);
    let volume = served.backup("vol").join("vol.img");
    assert_eq!(fs::metadata(&volume).unwrap().len(), 64 << 20);
    // The loop device's kernel reads it as it reads any disk.
    let inside = Mounted::with_options(&volume, &point, "ro,noload,loop,offset=1048576");
    assert!(fs::read(point.join("file")).unwrap() == noise(1, 3_000_000));
    inside.unmount();
    // Holes stay holes.
    let copy = scratch.path().join("copy.img");
    sh(&format!("cp --sparse=auto {} {}", quoted(&volume), quoted(&copy)));
    assert!(fs::metadata(&copy).unwrap().blocks() * 512 < 32 << 20);
    served.unmount();
}

#[test]
fn a_new_backup_with_the_name_of_one_that_was_removed_is_served_as_what_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest, point) =
        (scratch.path().join("vol.img"), scratch.path().join("dest"), scratch.path().join("guest"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "32M", Filesystem::Ext4);
    let back_up = |data: &[u8]| {
        let guest = Mounted::partition(&image, &point);
        fs::write(point.join("file"), data).unwrap();
        guest.unmount();
        run_expecting(0, &["snapshot", image.to_str().unwrap(), "--to", dest.to_str().unwrap()]);
    };
    let (before, after) = (noise(1, 200_000), noise(2, 300_000));
    back_up(&before);
    let served = Served::new(scratch.path(), &["--destination", dest.to_str().unwrap()]);
    let root = served.backup("vol");
    assert!(fs::read(root.join("file")).unwrap() == before);
    let open = File::open(root.join("file")).unwrap();

    let name = format!("vol@{}", root.file_name().unwrap().to_str().unwrap());
    run_expecting(0, &["remove", "--from", dest.to_str().unwrap(), "--force", &name]);
    back_up(&after);
    wait_until("the new backup is served", || fs::read(root.join("file")).is_ok_and(|data| data == after));
    let mut read = vec![0; before.len()];
    open.read_exact_at(&mut read, 0).unwrap();
    assert!(read == before, "a file that is open stays the one that was opened");
    drop(open);
    served.unmount();
}

/// In the destination's own directory each volume is a directory, too.
#[test]
fn the_name_of_a_volume_is_its_backup_also_where_it_is_a_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest, point) = (scratch.path().join("vol.img"), scratch.path().join("dest"), scratch.path().join("on"));
    fs::create_dir(&dest).unwrap();
    fs::create_dir(&point).unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "").unwrap();
    sh(&format!("mke2fs -q -t ext4 -d {} {} 8M", quoted(&tree), quoted(&image)));
    snapshot(&image, &dest, &[]);
    let other = scratch.path().join("a@b.img");
    fs::copy(&image, &other).unwrap();
    snapshot(&other, &dest, &[]);
    for (what, has_backup) in [("vol", true), (".", false), ("../dest", false)] {
        let mut command = volbak(&["mount", what, point.to_str().unwrap()]);
        command.current_dir(&dest).env("VOLBAK_BACKUP_DESTINATION", &dest).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let is_mounted = || sh_output(&format!("mountpoint -q {}", quoted(&point))).status.success();
        wait_until("it is mounted", is_mounted);
        let mounted = Mounted { point: point.clone() };
        assert_eq!(point.join("file").exists(), has_backup, "{what}");
        assert_eq!(point.join("vol").exists(), !has_backup, "{what}");
        if !has_backup {
            let dates = sh(&format!("ls {}", quoted(&point.join("a@b"))));
            assert!(!dates.is_empty() && !dates.contains('@'), "{dates}");
        }
        mounted.unmount();
        assert!(process.wait().unwrap().success());
    }
}

#[test]
fn a_mount_ends_with_a_signal_and_says_what_is_in_its_way() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = (scratch.path().join("vol.img"), scratch.path().join("dest"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "32M", Filesystem::Ext4);
    snapshot(&image, &dest, &[]);
    let from = ["--destination", dest.to_str().unwrap()];
    for signal in ["INT", "TERM"] {
        let mut served = Served::new(scratch.path(), &from);
        let held = File::open(served.backup("vol")).unwrap();
        sh(&format!("kill -{signal} {}", served.process.id()));
        // In use: it vanishes from the tree, and ends with the last file.
        wait_until("it is unmounted", || {
            !sh_output(&format!("mountpoint -q {}", quoted(&served.point))).status.success()
        });
        assert!(served.process.try_wait().unwrap().is_none());
        drop(held);
        assert!(served.process.wait().unwrap().success(), "{}", served.said());
        assert!(served.said().contains("it is in use"), "{}", served.said());
    }
    let mut served = Served::new(scratch.path(), &from);
    served.process.kill().unwrap();
    served.process.wait().unwrap();
    let point = served.point.to_str().unwrap();
    let said = run_expecting(1, &["mount", from[0], from[1], point]);
    assert!(said.contains(&format!("`umount {point}` first")), "{said}");
    sh(&format!("umount {point}"));
    fs::write(served.point.join("mine"), "").unwrap();
    assert!(run_expecting(1, &["mount", from[0], from[1], point]).contains("is not an empty directory"));
    let missing = scratch.path().join("missing");
    assert!(
        run_expecting(1, &["mount", from[0], from[1], missing.to_str().unwrap()]).contains("missing cannot be used")
    );
    assert!(run_expecting(1, &["mount", "other", from[0], from[1], point]).contains("other"));
    // A listing of the destination would wait for the mount that makes it.
    let within = dest.join("mnt");
    fs::create_dir(&within).unwrap();
    let said = run_expecting(1, &["mount", from[0], from[1], within.to_str().unwrap()]);
    assert!(said.contains("is in the destination"), "{said}");
}
