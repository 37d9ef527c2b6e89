//! Failures that may pass by themselves: a lock, a busy snapshot, a destination that did not answer. Such a volume is tried
//! once more at the end of the run.

use crate::source::SourceError;
pub(super) use crate::store::passing::may_pass;

/// Words in which LVM's tools and the kernel say that something else uses what they need.
const BUSY: [&str; 7] = [
    "can't get lock",
    "failed to lock",
    "lock failed",
    "giving up waiting for lock",
    "resource temporarily unavailable",
    "device or resource busy",
    "is busy",
];

/// Whether a source may be free in some minutes.
pub(super) fn source_may_be_free(error: &SourceError) -> bool {
    match error {
        SourceError::Command { stderr, .. } => {
            let said = stderr.to_lowercase();
            BUSY.iter().any(|words| said.contains(words))
        }
        SourceError::LeftBehind { failure, .. } => source_may_be_free(failure),
        other => may_pass(other),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::source_may_be_free;
    use crate::source::SourceError;

    fn lvm(stderr: &str) -> SourceError {
        SourceError::Command {
            command: "lvcreate".to_owned(),
            status: "exit status: 5".to_owned(),
            stderr: stderr.to_owned(),
        }
    }

    #[test]
    fn a_lock_may_pass_and_a_full_group_does_not() {
        assert!(source_may_be_free(&lvm("Can't get lock for vg0; Cannot process volume group vg0")));
        assert!(source_may_be_free(&lvm("VG vg0 lock failed: held by other host")));
        assert!(source_may_be_free(&lvm("device-mapper: create ioctl on vg0-x failed: Device or resource busy")));
        assert!(!source_may_be_free(&lvm("Volume group \"vg0\" has insufficient free space")));
        let busy = SourceError::io("opening it", "/dev/vg0/x", Errno::BUSY.into());
        let bad = SourceError::io("opening it", "/dev/vg0/x", Errno::IO.into());
        assert!(source_may_be_free(&busy) && !source_may_be_free(&bad));
    }
}
