//! Lets the process exit although one of its reads or writes hangs.
//!
//! The last close of a block device waits in the kernel for unfinished reads (`blkdev_put`), and the last user of a
//! mount for those of its filesystem. A process that exits closes everything, so it would hang in its own exit, and
//! cron or systemd would wait for it. Therefore a child process, for which nothing waits, keeps these open for
//! longer.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::outside::programs::{self, Child};

/// Reads a device with direct I/O, which ends when the device responds, and gives this process time to exit.
const HOLD: &str = "dd iflag=direct if=/dev/stdin of=/dev/null bs=4096 count=1 2>/dev/null; exec sleep 60";
/// A backup has only a few open.
const HELD_MAX: usize = 32;

/// Starts a child, in its own process group, for each open block device and each detached mount of this process, to
/// keep it open. Best effort: without it, the exit of the process hangs as before.
pub(super) fn hold_open() {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return };
    let mounts = File::open("/proc/self/mountinfo").and_then(|mut file| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mounts = attached_mounts(&mounts.unwrap_or_default());
    let held = descriptors.flatten().map(|one| one.path()).filter(|path| is_held(path, &mounts)).take(HELD_MAX);
    for descriptor in held.collect::<Vec<PathBuf>>() {
        // Opened again: the child inherits no other descriptor.
        let Ok(file) = File::open(&descriptor) else { continue };
        let Ok(mut command) = programs::command("sh".as_ref(), Child::Tool) else { return };
        let spawned =
            command.args(["-c", HOLD]).stdin(file).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
        // Not waited for here; after this process has ended, init does so.
        drop(spawned);
    }
}

fn is_held(descriptor: &Path, mounts: &[u64]) -> bool {
    let Ok(facts) = fs::metadata(descriptor) else { return false };
    facts.file_type().is_block_device()
        || facts.is_dir() && mount_of(descriptor).is_some_and(|mount| !mounts.contains(&mount))
}

/// The mount id of a descriptor: `mnt_id` of proc_pid_fdinfo(5).
fn mount_of(descriptor: &Path) -> Option<u64> {
    let number = descriptor.file_name()?.as_bytes();
    let info = Path::new("/proc/self/fdinfo").join(std::ffi::OsStr::from_bytes(number));
    let text = fs::read_to_string(info).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// The ids of attached mounts: the first field of proc_pid_mountinfo(5).
fn attached_mounts(mountinfo: &[u8]) -> Vec<u64> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let first = lines.filter_map(|line| std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok());
    first.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use super::{attached_mounts, is_held};

    #[test]
    fn directories_of_the_file_tree_are_not_held() {
        let mounts = attached_mounts(&std::fs::read("/proc/self/mountinfo").unwrap());
        assert!(!mounts.is_empty());
        for path in ["/", "/proc", "/proc/self/status"] {
            let file = File::open(path).unwrap();
            let descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            assert!(!is_held(&descriptor, &mounts), "{path}");
            if path != "/proc/self/status" {
                assert!(is_held(&descriptor, &[]), "{path}");
            }
        }
        assert_eq!(attached_mounts(b"22 1 0:21 / /proc rw\n\nx y\n33 1 0:5 / / rw"), [22, 33]);
    }
}
