//! Image backups of disks as guests have them: NTFS and an old ext4 in an MBR, made by their own tools; filesystems that only
//! the kernel reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::backup::{Place, gunzip};
use crate::disks::{Noise, run};

const MIB: usize = 1 << 20;
/// Where the NTFS is, and how long it is.
const NTFS: std::ops::Range<usize> = MIB..33 * MIB;
/// Where the ext4 in the logical partition is.
const EXT: std::ops::Range<usize> = 66 * MIB..82 * MIB;
const CLUSTER: usize = 4096;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn shell(directory: &Path, script: &str) {
    let made = Command::new("bash")
        .args(["-ec", script])
        .current_dir(directory)
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// An MBR disk of noise: NTFS with files and the clusters of a deleted one, and ext4 in a logical partition.
fn windows_like(place: &Place) -> PathBuf {
    let disk = place.path("disk.img");
    fs::write(&disk, Noise::new(21).bytes(96 * MIB)).unwrap();
    fs::write(place.path("content"), Noise::new(22).bytes(3 * MIB + 77)).unwrap();
    fs::write(place.path("gone"), Noise::new(23).bytes(2 * MIB)).unwrap();
    fs::create_dir(place.path("tree")).unwrap();
    fs::write(place.path("tree/hosts"), "127.0.0.1 localhost\n").unwrap();
    shell(
        disk.parent().unwrap(),
        "dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none
        printf 'label: dos\\nstart=2048,size=32M,type=7,bootable\\nstart=64M,type=5\\nstart=66M,size=16M,type=83\\n' |
            sed 's/64M/131072/; s/66M/135168/' | sfdisk -q --no-reread --no-tell-kernel disk.img
        dd if=disk.img of=ntfs.img bs=1M skip=1 count=32 status=none
        mkntfs -F -Q -q -p 2048 -H 255 -S 63 ntfs.img
        ntfscp -q -f ntfs.img content /kept; ntfscp -q -f ntfs.img gone /gone
        ntfscp -q -f ntfs.img content /second
        dd if=ntfs.img of=disk.img bs=1M seek=1 conv=notrunc status=none
        mke2fs -q -F -t ext4 -d tree -E nodiscard,offset=$((66<<20)) disk.img 16M",
    );
    disk
}

/// Which clusters of an NTFS are allocated, by what ntfs-3g reads of `$Bitmap`.
fn allocated(ntfs: &Path) -> Vec<usize> {
    let output = Command::new("ntfscat").args(["-f", "-i", "6", text(ntfs)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let is_set = |cluster: &usize| output.stdout[cluster / 8] & (1 << (cluster % 8)) != 0;
    let clusters: Vec<usize> = (0..NTFS.len() / CLUSTER).filter(is_set).collect();
    assert!(clusters.len() * CLUSTER > 8 * MIB && clusters.len() * CLUSTER < 16 * MIB, "{}", clusters.len());
    clusters
}

/// Fails unless `back` has the table, every allocated cluster and the other filesystem of `disk`, and nothing that is free.
fn is_the_same_guest(place: &Place, disk: &[u8], back: &[u8], what: &str) {
    assert_eq!(disk.len(), back.len(), "{what}");
    assert!(disk[..MIB] == back[..MIB], "{what}: the table and what lies before the first partition");
    assert!(disk[33 * MIB..64 * MIB] == back[33 * MIB..64 * MIB], "{what}: what lies between partitions");
    let (was, now) = (&disk[NTFS], &back[NTFS]);
    let allocated = allocated(&place.path("ntfs.img"));
    let mut next = allocated.iter().copied().peekable();
    let mut free = 0;
    for cluster in 0..was.len() / CLUSTER {
        let of = |bytes: &'_ [u8]| bytes[cluster * CLUSTER..(cluster + 1) * CLUSTER].to_vec();
        if next.next_if_eq(&cluster).is_some() {
            assert!(of(was) == of(now), "{what}: cluster {cluster} is allocated, and differs");
        } else if of(now).iter().all(|byte| *byte == 0) {
            free += 1;
        }
    }
    assert!(free * CLUSTER > 12 * MIB, "{what}: {free} clusters are free, and no more than that are zeros");
    // The boot sector's copy, in the last sector.
    assert!(was[was.len() - 512..] == now[now.len() - 512..], "{what}");
    for (name, range) in [("ntfs.back", NTFS), ("ext.back", EXT)] {
        fs::write(place.path(name), &back[range]).unwrap();
    }
    run("ntfsfix", &["-n", text(&place.path("ntfs.back"))]);
    for (name, content) in [("kept", "content"), ("second", "content"), ("gone", "gone")] {
        let output = Command::new("ntfscat").args(["-f", text(&place.path("ntfs.back")), name]).output().unwrap();
        assert!(output.stdout == fs::read(place.path(content)).unwrap(), "{what}: {name}");
    }
    run("/sbin/e2fsck", &["-fn", text(&place.path("ext.back"))]);
}

#[test]
fn every_allocated_cluster_of_a_windows_guest_comes_back() {
    let place = Place::new();
    let disk = windows_like(&place);
    let was = fs::read(&disk).unwrap();
    let archive = place.back_up(&disk, &[]);
    assert!(fs::read(&disk).unwrap() == was, "the source is not written to");
    // As by hand, with gunzip and dd.
    let (by_hand, by_volbak) = (place.path("by-hand.img"), place.path("by-volbak.img"));
    shell(disk.parent().unwrap(), &format!("gunzip -c {} | dd of=by-hand.img bs=1M status=none", text(&archive)));
    is_the_same_guest(&place, &was, &fs::read(&by_hand).unwrap(), "gunzip and dd");
    place.well(&["restore", "disk", "--to-image", text(&by_volbak)]);
    assert!(fs::read(&by_hand).unwrap() == fs::read(&by_volbak).unwrap());
    // One region alone: the NTFS, as it is in the whole.
    let region = place.path("p1.img");
    place.well(&["restore", "disk", "--region", "p1", "--to-image", text(&region)]);
    assert!(fs::read(&region).unwrap() == fs::read(&by_hand).unwrap()[NTFS]);
    let said = place.well(&["verify", "disk", "--restore-test"]);
    assert!(said.contains("good, an image"), "{said}");

    // Its files, as far as they can be read here: those of the ext4.
    let said = place.well(&["browse", "disk", "-r"]);
    assert!(said.contains("hosts") && !said.contains("kept"), "{said}");
    let printed = place.volbak(&["cat", "disk:hosts"]);
    assert_eq!(printed.stdout, b"127.0.0.1 localhost\n", "{}", String::from_utf8_lossy(&printed.stderr));
    let to = place.path("out");
    place.well(&["restore", "disk", "--to", text(&to), "--path", "hosts"]);
    assert!(fs::read(to.join("hosts")).unwrap() == b"127.0.0.1 localhost\n");
    // Files of the NTFS are not read, and this is said.
    let refused = place.volbak(&["restore", "disk", "--to", text(&place.path("no")), "--region", "p1"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("--to-device"), "{said}");

    // The next night carries all that is equal, and what changed is what it is then.
    let changed = place.path("changed");
    fs::write(&changed, Noise::new(24).bytes(MIB)).unwrap();
    shell(
        disk.parent().unwrap(),
        "ntfscp -q -f ntfs.img changed /third; dd if=ntfs.img of=disk.img bs=1M seek=1 conv=notrunc status=none",
    );
    let now = fs::read(&disk).unwrap();
    let second = place.back_up(&disk, &[]);
    is_the_same_guest(&place, &now, &gunzip(&second), "the second night");
    let output = Command::new("ntfscat").args(["-f", text(&place.path("ntfs.back")), "third"]).output().unwrap();
    assert!(output.stdout == fs::read(&changed).unwrap());
}

/// An archive whose digests all agree, and that gunzip cannot read: between the compressed data and the trailer of a member are
/// bytes that libdeflate, which volbak reads with, passes over. The restore test compares with another library, and finds it.
#[test]
fn the_restore_test_of_an_image_has_a_second_opinion() {
    let place = Place::new();
    let disk = place.path("disk.img");
    fs::write(&disk, "to be or not to be\n".repeat(3 * MIB / 19)).unwrap();
    let archive = place.back_up(&disk, &["--full"]);
    let said = place.well(&["verify", text(&archive), "--second-opinion"]);
    assert!(said.contains("part of --restore-test"), "{said}");
    place.well(&["verify", text(&archive), "--restore-test"]);
    crate::restored::forge_more_in_last_member(&archive, b"more");
    assert!(!Command::new("gunzip").arg("-t").arg(&archive).output().unwrap().status.success());
    for more in [&[][..], &["--restore-test"]] {
        let output = place.volbak(&[&["verify", text(&archive)][..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(1) && said.contains("other bytes behind its compressed data"), "{said}");
    }
    assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0);
}

#[test]
fn files_that_only_the_kernel_reads_come_out_of_an_image() {
    let place = Place::new();
    let tree = place.path("tree");
    fs::create_dir_all(tree.join("etc/deep")).unwrap();
    fs::write(tree.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(tree.join("etc/deep/big"), Noise::new(1).bytes(3 * MIB)).unwrap();
    for (name, size, make) in [("btrfs", "160M", "mkfs.btrfs -q -r tree"), ("xfs", "320M", "mkfs.xfs -q -f -p proto")] {
        let (disk, big) = (place.path(&format!("{name}.img")), place.path("tree/etc/deep/big"));
        fs::write(
            place.path("proto"),
            format!(
                "/\n0 0\nd--755 0 0\netc d--755 0 0\nhosts ---644 0 0 {}\ndeep d--755 0 0\nbig ---644 0 0 {}\n$\n$\n$\n",
                text(&place.path("tree/etc/hosts")),
                text(&big)
            ),
        )
        .unwrap();
        shell(disk.parent().unwrap(), &format!("truncate -s {size} {name}.img && {make} {name}.img"));
        place.back_up(&disk, &[]);
        let said = place.well(&["browse", name, "-r"]);
        assert!(said.contains(" etc/deep/big") && said.contains(" etc/hosts"), "{name}: {said}");
        let printed = place.volbak(&["cat", &format!("{name}:etc/deep/big")]);
        assert!(printed.stdout == fs::read(&big).unwrap(), "{name}: {}", String::from_utf8_lossy(&printed.stderr));
        let to = place.path(&format!("{name}.out"));
        place.well(&["restore", name, "--to", text(&to), "--path", "etc/deep"]);
        assert!(
            fs::read(to.join("etc/deep/big")).unwrap() == fs::read(&big).unwrap() && !to.join("etc/hosts").exists()
        );
        assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0, "{name}");
    }
}
