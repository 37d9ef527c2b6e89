//! Promise: a disk with sectors that cannot be read or written makes no image that looks complete, and what can be read of it is
//! kept; each message says where it fails and what to do next. The sectors are those of device-mapper's `error` target.

use std::fs;
use std::path::Path;

use crate::testkit::guest::backups::run_expecting;
use crate::testkit::guest::lab::{SCRATCH, in_lab};
use crate::testkit::guest::sh;
use crate::testkit::tree::noise;

const LEN: usize = 8 << 20;
const DISK: &str = "/dev/mapper/disk";
const BLOCK: usize = 4096;

/// Makes the disk on /dev/ubda anew, with one bad block of 4 KiB at this byte.
fn bad_at(byte: usize) {
    let (start, end, all) = (byte / 512, byte / 512 + 8, LEN / 512);
    sh(&format!(
        "[ ! -e {DISK} ] || dmsetup remove disk
         {{ [ {start} = 0 ] || echo 0 {start} linear /dev/ubda 0
         echo {start} 8 error
         [ {end} = {all} ] || echo {end} $(({all} - {end})) linear /dev/ubda {end}; }} | dmsetup create disk
         dmsetup mknodes disk"
    ));
}

fn names(directory: &str) -> String {
    sh(&format!("ls -A {directory}"))
}

/// The image with zeros in place of a block.
fn without(was: &[u8], byte: usize) -> Vec<u8> {
    let mut disk = was.to_vec();
    disk[byte..byte + BLOCK].fill(0);
    disk
}

#[test]
fn bad_sectors_of_a_source_and_of_a_target_are_told() {
    if !in_lab("bad_sectors::bad_sectors_of_a_source_and_of_a_target_are_told") {
        return;
    }
    sh(&format!("mkdir -p {SCRATCH}; mount -t tmpfs tmpfs {SCRATCH}; mkdir {SCRATCH}/b {SCRATCH}/out"));
    let of = |name: &str| format!("{SCRATCH}/{name}");
    let (to, out, good) = (of("b"), of("out"), of("good"));
    let was = noise(1, LEN);
    fs::write("/dev/ubda", &was).unwrap();
    fs::write(&good, &was).unwrap();

    // The first block, where a partition table is, and one inside.
    for byte in [0, 5 * BLOCK + (3 << 20)] {
        bad_at(byte);
        let said = run_expecting(1, &["-q", "export", DISK, "--to", &of("out/a.qcow2")]);
        assert!(said.contains(&format!("cannot be read at byte {byte}: Input/output error")), "{said}");
        assert!(said.contains("volbak snapshot --image"), "{said}");
        let left = names(&out);
        assert!(left.lines().all(|name| name.starts_with(".volbak-tmp.")), "{left}");
        sh(&format!("rm -f {out}/.volbak-tmp.*"));

        let name = format!("at-{byte}");
        let said = run_expecting(3, &["-q", "snapshot", DISK, "--image", "--name", &name, "--to", &to]);
        let lost = format!("4096 bytes in 1 place could not be read and are zeros in the archive (bytes {byte} to");
        assert!(said.contains(&lost), "{said}");
        // What is in it says so wherever it goes, and all else is there.
        let image = of("restored");
        let said = run_expecting(3, &["-q", "restore", &name, "--from", &to, "--to-image", &image]);
        assert!(said.contains("the backup is partial") && said.contains("Input/output error"), "{said}");
        assert!(fs::read(&image).unwrap() == without(&was, byte), "{byte}");
        fs::remove_file(&image).unwrap();
    }

    // A target: not the first MiB or the last one, which are looked at before.
    let byte = 3 << 20;
    bad_at(byte);
    run_expecting(0, &["-q", "snapshot", &good, "--image", "--to", &to]);
    for verb in [&["import", &good][..], &["restore", "good", "--from", &to]] {
        let said = run_expecting(1, &[&["-q"], verb, &["--to-device", DISK, "--yes-erase=disk"]].concat());
        assert!(said.contains("there is no usable disk on it") && said.contains("`dmesg` says"), "{said}");
        let first = sh(&format!("head -c {} {DISK} | tr -d '\\0' | wc -c", 1 << 20));
        assert_eq!(first.trim(), "0", "{verb:?}");
    }
    bad_at(0);
    let said = run_expecting(1, &["-q", "import", &good, "--to-device", DISK, "--yes-erase=disk"]);
    assert!(said.contains("it is no target for a disk; choose another device"), "{said}");

    // A filesystem that is full: before anything is written, and when others fill it meanwhile.
    let full = of("full");
    sh(&format!("mkdir {full}; mount -t tmpfs -o size=6m tmpfs {full}"));
    let target = format!("{full}/a.img");
    for verb in [&["import", &good][..], &["restore", "good", "--from", &to]] {
        let said = run_expecting(1, &[&["-q"], verb, &["--to-image", &target]].concat());
        assert!(said.contains(" left, and about"), "{said}");
        assert_eq!(names(&full), "");
    }
    assert!(!Path::new(&target).exists());
    sh("dmsetup remove disk");
}
