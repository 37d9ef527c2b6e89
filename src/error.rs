//! Common parts of all errors: their text and the exit status.

use std::error::Error;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::units::ByteLen;

/// The outcome for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitClass {
    /// Success.
    Well,
    /// Finished, with problems reported.
    WithProblems,
    /// Another run holds the lock.
    Locked,
    /// Wrong usage or config.
    Usage,
    /// The run failed, or the backup of a volume did.
    Failed,
}

impl ExitClass {
    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::WithProblems => 3,
            Self::Locked => 4,
        }
    }
}

/// An error and its causes on one line, the innermost last, plus the resource limit that caused it, if any.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut limit) = (error.to_string(), limit_behind(error));
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        limit = limit.or_else(|| limit_behind(error));
        cause = error.source();
    }
    text.push_str(&limit.unwrap_or_default());
    text
}

/// The resource limit of this process that made a system call fail, and where it is set; empty for other errors.
///
/// A shell, cron or systemd sets limits (setrlimit(2)), and the system's own message ("File too large") does not
/// mention them.
pub fn limit_behind(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return limit_of(*errno);
    }
    let error = error.downcast_ref::<io::Error>()?;
    match error.raw_os_error() {
        Some(number) => limit_of(Errno::from_raw_os_error(number)),
        None if error.kind() == io::ErrorKind::OutOfMemory => limit_of(Errno::NOMEM),
        None => error.get_ref().and_then(|inner| limit_behind(inner)),
    }
}

fn limit_of(errno: Errno) -> Option<String> {
    let limit = |resource| getrlimit(resource).current;
    match errno {
        Errno::FBIG => Some(match limit(Resource::Fsize) {
            Some(bytes) => format!(
                " (this process may write files of up to {}: `ulimit -f`, or LimitFSIZE= of the unit)",
                ByteLen(bytes)
            ),
            None => " (the filesystem does not take files of that size)".to_owned(),
        }),
        Errno::MFILE => Some(format!(
            " (this process may have {} files open: `ulimit -n`, or LimitNOFILE= of the unit)",
            limit(Resource::Nofile).map_or_else(|| "no more".to_owned(), |count| count.to_string())
        )),
        Errno::NOMEM => Some(match limit(Resource::As).or_else(|| limit(Resource::Data)) {
            Some(bytes) => format!(
                " (this process may use {} of memory: `ulimit -v`, `ulimit -d`, or LimitAS= of the unit)",
                ByteLen(bytes)
            ),
            None => " (the host, or this process's control group, is short of memory)".to_owned(),
        }),
        Errno::AGAIN => Some(
            " (for a thread or program: the limit of their number, `ulimit -u` or TasksMax= of the unit, or of memory, \
             `ulimit -v`)"
                .to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{ExitClass, with_causes};

    #[test]
    fn a_limit_of_the_process_is_named() {
        let said = |number| with_causes(&io::Error::from_raw_os_error(number));
        assert!(said(24).contains("(os error 24) (this process may have ") && said(24).contains("ulimit -n"));
        assert!(said(27).contains("File too large"));
        let inner = io::Error::other(io::Error::from_raw_os_error(12));
        assert!(with_causes(&inner).contains("memory"));
        assert!(with_causes(&io::Error::from(io::ErrorKind::OutOfMemory)).contains("memory)"));
        assert_eq!(with_causes(&io::Error::other("x")), "x");
        assert!(said(2).ends_with("(os error 2)"));
    }

    #[test]
    fn statuses_are_the_documented_ones() {
        use ExitClass::{Failed, Locked, Usage, Well, WithProblems};
        assert_eq!([Well, Failed, Usage, WithProblems, Locked].map(ExitClass::status), [0, 1, 2, 3, 4]);
    }
}
