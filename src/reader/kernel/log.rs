//! Kernel log messages about one device while a filesystem on it is read.
//!
//! Not every call that meets damage fails: ext4's readdir skips an invalid directory block and returns the names of
//! the others. The log message is the only trace.
//!
//! Sources: the kernel's `Documentation/ABI/testing/dev-kmsg`. The drivers' `ext4_error`, `xfs_alert`, `btrfs_err`
//! and `fat_fs_error` log with priority `KERN_ERR` or worse and name the device.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use crate::shown;

/// `KERN_ERR`; higher numbers are less urgent.
const ERROR: u32 = 3;
/// The maximum number of messages to quote; further ones are only counted.
const GIVEN: usize = 3;
/// An upper bound of the records in the kernel's buffer.
const RECORDS_MAX: usize = 1 << 20;

/// The kernel log from a point in time on.
#[derive(Debug)]
pub(super) struct KernelLog {
    log: Option<File>,
}

/// Errors in the kernel log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Logged {
    /// The first of them, quoted.
    pub(super) first: Vec<String>,
    /// The total number.
    pub(super) count: usize,
}

impl KernelLog {
    /// Starts reading at the end of the log. Without permission to read the log (`CAP_SYSLOG`, or a container
    /// without `/dev/kmsg`) it stays empty.
    pub(super) fn from_now() -> Self {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let log = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").ok();
        Self { log: log.and_then(|mut log| log.seek(SeekFrom::End(0)).ok().map(|_| log)) }
    }

    /// The errors that name `device` (`loop3`).
    pub(super) fn errors_of(&self, device: &str) -> Logged {
        let mut logged = Logged::default();
        let Some(mut log) = self.log.as_ref() else { return logged };
        let mut record = [0; 8192];
        for _ in 0..RECORDS_MAX {
            match log.read(&mut record) {
                Ok(len) if len > 0 => {
                    if let Some(message) = error_of(&record[..len], device) {
                        logged.count += 1;
                        if logged.first.len() < GIVEN && !logged.first.contains(&message) {
                            logged.first.push(message);
                        }
                    }
                }
                // EPIPE: records were overwritten; the next read returns the oldest one left.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
                _ => break,
            }
        }
        logged
    }
}

/// The message of a record (`PRIORITY,SEQUENCE,TIME,FLAGS;MESSAGE`, then lines with more facts) if it is an error
/// of this device.
fn error_of(record: &[u8], device: &str) -> Option<String> {
    let line = record.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let (head, message) = line.split_once(';')?;
    // The facility is above the lowest three bits.
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let names_it = message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == device);
    // Skips the lines of advice and memory dumps that follow an error.
    let says_it = ["rror", "orrupt"].iter().any(|word| message.contains(word));
    (priority % 8 <= ERROR && names_it && says_it).then(|| shown::text(message))
}

#[cfg(test)]
mod tests {
    use super::error_of;

    #[test]
    fn errors_of_one_device_are_known() {
        let of = |record: &str| error_of(record.as_bytes(), "loop3");
        let message = "EXT4-fs error (device loop3): ext4_readdir:219: inode #12: comm x: bad entry";
        assert_eq!(
            of(&format!("2,339,5140900,-;{message}\n SUBSYSTEM=block\n DEVICE=b7:3\n")).as_deref(),
            Some(message)
        );
        assert_eq!(
            of("3,1,2,-;XFS (loop3): Metadata corruption\n").as_deref(),
            Some("XFS (loop3): Metadata corruption")
        );
        assert!(of("3,1,2,-;BTRFS error (device loop3: state E): bad tree block").is_some());
        for other in [
            "6,339,5140900,-;EXT4-fs (loop3): mounted filesystem",
            "4,339,5140900,-;EXT4-fs (loop3): warning: checktime reached",
            "1,339,5140900,-;XFS (loop3): Unmount and run xfs_repair",
            "3,1,2,-;XFS (loop33): Metadata corruption",
            "3,1,2,-;something\n DEVICE=loop3",
            "x;loop3",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
