//! Whether another process has a target open. An exclusive open fails only if another exclusive open exists, as for
//! a mount; an emulator does not use one.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev};

use crate::source;

/// How long a use that ended may still be seen: the loop device of a mount, a descriptor that udev or a child has for a moment,
/// device-mapper's count of users.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// What is in use, if it still is after [`ENDS_WITHIN`]. `ask` is asked again until then.
pub(super) fn lasting<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        let found = ask()?;
        if Instant::now() >= deadline {
            return Some(found);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A process that has the file or device open and keeps it open: udev opens every device now and then. A device
/// also counts as open through its partitions or its disk.
pub(super) fn opened_by(wanted: &fs::Metadata) -> Option<u32> {
    lasting(|| opened_by_now(wanted))
}

/// As [`opened_by`], also of a process that has it open for a moment only.
pub(super) fn opened_by_now(wanted: &fs::Metadata) -> Option<u32> {
    let is_device = wanted.file_type().is_block_device();
    let numbers = if is_device { source::related_devices(wanted.rdev()) } else { Vec::new() };
    found_open_by(&|path: &Path| is_one_of(path, wanted, &numbers))
}

/// Whether an open file is `wanted`, or a block device with one of these numbers. Uses only the kernel's own data:
/// querying an unresponsive file server would hang.
fn is_one_of(path: &Path, wanted: &fs::Metadata, numbers: &[u64]) -> bool {
    let what = StatxFlags::TYPE | StatxFlags::INO;
    let Ok(found) = rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, what) else { return false };
    if numbers.is_empty() {
        return (makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino) == (wanted.dev(), wanted.ino());
    }
    FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::BlockDevice
        && numbers.contains(&makedev(found.stx_rdev_major, found.stx_rdev_minor))
}

/// The first other process that has it open, from /proc.
fn found_open_by(is_it: &dyn Fn(&Path) -> bool) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| *number != std::process::id()).find(|number| {
        let Ok(open) = fs::read_dir(format!("/proc/{number}/fd")) else { return false };
        open.filter_map(Result::ok).any(|entry| {
            // The link of a device or file is its path; other links are no paths and skipped.
            fs::read_link(entry.path()).is_ok_and(|target| target.is_absolute()) && is_it(&entry.path())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;

    use super::{lasting, opened_by};
    use crate::reader::kernel::loop_device::LoopDevice;
    use crate::source;
    use crate::units::ByteRange;

    #[test]
    fn a_use_that_ends_is_waited_for_and_one_that_stays_is_not() {
        let mut left = 3;
        let ending = lasting(|| {
            left -= 1;
            (left > 0).then_some(left)
        });
        assert_eq!((ending, left), (None, 0));
        assert_eq!(lasting(|| Some("mounted")), Some("mounted"));
    }

    #[test]
    fn a_loop_device_that_goes_is_no_use() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let backing = File::options().read(true).write(true).open(file.path()).unwrap();
        let attached = LoopDevice::attach(&backing, ByteRange::new(0, 1 << 20), true).unwrap();
        let shown = || source::loop_device_over(Path::new(file.path()));
        assert!(shown().is_some());
        // It goes after it was seen, as that of a mount which is being taken down.
        let (seen, first) = mpsc::channel();
        let goes = thread::spawn(move || {
            first.recv().unwrap();
            drop(attached);
        });
        let mut seen = Some(seen);
        let found = lasting(|| {
            let found = shown();
            if let Some(seen) = seen.take() {
                assert!(found.is_some());
                seen.send(()).unwrap();
            }
            found
        });
        goes.join().unwrap();
        assert_eq!(found, None);
        drop(backing);
        assert_eq!(opened_by(&file.path().metadata().unwrap()), None, "this process alone has it open");
    }
}
