//! Failures that may pass by themselves: a server that is away, a lock, something that is busy.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

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

/// Whether this error of the system may pass.
pub(super) fn is_away(error: Errno) -> bool {
    AWAY.contains(&error)
}

/// Whether an error of the system or of an object store stands behind this one that may pass.
pub(crate) fn may_pass(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "s3")]
    if let Some(error) = error.downcast_ref::<crate::objects::ObjectError>() {
        return error.may_pass();
    }
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.raw_os_error().is_none()
        && error.kind() == ErrorKind::TimedOut
    {
        return true;
    }
    if let Some(errno) = errno_of(error) {
        return is_away(errno);
    }
    causes(error).any(may_pass)
}

/// Whether the system, or an object store, refused to read: nothing is known about the bytes. Without room for what is expanded into
/// a temporary file, nothing is either.
pub(super) fn is_unread(error: &(dyn Error + 'static)) -> bool {
    const REFUSED: [Errno; 10] = [
        Errno::IO,
        Errno::ACCESS,
        Errno::PERM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NODEV,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
    ];
    #[cfg(feature = "s3")]
    if let Some(error) = error.downcast_ref::<crate::objects::ObjectError>() {
        return error.is_refusal();
    }
    if let Some(errno) = errno_of(error) {
        return is_away(errno) || REFUSED.contains(&errno);
    }
    may_pass(error) || causes(error).any(is_unread)
}

fn errno_of(error: &(dyn Error + 'static)) -> Option<Errno> {
    let of_io = || error.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
    error.downcast_ref::<Errno>().copied().or_else(of_io)
}

/// What stands behind an error: what is within an [`io::Error`] is no source of it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let within: Option<&(dyn Error + 'static)> = match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|within| within as _),
        None => error.source(),
    };
    within.into_iter()
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::{is_unread, may_pass};

    #[test]
    fn a_server_that_is_away_may_come_back() {
        let wrapped = io::Error::other(io::Error::from(Errno::STALE));
        assert!(may_pass(&wrapped) && may_pass(&io::Error::from(io::ErrorKind::TimedOut)));
        assert!(!may_pass(&io::Error::from(Errno::NOSPC)) && !may_pass(&io::Error::other("damaged")));
    }

    #[test]
    fn what_was_refused_was_not_read_and_what_is_wrong_was() {
        for errno in [Errno::IO, Errno::STALE, Errno::NOTCONN, Errno::ACCESS, Errno::NOSPC] {
            assert!(is_unread(&io::Error::other(io::Error::from(errno))), "{errno}");
        }
        for error in [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof, io::ErrorKind::NotFound] {
            assert!(!is_unread(&io::Error::from(error)), "{error}");
        }
        assert!(!is_unread(&io::Error::from(Errno::NOENT)));
    }
}
