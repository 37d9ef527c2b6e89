//! Failures that may pass by themselves: a lock, a busy snapshot, a destination that did not answer. Such a volume is tried
//! once more at the end of the run.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use crate::source::SourceError;

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

/// Errors of the system for something that is busy, or for a server that is away.
const AWAY: [Errno; 14] = [
    Errno::AGAIN,
    Errno::BUSY,
    Errno::CONNABORTED,
    Errno::CONNREFUSED,
    Errno::CONNRESET,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NETDOWN,
    Errno::NETRESET,
    Errno::NETUNREACH,
    Errno::NOTCONN,
    Errno::REMOTEIO,
    Errno::STALE,
    Errno::TIMEDOUT,
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

/// Whether an error of the system or of an object store stands behind this one that may pass.
pub(super) fn may_pass(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "s3")]
    if let Some(error) = error.downcast_ref::<crate::objects::ObjectError>() {
        return error.may_pass();
    }
    if let Some(error) = error.downcast_ref::<Errno>() {
        return AWAY.contains(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let is_away = Errno::from_io_error(error).is_some_and(|errno| AWAY.contains(&errno));
        // What is within is no source of it: its own source is.
        let is_away_within = error.get_ref().is_some_and(|within| may_pass(within));
        return is_away || is_away_within || (error.raw_os_error().is_none() && error.kind() == ErrorKind::TimedOut);
    }
    error.source().is_some_and(may_pass)
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::{may_pass, source_may_be_free};
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

    #[test]
    fn a_server_that_is_away_may_come_back() {
        let wrapped = io::Error::other(io::Error::from(Errno::STALE));
        assert!(may_pass(&wrapped) && may_pass(&io::Error::from(io::ErrorKind::TimedOut)));
        assert!(!may_pass(&io::Error::from(Errno::NOSPC)) && !may_pass(&io::Error::other("damaged")));
    }
}
