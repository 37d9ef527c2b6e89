//! The runbook's commands with real LVM: its blocks with `<!-- tested in the lab -->` before them.

use std::path::Path;

use crate::testkit::examples::{run, runbook};
use crate::testkit::guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, thick_volume};
use crate::testkit::guest::{quoted, sh};

const VOLUME: &str = "volume-0000001a";

#[test]
fn volumes_with_lvm_inside_are_brought_back_as_the_runbook_says() {
    if !in_lab("runbook::volumes_with_lvm_inside_are_brought_back_as_the_runbook_says") {
        return;
    }
    set_up();
    let (volume, new) = (thick_volume(VOLUME, "300M"), thick_volume("new", "300M"));
    // The guest is played by a config of LVM that sees loop devices alone, where the host's sees everything but those.
    let guest = "/run/guest-lvm";
    let disks = sh(&format!(
        r#"mkdir -p {guest}
        sed 's/devices {{/devices {{ global_filter=["a|^\/dev\/loop|","r|.*|"] /' $LVM_SYSTEM_DIR/lvm.conf >{guest}/lvm.conf
        sed -i 's/devices {{/devices {{ global_filter=["r|^\/dev\/loop|"] /' $LVM_SYSTEM_DIR/lvm.conf
        export LVM_SYSTEM_DIR={guest}
        disk=$(losetup -f --show {})
        pvcreate -q $disk >&2; vgcreate -q vg_web_logs $disk >&2
        lvcreate -q -y -n lv01_web_logs -L 248M vg_web_logs >&2
        mkfs.ext4 -q -L weblogs /dev/vg_web_logs/lv01_web_logs
        mkdir -p {SCRATCH}/mnt/logs {SCRATCH}/mnt/new
        mount /dev/vg_web_logs/lv01_web_logs {SCRATCH}/mnt/logs
        echo GET / >{SCRATCH}/mnt/logs/access.log; mkfifo {SCRATCH}/mnt/logs/pipe
        umount {SCRATCH}/mnt/logs; vgchange -q -an vg_web_logs >&2; losetup -d $disk"#,
        quoted(&volume)
    ));
    assert_eq!(disks, "");
    let volbak = env!("CARGO_BIN_EXE_volbak");
    sh(&format!("{volbak} -q snapshot {GROUP}/{VOLUME} --to {}", quoted(&dest())));
    let disk = sh(&format!("losetup -f --show {}; losetup -f --show {}", quoted(&volume), quoted(&new)));
    let new_disk = disk.lines().nth(1).unwrap().to_owned();
    let mnt = format!("{SCRATCH}/mnt");
    let dest = dest();
    let places = [("/BACKUPS/EBS-VOL", dest.to_str().unwrap()), ("/mnt", &mnt), ("NEW_DISK", &new_disk)];
    let mut examples = runbook("<!-- tested in the lab -->", &places);
    for example in &mut examples {
        example.command = format!("export LVM_SYSTEM_DIR={guest}; {}", example.command);
    }
    run(&examples, Path::new(SCRATCH));
}
