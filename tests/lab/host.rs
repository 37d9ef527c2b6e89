//! What a host's LVM is set up to print changes nothing: each test runs in a machine that `scripts/lab` starts for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::testkit::guest::backups::volbak;
use crate::testkit::guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, thick_volume, volumes_of_volbak};
use crate::testkit::guest::{both_outputs, sh};

/// Lines for lvm.conf, each of which changes LVM's output or makes it strict.
const SETTINGS: [&str; 9] = [
    "report { list_item_separator=\";\" }",
    "log { report_command_log=1 }",
    "log { command_names=1 prefix=\" -- \" indent=1 }",
    "report { compact_output=1 compact_output_cols=\"lv_tags\" }",
    "report { columns_as_rows=1 prefixes=1 quoted=0 headings=0 separator=\"|\" }",
    "report { binary_values_as_numeric=1 mark_hidden_devices=0 output_format=\"json_std\" }",
    "global { units=\"H\" suffix=1 wait_for_locks=0 }",
    "log { verbose=3 level=7 }",
    "config { checks=1 abort_on_errors=1 }",
];

#[test]
fn no_setting_of_lvm_changes_a_backup() {
    if !in_lab("host::no_setting_of_lvm_changes_a_backup") {
        return;
    }
    set_up();
    thick_volume("volume-1", "16M");
    sh(&format!("mke2fs -q -F -t ext4 /dev/{GROUP}/volume-1"));
    let own = std::env::var("LVM_SYSTEM_DIR").unwrap();
    // All but the strict one at once, then each file that LVM reads beside lvm.conf: a profile of the environment's.
    let all = SETTINGS[..8].join("\n");
    for (number, settings) in [SETTINGS[0], SETTINGS[4], SETTINGS[8], &all].into_iter().enumerate() {
        let directory = format!("{SCRATCH}/lvm-{number}");
        sh(&format!("cp -r {own} {directory}"));
        let conf = fs::read_to_string(format!("{directory}/lvm.conf")).unwrap();
        fs::write(format!("{directory}/lvm.conf"), format!("{conf}\n{settings}\n")).unwrap();
        let output = volbak(&["snapshot", &format!("{GROUP}/volume-1"), "--to"])
            .arg(dest())
            .env("LVM_SYSTEM_DIR", &directory)
            .env("LVM_OUT_FD", "2")
            .env("LVM_COMMAND_PROFILE", "no-such-profile")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{settings}: {}", both_outputs(&output));
        assert_eq!(volumes_of_volbak(), "", "{settings}");
    }
}

/// A tool whose output cannot be understood from some moment on: what was taken before is removed, and known to be.
#[test]
fn a_snapshot_is_removed_though_lvs_says_nothing_that_makes_sense() {
    if !in_lab("host::a_snapshot_is_removed_though_lvs_says_nothing_that_makes_sense") {
        return;
    }
    set_up();
    thick_volume("volume-1", "16M");
    sh(&format!("mke2fs -q -F -t ext4 /dev/{GROUP}/volume-1"));
    let bin = Path::new(SCRATCH).join("bin");
    fs::create_dir(&bin).unwrap();
    let real = sh("command -v lvs").trim().to_owned();
    let odd = [
        "echo 'this is no JSON'",
        "echo '{\"report\": [{\"lv\": []}]}'",
        "echo '{\"report\": [{\"vg\": []}]}'",
        "exec REAL \"$@\" -o lv_name",
        "REAL \"$@\" | tr , ';'",
        "exit 5",
    ];
    for what in odd {
        let script = format!(
            "#!/bin/sh\nif REAL --noheadings -o lv_name {GROUP} 2>/dev/null | grep -q volbak; then {what}; else exec REAL \"$@\"; fi\n"
        );
        fs::write(bin.join("lvs"), script.replace("REAL", &real)).unwrap();
        fs::set_permissions(bin.join("lvs"), fs::Permissions::from_mode(0o755)).unwrap();
        let output = volbak(&["snapshot", &format!("{GROUP}/volume-1"), "--to"])
            .arg(dest())
            .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {}", both_outputs(&output));
        assert_eq!(volumes_of_volbak(), "", "{what}: {}", both_outputs(&output));
    }
}
