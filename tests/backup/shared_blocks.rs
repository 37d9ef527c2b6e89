//! Nights onto filesystems that can have blocks in common between files (reflink), and onto one that cannot.
//!
//! Promises: what is carried forward takes no room of its own where the destination can do that, and the backups are
//! as whole, and as independent of each other, as anywhere else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::testkit::guest::backups::{
    assert_all_good, files_of, manifest, problems, run_expecting, snapshot, snapshot_expecting,
};
use crate::testkit::guest::{Mounted, extract_with_gnu_tar, make_image, quoted, sh};
use crate::testkit::tree::{Filesystem, assert_equal_trees, fingerprint, noise};

/// What is in use of a filesystem, in bytes.
fn used_bytes(point: &Path) -> u64 {
    sh(&format!("sync -f {0}; df --output=used -B1 {0} | tail -n 1", quoted(point))).trim().parse().unwrap()
}

/// Three nights with these options onto a filesystem made by this command; gives the archives' lengths, and what each backup took of the
/// destination's room.
fn nights_onto(mkfs: &str, options: &[&str]) -> Vec<(u64, u64)> {
    let scratch = tempfile::tempdir().unwrap();
    let (image, point) = (scratch.path().join("guest.img"), scratch.path().join("guest"));
    make_image(&image, "200M", Filesystem::Ext4);
    let guest = Mounted::partition(&image, &point);
    for number in 0..4 {
        fs::write(point.join(format!("large-{number}")), noise(number, 10 << 20)).unwrap();
        for small in 0..100 {
            fs::write(point.join(format!("small-{number}-{small}")), noise(small, 9000)).unwrap();
        }
    }
    guest.unmount();
    // What is so much older than the youngest is carried.
    sleep(Duration::from_millis(2100));
    let disk = scratch.path().join("destination.img");
    sh(&format!("truncate -s 600M {0}; {mkfs} {0}", quoted(&disk)));
    let dest = Mounted::with_options(&disk, &scratch.path().join("destination"), "loop");

    let (mut backups, mut taken) = (Vec::new(), Vec::new());
    for night in 0..3 {
        let guest = Mounted::partition(&image, &point);
        fs::write(point.join("changing"), noise(night, 1000 + 777 * usize::try_from(night).unwrap())).unwrap();
        fs::write(point.join("small-2-50"), noise(night, 8000)).unwrap();
        guest.unmount();
        let before = used_bytes(&dest.point);
        // Also when a day ends meanwhile.
        let archive = snapshot(&image, &dest.point, &[&["--full-read-every-days", "0"], options].concat());
        taken.push((fs::metadata(&archive).unwrap().len(), used_bytes(&dest.point).saturating_sub(before)));
        if night > 0 {
            let carried = &manifest(&archive)["carried"];
            assert!(carried["bytes"].as_u64().unwrap() > 40 << 20, "{carried}");
        }
        backups.push(archive);
    }
    // None needs another: what is left is read from the disk, without the others.
    for archive in &backups[..2] {
        for file in files_of(archive) {
            fs::remove_file(file).unwrap();
        }
    }
    sh(&format!("umount {0}; mount -o loop {1} {0}", quoted(&dest.point), quoted(&disk)));
    assert_all_good(&dest.point);
    let last = &backups[2];
    run_expecting(0, &["verify", last.to_str().unwrap()]);
    let _guest = Mounted::partition(&image, &point);
    let mut trees = [fingerprint(&point), extract_with_gnu_tar(last, &scratch.path().join("restored"))];
    for tree in &mut trees {
        tree.retain(|path, _| !path.starts_with(b"lost+found"));
    }
    assert_equal_trees(&trees[0], &trees[1]);
    println!("each archive's length, and what its backup took: {taken:?}");
    taken
}

/// A block that goes bad on the disk is seen although the kernel still has the good one in memory: the disk's is what would
/// be shared.
#[test]
fn a_block_that_went_bad_is_not_shared() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, point) = (scratch.path().join("guest.img"), scratch.path().join("guest"));
    make_image(&image, "100M", Filesystem::Ext4);
    let guest = Mounted::partition(&image, &point);
    fs::write(point.join("large"), noise(7, 6 << 20)).unwrap();
    sleep(Duration::from_millis(2100));
    fs::write(point.join("youngest"), "").unwrap();
    guest.unmount();
    let disk = scratch.path().join("destination.img");
    sh(&format!("truncate -s 400M {0}; mkfs.xfs -q -m reflink=1 {0}", quoted(&disk)));
    let dest = Mounted::with_options(&disk, &scratch.path().join("destination"), "loop");
    let first = snapshot(&image, &dest.point, &[]);

    sh(&format!("sync -f {}", quoted(&dest.point)));
    // Whole again in memory. The block is in two members that are read one after the other, and lies in one shared range:
    // a page that is only partly in a range is not dropped with it.
    let bytes = fs::read(&first).unwrap();
    let marker = &bytes[3 << 20..][..64];
    let blocks = fs::read(&disk).unwrap();
    let at = blocks.windows(64).position(|window| window == marker).unwrap();
    let disk_file = File::options().write(true).open(&disk).unwrap();
    disk_file.write_all_at(&[blocks[at] ^ 1], at as u64).unwrap();
    disk_file.sync_all().unwrap();
    assert!(fs::read(&first).unwrap() == bytes, "this test needs the good pages in memory");

    let second = snapshot_expecting(3, &image, &dest.point, &["--full-read-every-days", "0"]);
    let told = problems(&second);
    assert!(told.iter().any(|what| what.contains("is damaged")), "{told:?}");
    sh(&format!("umount {0}; mount -o loop {1} {0}", quoted(&dest.point), quoted(&disk)));
    run_expecting(0, &["verify", second.to_str().unwrap()]);
}

fn assert_shared(taken: &[(u64, u64)]) {
    assert!(taken[0].1 >= taken[0].0, "{taken:?}");
    assert!(taken[1..].iter().all(|(len, taken)| taken < &(len / 10)), "{taken:?}");
}

#[test]
fn an_xfs_has_what_was_carried_once() {
    assert_shared(&nights_onto("mkfs.xfs -q -m reflink=1", &[]));
}

#[test]
fn a_btrfs_has_what_was_carried_once() {
    assert_shared(&nights_onto("mkfs.btrfs -q", &[]));
}

fn assert_copied(taken: &[(u64, u64)]) {
    assert!(taken.iter().all(|(len, taken)| taken >= len), "{taken:?}");
}

#[test]
fn an_xfs_that_cannot_share_gets_copies() {
    assert_copied(&nights_onto("mkfs.xfs -q -m reflink=0", &[]));
}

#[test]
fn who_wants_copies_gets_them() {
    assert_copied(&nights_onto("mkfs.xfs -q -m reflink=1", &["--no-shared-blocks"]));
}
