//! Enforces the time limit of one volume's backup, even if a system call hangs.
//!
//! A backup polls its `Cancel` between steps and ends soon after its time is over. A backup that hangs in a read or
//! write cannot do so. It is abandoned in its thread, which removes its snapshot when the kernel lets it continue,
//! and no longer publishes anything.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::error::BackupError;
use super::limit::TimeLimit;
use super::options::{BackupOptions, BackupWorld};
use super::outcome::BackupOutcome;
use crate::events::Severity;
use crate::run::collect::tell;
use crate::run::left_behind::hold_open;
use crate::source::Source;
use crate::store::Destination;

/// How long a backup may take to end and to remove its snapshot after its time is over.
const GRACE: Duration = Duration::from_secs(15);

/// A function that makes a backup.
type Work = fn(&Source, &Destination, &BackupOptions, &BackupWorld) -> Result<BackupOutcome, BackupError>;

/// Runs `work` in a thread of its own, for at most `limit`.
pub(super) fn within(
    limit: &TimeLimit,
    work: Work,
    source: &Source,
    destination: &Destination,
    options: &BackupOptions,
    world: &BackupWorld,
) -> Result<BackupOutcome, BackupError> {
    let deadline = Instant::now().checked_add(limit.duration);
    let world = BackupWorld {
        cancel: deadline.map_or_else(|| world.cancel.clone(), |deadline| world.cancel.until(deadline)),
        ..world.clone()
    };
    let out_of_time = |is_hanging| BackupError::OutOfTime { limit: limit.to_string(), is_hanging };
    let (done, result) = sync_channel(1);
    let thread = {
        let (source, options, world) = (source.clone(), options.clone(), world.clone());
        let destination = destination.clone();
        let worked = move || {
            // The receiver is gone if the backup was abandoned.
            let _ = done.send(work(&source, &destination, &options, &world));
        };
        std::thread::Builder::new().name("backup".to_owned()).spawn(worked).map_err(BackupError::Thread)?
    };
    let result = loop {
        // Short enough to notice a cancellation.
        let patience = world.cancel.since().map_or(Duration::from_millis(500), |since| GRACE.saturating_sub(since));
        match result.recv_timeout(patience) {
            Ok(result) => break result,
            Err(RecvTimeoutError::Timeout) if world.cancel.since().is_none_or(|since| since < GRACE) => {}
            Err(RecvTimeoutError::Timeout) => {
                let what = "a read or a write hangs: its snapshot, if it has one, stays until the kernel lets it go";
                tell(
                    &*world.observer,
                    Severity::Warning,
                    source.display_name().to_owned(),
                    format!("{what}; the next run removes it"),
                );
                hold_open();
                return Err(out_of_time(true));
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => return Err(BackupError::Thread(std::io::Error::other("it ended without a result"))),
            },
        }
    };
    match result {
        Err(BackupError::Cancelled) if world.cancel.is_out_of_time() => Err(out_of_time(false)),
        other => other,
    }
}
