//! Promise: volumes of two groups on one disk are not read at once, whatever `jobs` is, and a group on another disk does not wait
//! for them.

use std::fs;
use std::path::Path;

use crate::testkit::guest::backups::{archives, volbak};
use crate::testkit::guest::lab::{SCRATCH, dest, in_lab};
use crate::testkit::guest::{both_outputs, sh};

const CONFIG: &str = "/run/t/volbak.toml";

#[test]
fn groups_on_one_disk_have_one_reader() {
    if !in_lab("jobs::groups_on_one_disk_have_one_reader") {
        return;
    }
    // The groups a and b are partitions of one disk, the second volume of a in a thin pool; c has a disk of its own.
    sh(&format!(
        "printf 'label: dos\\nsize=1G\\nsize=1G\\n' | sfdisk -q --no-tell-kernel /dev/ubda; partx -u /dev/ubda
         mkfs.ext4 -q /dev/ubdb; mkdir -p {SCRATCH}; mount /dev/ubdb {SCRATCH}; mkdir {SCRATCH}/backups
         truncate -s 256M {SCRATCH}/c.img; third=$(losetup -f --show {SCRATCH}/c.img)
         vgcreate -q a /dev/ubda1; vgcreate -q b /dev/ubda2; vgcreate -q c $third
         lvcreate -q -y --type thin-pool -n pool -L 256M a; lvcreate -q -y -n volume-a -V 24M --thinpool pool a
         for group in b c; do lvcreate -q -y -n volume-$group -L 24M $group; done
         for group in a b c; do mkfs.ext4 -q /dev/$group/volume-$group; done"
    ));
    let backups = dest();
    let backups = backups.display();
    // volume-a has its snapshot, and is not read before volume-c begins. volume-b fails if volume-a is not done.
    let wait =
        "for i in $(seq 600); do [ ! -e HERE ] || exit 0; sleep 0.2; done; exit 1".replace("HERE", "/run/t/c-begins");
    let config = format!(
        "backup_destination = '{backups}'\nrequire_mount = false\nvolume_groups = ['a', 'b', 'c']\njobs = 3\n\
         [volume.volume-a]\nafter_snapshot = ['/bin/sh', '-c', '{wait}']\n\
         [volume.volume-b]\nbefore_snapshot = ['/bin/sh', '-c', 'ls {backups}/volume-a/*.manifest.json']\n\
         [volume.volume-c]\nbefore_snapshot = ['/bin/touch', '/run/t/c-begins']\n"
    );
    fs::write(CONFIG, config).unwrap();
    let output = volbak(&["run", "--config", CONFIG]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", both_outputs(&output));
    assert_eq!(archives(&dest()).len(), 3);
    assert!(Path::new("/run/t/c-begins").exists());
    // Who asks for more readers has them: volume-b begins while volume-a waits for volume-c.
    sh(&format!(
        "rm -r {SCRATCH}/backups/* {SCRATCH}/c-begins; echo 'jobs_per_group = 2' | cat - {CONFIG} >{CONFIG}.2"
    ));
    let output = volbak(&["run", "--config", &format!("{CONFIG}.2")]).output().unwrap();
    let said = both_outputs(&output);
    assert!(output.status.code() == Some(1) && said.contains("volume-b: FAILED: before the snapshot"), "{said}");
}
