//! Closes one session. `iscsiadm` closes a session also while its disk is in use, which is an I/O error for whoever uses it, and
//! without a session's number it closes all of them: the use is looked for here, and the number is always given.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::kernel::{Disk, Session, SessionsError, read, sessions};
use super::uses::use_of;
use crate::outside::RunCommand;
use crate::source;

/// How long a closed session may still be seen.
const GOES_WITHIN: Duration = Duration::from_secs(30);
/// iscsiadm(8): no session was found.
const STATUS_NO_SESSION: i32 = 21;

/// Why a session was not closed. Unless said otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The sessions cannot be read.
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    /// No session has such a target.
    #[error("no iSCSI session of this host has the volume {wanted}{}", listed(there))]
    NotThere {
        /// The volume as given.
        wanted: String,
        /// The targets that there are.
        there: Vec<String>,
    },
    /// Several have: paths of one multipath device, or a session that was opened twice.
    #[error("{wanted} has several iSCSI sessions ({}): close them through multipath or Nova", numbers.join(", "))]
    Several {
        /// The volume as given.
        wanted: String,
        /// The numbers of the sessions.
        numbers: Vec<String>,
    },
    /// The session has disks of more than one volume.
    #[error("session {number} has several disks ({}): closing it would take all of them away", disks.join(", "))]
    SeveralDisks {
        /// The session.
        number: u32,
        /// The names of the disks.
        disks: Vec<String>,
    },
    /// A disk is in use.
    #[error("session {number} is in use: {what}; detach the volume from the instance, or end that use, and try again")]
    InUse {
        /// The session.
        number: u32,
        /// The use.
        what: String,
    },
    /// A disk cannot be opened to prove that it is not in use.
    #[error("whether {disk} is in use cannot be determined")]
    Unknown {
        /// The disk.
        disk: String,
        /// The cause.
        source: io::Error,
    },
    /// The session changed between the checks and the closing.
    #[error("session {0} changed while it was checked: list the sessions again")]
    Changed(u32),
    /// `iscsiadm` could not be started.
    #[error("iscsiadm cannot be started: install open-iscsi")]
    NoProgram(#[source] io::Error),
    /// `iscsiadm` failed.
    #[error("`iscsiadm -m session -r {number} -u` failed: {said}")]
    Failed {
        /// The session.
        number: u32,
        /// Its error output.
        said: String,
    },
    /// The session is still there after it was closed.
    #[error("session {number} is still there {} s after iscsiadm closed it", GOES_WITHIN.as_secs())]
    StillThere {
        /// The session.
        number: u32,
    },
}

/// A session that was closed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The session.
    pub session: Session,
    /// Other sessions that ended at the same time. Only this one was closed.
    pub others_gone: Vec<Session>,
}

/// Closes the only session of a volume: its id, `volume-ID`, or the target's name. With `dry_run` it only checks.
///
/// Its disk is held exclusively until the session is closed, so that nothing can begin to use it.
pub fn close(wanted: &str, dry_run: bool, commands: &dyn RunCommand) -> Result<Closed, CloseError> {
    let before = sessions()?;
    let (of_it, mut others): (Vec<Session>, Vec<Session>) =
        before.into_iter().partition(|session| session.is_of(wanted));
    let wanted = wanted.to_owned();
    let session = match of_it.as_slice() {
        [session] => session.clone(),
        [] => {
            let there = others.into_iter().map(|session| session.target).collect();
            return Err(CloseError::NotThere { wanted, there });
        }
        several => {
            let numbers = several.iter().map(|session| session.number.to_string()).collect();
            return Err(CloseError::Several { wanted, numbers });
        }
    };
    let number = session.number;
    if session.disks.len() > 1 {
        let disks = session.disks.iter().map(|disk| disk.name.clone()).collect();
        return Err(CloseError::SeveralDisks { number, disks });
    }
    let in_use = |what: String| CloseError::InUse { number, what };
    if let Some(what) = session.disks.first().and_then(use_of) {
        return Err(in_use(what));
    }
    let held = session.disks.first().map(|disk| hold(&session, disk)).transpose()?.flatten();
    // What was checked has to be what is closed: numbers are given again to other targets.
    if read(number)?.is_none_or(|now| now.target != session.target || now.disks != session.disks) {
        return Err(CloseError::Changed(number));
    }
    // A process that opened it without O_EXCL meanwhile.
    if let Some(what) = session.disks.first().and_then(use_of) {
        return Err(in_use(what));
    }
    if dry_run {
        return Ok(Closed { session, others_gone: Vec::new() });
    }
    let arguments = ["-m", "session", "-r", &number.to_string(), "-u"].map(Into::into);
    let output = commands.run("iscsiadm", &arguments).map_err(CloseError::NoProgram)?;
    if !output.status.success() && output.status.code() != Some(STATUS_NO_SESSION) {
        let said = crate::shown::bytes(output.stderr.trim_ascii());
        return Err(CloseError::Failed { number, said });
    }
    drop(held);
    let deadline = Instant::now() + GOES_WITHIN;
    while read(number)?.is_some_and(|now| now.target == session.target) {
        if Instant::now() >= deadline {
            return Err(CloseError::StillThere { number });
        }
        thread::sleep(Duration::from_millis(50));
    }
    let now = sessions()?;
    others.retain(|other| !now.iter().any(|now| now.number == other.number && now.target == other.target));
    Ok(Closed { session, others_gone: others })
}

/// The disk, opened exclusively. `None` while its session is not logged in: opening it would wait for the session.
fn hold(session: &Session, disk: &Disk) -> Result<Option<File>, CloseError> {
    if !session.is_logged_in() {
        return Ok(None);
    }
    let flags = (OFlags::EXCL | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(disk.path()) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
            let metadata = disk.path().metadata();
            let what = metadata.map_or_else(|error| error.to_string(), |metadata| source::holder_of(metadata.rdev()));
            Err(CloseError::InUse { number: session.number, what: format!("{} is {what}", disk.name) })
        }
        Err(source) => Err(CloseError::Unknown { disk: disk.name.clone(), source }),
    }
}

fn listed(there: &[String]) -> String {
    if there.is_empty() { "; it has none".to_owned() } else { format!("; it has {}", there.join(", ")) }
}
