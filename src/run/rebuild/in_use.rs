//! Whether another process has a target open. The kernel refuses an exclusive open only when somebody else has an exclusive
//! one, as a mount has; an emulator's is none.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev};

use crate::source;

/// A process that has the file or device open, and keeps it open: udev looks into every device now and then. A device
/// counts as open when one of its partitions, or the disk that it is a partition of, is.
pub(super) fn opened_by(wanted: &fs::Metadata) -> Option<u32> {
    let is_device = wanted.file_type().is_block_device();
    let numbers = if is_device { source::related_devices(wanted.rdev()) } else { Vec::new() };
    let is_it = |path: &Path| is_one_of(path, wanted, &numbers);
    for _ in 0..10 {
        found_open_by(&is_it)?;
        thread::sleep(Duration::from_millis(200));
    }
    found_open_by(&is_it)
}

/// Whether an open file is `wanted`, or a block device with one of these numbers. What the kernel knows of it is
/// enough: asking a file server that does not answer would take for ever.
fn is_one_of(path: &Path, wanted: &fs::Metadata, numbers: &[u64]) -> bool {
    let what = StatxFlags::TYPE | StatxFlags::INO;
    let Ok(found) = rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, what) else { return false };
    if numbers.is_empty() {
        return (makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino) == (wanted.dev(), wanted.ino());
    }
    FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::BlockDevice
        && numbers.contains(&makedev(found.stx_rdev_major, found.stx_rdev_minor))
}

/// The first other process that has it open, as far as /proc tells.
fn found_open_by(is_it: &dyn Fn(&Path) -> bool) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| *number != std::process::id()).find(|number| {
        let Ok(open) = fs::read_dir(format!("/proc/{number}/fd")) else { return false };
        open.filter_map(Result::ok).any(|entry| {
            // A link to a device or file by its path; anything else is no path, and not looked at.
            fs::read_link(entry.path()).is_ok_and(|target| target.is_absolute()) && is_it(&entry.path())
        })
    })
}
