//! The runbook's commands work, and print what it says: blocks with `<!-- tested -->` before them on an image, those with
//! `<!-- tested in the lab -->` where there is real LVM. The destination, `/mnt` and the dates stand for the test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod examples;
mod guest;
mod tree;

use std::fs;
use std::path::Path;

use examples::{Example, run, tested_examples};
use guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, thick_volume};
use guest::{quoted, sh};

const VOLUME: &str = "volume-0000001a";

/// The runbook's blocks with this mark, with places and dates put in.
fn runbook(mark: &str, places: &[(&str, &str)]) -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    // A block in a list is set in as the list is.
    let text: String = fs::read_to_string(path).unwrap().lines().map(|line| unindented(line) + "\n").collect();
    let today = chrono::Local::now();
    let dates = [("20_11_2026", today.format("%d_%m_%Y").to_string()), ("2026-11-20", today.format("%F").to_string())];
    let put_in = |text: &str| {
        let text = dates.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        places.iter().fold(text, |text, (from, to)| text.replace(from, to))
    };
    let examples: Vec<Example> = tested_examples(&text, mark)
        .into_iter()
        .map(|example| Example {
            command: put_in(&example.command),
            output: example.output.iter().map(|line| put_in(line)).collect(),
        })
        .collect();
    assert!(!examples.is_empty(), "the runbook has no block with `{mark}` before it");
    examples
}

fn unindented(line: &str) -> String {
    line.strip_prefix("   ").unwrap_or(line).to_owned()
}

#[test]
fn files_are_brought_back_as_the_runbook_says() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let volbak = env!("CARGO_BIN_EXE_volbak");
    sh(&format!(
        "cd {at}; mkdir backups mnt tree
         mkdir -p tree/etc/ssh tree/srv; echo PermitRootLogin no >tree/etc/ssh/sshd_config; echo web-01 >tree/etc/hostname
         chmod 600 tree/etc/ssh/sshd_config; seq 9999 >tree/srv/numbers
         disk() {{
             rm -f {VOLUME}.img; truncate -s 256M {VOLUME}.img; echo 'label: gpt; start=2048' | tr ';' '\\n' |
                 sfdisk -q {VOLUME}.img; mke2fs -q -t ext4 -d tree -E offset=1048576 {VOLUME}.img 254M
             {volbak} -q snapshot {VOLUME}.img --to backups >/dev/null
         }}
         disk; sleep 1.1; rm tree/etc/ssh/sshd_config; disk"
    ));
    let (backups, mnt) = (format!("{at}/backups"), format!("{at}/mnt"));
    run(&runbook("<!-- tested -->", &[("/BACKUPS/EBS-VOL", &backups), ("/mnt", &mnt)]), dir.path());
}

#[test]
fn volumes_with_lvm_inside_are_brought_back_as_the_runbook_says() {
    if !in_lab("volumes_with_lvm_inside_are_brought_back_as_the_runbook_says") {
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
