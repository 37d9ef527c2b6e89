//! Guests' disks as tests need them: images and logical volumes with partitions and filesystems on them, mounted and
//! unmounted with the system's own tools, and the same tools to restore what a backup left.

pub mod backups;
pub mod lab;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::testkit::tree::{Filesystem, Kind, Tree, fingerprint};

/// Where partition 1 begins on every disk made here.
pub const PARTITION_START: u64 = 1 << 20;

/// Runs a bash script that stops at its first failure, and gives what it printed. A failure fails the test with the
/// script's own words.
pub fn sh(script: &str) -> String {
    let output = sh_output(script);
    assert!(output.status.success(), "{script}\n{}: {}", output.status, both_outputs(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// For every script: what was just released may be seen for a moment still. A child that another thread of the tests forked has a
/// descriptor in a mount until it execs, a loop device goes with its last user, udev or a scan has a volume open. So these are
/// asked again, up to a limit, while they say that something is in use; and a loop device that was detached is waited for.
const PATIENT: &str = r#"patiently() {
    local tries said code=0
    for ((tries = 0; tries < 200; tries++)); do
        if said=$(command "$@" 2>&1); then [ -z "$said" ] || printf '%s\n' "$said"; return 0; else code=$?; fi
        [[ $said == *busy* || $said == *"in use"* ]] || break
        sleep 0.1
    done
    printf '%s\n' "$said" >&2
    return "$code"
}
umount() { patiently umount "$@"; }
lvremove() { patiently lvremove "$@"; }
vgchange() { patiently vgchange "$@"; }
dmsetup() { if [ "${1:-}" = remove ]; then patiently dmsetup "$@"; else command dmsetup "$@"; fi; }
mdadm() { if [[ " $* " == *" --stop "* ]]; then patiently mdadm "$@"; else command mdadm "$@"; fi; }
losetup() {
    command losetup "$@" || return
    [ "${1:-}" = -d ] || return 0
    local device tries
    for device in "${@:2}"; do
        for ((tries = 0; tries < 100; tries++)); do
            [ -n "$(command losetup -ln -O BACK-FILE "$device" 2>/dev/null || true)" ] || break
            sleep 0.1
        done
    done
}
"#;

/// For scripts in a mount namespace of their own, which begins with what other tests have mounted at this moment. It would keep
/// their filesystems mounted: what they unmount would be written, and leave its loop device, only when the script has ended.
pub const WITHOUT_OTHER_MOUNTS: &str =
    "findmnt -rno TARGET | grep -F /.tmp | tac | xargs -r -d '\\n' -n 1 umount -l 2>/dev/null; ";

/// Runs a bash script and gives all that came of it, a failure too.
pub fn sh_output(script: &str) -> Output {
    let script = format!("{PATIENT}{script}");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap()
}

/// Runs a program, and gives what it did and the processor's time that it took, to which a busy machine adds little.
pub fn timed(program: &Command) -> (Output, Duration) {
    let mut timed = Command::new("bash");
    timed.args(["-c", "TIMEFORMAT='%U %S'; time \"$@\"", "bash"]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(directory) = program.get_current_dir() {
        timed.current_dir(directory);
    }
    let mut output = timed.output().unwrap();
    let said = String::from_utf8(std::mem::take(&mut output.stderr)).unwrap();
    let said = said.trim_end();
    let (own, times) = said.split_at(said.rfind('\n').map_or(0, |at| at + 1));
    output.stderr = own.as_bytes().to_vec();
    let seconds =
        times.split(' ').map(|word| word.replace(',', ".").parse::<f64>().unwrap_or_else(|_| panic!("{said}")));
    (output, Duration::from_secs_f64(seconds.sum()))
}

/// Makes a shell script that can be run as a program. A child writes it: from a descriptor of this process another test might fork a
/// child, and the kernel runs no file that is open for writing ("Text file busy") before that child's exec.
pub fn program(path: &Path, script: &str) {
    let write = "printf '#!/bin/sh\n%s\n' \"$2\" >\"$1\"; chmod 755 \"$1\"";
    let status = Command::new("sh").args(["-ec", write, "sh"]).arg(path).arg(script).status().unwrap();
    assert!(status.success(), "{}: {status}", path.display());
}

/// What a program said, for a message.
pub fn both_outputs(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat()
}

/// A path for use in a script.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_str().unwrap().replace('\'', r"'\''"))
}

/// Puts a GPT with one Linux partition, which takes the whole rest, on a disk or an image file.
pub fn partition(disk: &Path) {
    sh(&format!(
        "sfdisk -q --no-reread --no-tell-kernel {} <<'TABLE'\nlabel: gpt\nstart=2048, type=linux, name=root\nTABLE",
        quoted(disk)
    ));
}

/// How many bytes partition 1 has, by sfdisk's own account.
pub fn partition_bytes(disk: &Path) -> u64 {
    let table: serde_json::Value = serde_json::from_str(&sh(&format!("sfdisk -J {}", quoted(disk)))).unwrap();
    table["partitiontable"]["partitions"][0]["size"].as_u64().unwrap() * 512
}

/// A sparse image file with a GPT and a fresh filesystem in its partition 1.
pub fn make_image(image: &Path, size: &str, filesystem: Filesystem) {
    sh(&format!("truncate -s {size} {}", quoted(image)));
    partition(image);
    make_filesystem(image, filesystem);
}

/// Makes a filesystem in partition 1, through a loop device at its place.
pub fn make_filesystem(disk: &Path, filesystem: Filesystem) {
    let make = match filesystem {
        Filesystem::Ext4 => "mkfs.ext4 -q -i 4096 -L guest-root",
        Filesystem::Xfs => "mkfs.xfs -q -L guest-root",
        Filesystem::Btrfs => "mkfs.btrfs -q -L guest-root",
        Filesystem::Vfat => "mkfs.vfat -n GUEST-ROOT",
    };
    sh(&format!(
        "loop=$(losetup -f --show -o {PARTITION_START} --sizelimit {} {})
         trap 'losetup -d $loop' EXIT
         {make} $loop >/dev/null",
        partition_bytes(disk),
        quoted(disk)
    ));
}

/// A mounted filesystem, unmounted when it goes out of scope. Its loop device goes with it.
pub struct Mounted {
    pub point: PathBuf,
}

impl Mounted {
    /// Mounts partition 1 of a disk or an image file at `point`, as the guest that owns it would.
    pub fn partition(disk: &Path, point: &Path) -> Self {
        Self::with_options(disk, point, &format!("loop,offset={PARTITION_START},sizelimit={}", partition_bytes(disk)))
    }

    /// Mounts with these options. The point is made when it does not exist.
    pub fn with_options(source: &Path, point: &Path, options: &str) -> Self {
        std::fs::create_dir_all(point).unwrap();
        sh(&format!("mount -o {options} {} {}", quoted(source), quoted(point)));
        Self { point: point.to_owned() }
    }

    /// Unmounts now, and fails when that fails.
    pub fn unmount(self) {
        sh(&format!("umount {}", quoted(&self.point)));
        std::mem::forget(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // During a panic there may be files open below it.
        let _ = sh_output(&format!("umount {0} || umount -l {0}", quoted(&self.point)));
    }
}

/// Lets `change` write to the filesystem in partition 1 of a disk, and gives what of it a backup has afterwards.
pub fn changed(disk: &Path, point: &Path, change: &dyn Fn(&Path)) -> Tree {
    let mounted = Mounted::partition(disk, point);
    change(&mounted.point);
    let mut tree = fingerprint(&mounted.point);
    tree.retain(|path, attributes| attributes.kind != Kind::Socket && !path.starts_with(b"lost+found"));
    mounted.unmount();
    tree
}

/// A new filesystem of that kind with nothing on it, to restore to: attributes are restored only where they can be.
pub fn restore_target(scratch: &Path, filesystem: Filesystem) -> Mounted {
    let image = scratch.join("restored.img");
    make_image(&image, "1G", filesystem);
    let mounted = Mounted::partition(&image, &scratch.join("restored"));
    std::fs::create_dir(mounted.point.join("tree")).unwrap();
    mounted
}

/// Extracts an archive as the README tells people to, and gives the tree that came out.
pub fn extract_with_gnu_tar(archive: &Path, into: &Path) -> Tree {
    std::fs::create_dir_all(into).unwrap();
    let compression = if archive.extension().is_some_and(|extension| extension == "zst") { "--zstd" } else { "--gzip" };
    let said = sh(&format!(
        "tar --xattrs --xattrs-include='*' --acls --numeric-owner {compression} -xpf {} -C {} 2>&1",
        quoted(archive),
        quoted(into)
    ));
    // The first is what other tars need to take a name that is not UTF-8 as it is, as GNU tar always does. The others
    // are about times that are as they should be.
    let known = ["unknown extended header keyword 'hdrcharset'", "implausibly old time stamp", "in the future"];
    let complaints: Vec<_> = said.lines().filter(|line| !known.iter().any(|known| line.contains(known))).collect();
    assert!(complaints.is_empty(), "GNU tar has nothing to say about a good archive: {complaints:?}");
    fingerprint(into)
}
