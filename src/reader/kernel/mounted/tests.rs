use std::fs::{self, File};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::{MIN_BTRFS_DIRECTORIES, MountSource, Mounted, kernel_knows, max_directories_in};
use crate::outside::Cancel;
use crate::units::ByteRange;

#[test]
fn a_btrfs_of_the_same_uuid_whose_mount_ends_is_waited_for() {
    const LEN: u64 = 128 << 20;
    if !rustix::process::geteuid().is_root() || !kernel_knows("btrfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
    File::create(&one).unwrap().set_len(LEN).unwrap();
    assert!(Command::new("mkfs.btrfs").arg("-q").arg(&one).status().unwrap().success());
    fs::copy(&one, &other).unwrap();
    let open = |path: &std::path::Path| {
        let backing = File::options().read(true).open(path).unwrap();
        let range = ByteRange::new(0, LEN);
        let scratch = dir.path();
        let source =
            MountSource { backing: &backing, range, fs: "btrfs", writable: false, with_snapshots: true, scratch };
        Mounted::open(&source, &Cancel::default())
    };
    let first = open(&one).unwrap();
    // While it stays, the kernel mounts no other; it ends while the second mount waits.
    let ends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(first);
    });
    let second = open(&other);
    ends.join().unwrap();
    second.unwrap();
}

#[test]
fn directories_are_bounded_by_used_space() {
    assert_eq!(max_directories_in("vfat", 10 * 4096, 4096), Some(11));
    assert_eq!(max_directories_in("vfat", 0, 4096), Some(1));
    assert_eq!(max_directories_in("vfat", 4096, 0), None);
    assert_eq!(max_directories_in("btrfs", 1 << 20, 4096), Some(MIN_BTRFS_DIRECTORIES));
    assert_eq!(max_directories_in("btrfs", 160 << 30, 4096), Some(1 << 30));
    assert_eq!(max_directories_in("ext4", 1 << 20, 4096), None);
}
