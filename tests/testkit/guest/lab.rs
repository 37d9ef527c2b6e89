//! The machine with real LVM that `scripts/lab` starts, as tests see it: /dev/ubda is a volume group
//! `cinder-volumes`, /dev/ubdb an ext4 at [`SCRATCH`] with the destination in it. Each test has a machine of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{both_outputs, sh};

/// Where everything that a test makes is mounted or written.
pub const SCRATCH: &str = "/run/t";

/// The volume group of every test.
pub const GROUP: &str = "cinder-volumes";

/// What `scripts/lab` ends with when the machine's kernel did nothing any more.
const MACHINE_HUNG: i32 = 123;

/// True in the lab. Anywhere else this runs the test of that name in a lab, and fails when it fails there.
pub fn in_lab(test: &str) -> bool {
    if std::env::var_os("VOLBAK_LAB").is_some() {
        return true;
    }
    let mut attempts = 0;
    let said = loop {
        attempts += 1;
        let output = run_in_lab(test);
        let said = both_outputs(&output);
        // A kernel that hangs is none of ours: with a volbak that hangs, the machine goes on, and this fails.
        if output.status.code() == Some(MACHINE_HUNG) && attempts < 3 {
            eprintln!("{said}\n{test}: the lab's kernel hung; once more");
            continue;
        }
        assert!(output.status.success() && said.contains("1 passed"), "in the lab: {}\n{said}", output.status);
        break said;
    };
    if std::env::args().any(|argument| argument == "--nocapture") {
        eprint!("{said}");
    }
    false
}

fn run_in_lab(test: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab");
    Command::new(script)
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        // Far more than any test takes, since a busy machine is no failure.
        .env("VOLBAK_LAB_SECONDS", "1800")
        .output()
        .unwrap()
}

/// Makes the group and the scratch filesystem.
pub fn set_up() {
    sh(&format!(
        "pvcreate -q /dev/ubda; vgcreate -q {GROUP} /dev/ubda
         mkfs.ext4 -q /dev/ubdb; mkdir -p {SCRATCH}; mount /dev/ubdb {SCRATCH}; mkdir {SCRATCH}/backups"
    ));
}

/// The destination.
pub fn dest() -> PathBuf {
    Path::new(SCRATCH).join("backups")
}

/// A new thick volume.
pub fn thick_volume(name: &str, size: &str) -> PathBuf {
    sh(&format!("lvcreate -q -y -n {name} -L {size} {GROUP}"));
    Path::new("/dev").join(GROUP).join(name)
}

/// A new thin volume, in a pool that is made with it when it is the first.
pub fn thin_volume(name: &str, size: &str) -> PathBuf {
    sh(&format!(
        "lvs {GROUP}/pool >/dev/null 2>&1 || lvcreate -q -y --type thin-pool -n pool -L 2G {GROUP}
         lvcreate -q -y -n {name} -V {size} --thinpool pool {GROUP}"
    ));
    Path::new("/dev").join(GROUP).join(name)
}

/// The names of the group's volumes that volbak has to do with: those with its tags, and those named by it.
pub fn volumes_of_volbak() -> String {
    sh(&format!("lvs --noheadings -o lv_name,lv_tags {GROUP} | grep volbak || true"))
}

/// Everything that a run could leave behind outside its destination: snapshots, loop devices, mounts, mappings.
/// One child process alone, for in the lab each one takes long.
pub fn state() -> String {
    let mut state: Vec<String> = sh("lvs --noheadings -o vg_name,lv_name,lv_tags").lines().map(str::to_owned).collect();
    for device in fs::read_dir("/sys/block").unwrap() {
        let device = device.unwrap().path();
        let value = |name: &str| fs::read_to_string(device.join(name)).map(|text| text.trim().to_owned());
        if let (Ok(file), Ok(offset)) = (value("loop/backing_file"), value("loop/offset")) {
            state.push(format!("{file} {offset}"));
        }
        state.extend(value("dm/name"));
    }
    state.sort();
    for mount in fs::read_to_string("/proc/mounts").unwrap().lines() {
        state.push(mount.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" "));
    }
    state.join("\n")
}
