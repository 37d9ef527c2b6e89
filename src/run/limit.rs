//! The time that one volume's backup may take, also where what it waits for never answers.
//!
//! A backup looks at its `Cancel` between two pieces of work, and ends by itself soon after its time is over. One that
//! hangs in a read or a write cannot: it is left behind in its thread, which takes its snapshot away when the kernel lets
//! it go on, and publishes nothing any more.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::backup::{BackupError, BackupOptions, BackupOutcome, BackupWorld, work};
use crate::events::Severity;
use crate::source::Source;
use crate::store::local::Destination;

/// How long a backup whose time is over may take to end and to remove its snapshot.
const GRACE: Duration = Duration::from_secs(15);

/// How long a backup may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLimit {
    /// From its begin on.
    pub duration: Duration,
    /// What set it, as the user knows it: `max_volume_hours`.
    pub name: String,
}

impl std::fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.duration.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds} s")?,
            (0, minutes) => write!(f, "{minutes} min")?,
            (hours, minutes) => write!(f, "{hours} h {minutes} min")?,
        }
        write!(f, " ({})", self.name)
    }
}

/// As [`work`], for no longer than `limit`.
pub(super) fn work_within(
    limit: &TimeLimit,
    source: &Source,
    destination: &Destination,
    options: &BackupOptions,
    world: &BackupWorld,
) -> Result<BackupOutcome, BackupError> {
    let deadline = Instant::now().checked_add(limit.duration);
    let within = BackupWorld {
        cancel: deadline.map_or_else(|| world.cancel.clone(), |deadline| world.cancel.until(deadline)),
        ..world.clone()
    };
    let out_of_time = |is_hanging| BackupError::OutOfTime { limit: limit.to_string(), is_hanging };
    let (done, result) = sync_channel(1);
    let thread = {
        let (source, options, world) = (source.clone(), options.clone(), within.clone());
        let destination = destination.try_clone()?;
        let worked = move || {
            // The other end is gone when it was left behind.
            let _ = done.send(work(&source, &destination, &options, &world));
        };
        std::thread::Builder::new().name("backup".to_owned()).spawn(worked).map_err(BackupError::Thread)?
    };
    let result = loop {
        // Short enough to see a wish to stop, too.
        let patience = within.cancel.since().map_or(Duration::from_millis(500), |since| GRACE.saturating_sub(since));
        match result.recv_timeout(patience) {
            Ok(result) => break result,
            Err(RecvTimeoutError::Timeout) if within.cancel.since().is_none_or(|since| since < GRACE) => {}
            Err(RecvTimeoutError::Timeout) => {
                let what = "a read or a write hangs: its snapshot, if it has one, stays until the kernel lets it go";
                super::collect::tell(
                    &*world.observer,
                    Severity::Warning,
                    source.display_name().to_owned(),
                    format!("{what}; the next run removes it"),
                );
                super::left_behind::hold_open();
                return Err(out_of_time(true));
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => return Err(BackupError::Thread(std::io::Error::other("it ended without a result"))),
            },
        }
    };
    match result {
        Err(BackupError::Cancelled) if within.cancel.is_out_of_time() => Err(out_of_time(false)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::TimeLimit;

    #[test]
    fn a_limit_is_shown_as_people_say_it() {
        let shown = |seconds| TimeLimit { duration: Duration::from_secs(seconds), name: "x".to_owned() }.to_string();
        assert_eq!([shown(18), shown(90), shown(19_800)], ["18 s (x)", "1 min (x)", "5 h 30 min (x)"]);
    }
}
