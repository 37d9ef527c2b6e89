//! The reasons to end a night: a signal, a lost destination, the time limits of the run, of the day and of a volume.

use std::fmt;
use std::time::Duration;

use super::destination::is_present;
use super::night::Night;
use crate::report::{Abort, RunReport};
use crate::run::backup::TimeLimit;

/// Why no further volume is started.
pub(super) struct Stop {
    pub(super) why: String,
    /// The time for the run, or of the day, is over; otherwise the run is aborted.
    pub(super) is_out_of_time: bool,
}

impl Stop {
    fn out_of_time(why: &dyn fmt::Display) -> Self {
        Self { why: format!("not backed up in time: {why}"), is_out_of_time: true }
    }
}

impl Night<'_> {
    /// Why no further volume is started. A run for named volumes was asked for now, whatever the time of day.
    pub(super) fn reason_to_stop(&self, report: &mut RunReport) -> Option<Stop> {
        self.end_of_run(report).or_else(|| {
            let window = self.config.window;
            let closed = window.closed(self.started, self.world.clock.now()).filter(|_| self.is_whole())?;
            Some(Stop::out_of_time(&closed))
        })
    }

    /// Why the run ends: a cancellation, the loss of the destination, its time limit.
    pub(super) fn end_of_run(&self, report: &mut RunReport) -> Option<Stop> {
        if report.aborted.is_none() {
            if self.world.cancel.is_cancelled() {
                report.aborted = Some(Abort::Other("stopped by a signal".to_owned()));
            } else if !is_present(self.config, self.destination) {
                report.aborted = Some(Abort::NotMounted);
            }
        }
        let why = match &report.aborted {
            Some(Abort::NotMounted) => "the backup volume is not mounted".to_owned(),
            Some(Abort::Other(why)) => why.clone(),
            None => return self.reached_limit().map(|why| Stop::out_of_time(&why)),
        };
        Some(Stop { why, is_out_of_time: false })
    }

    /// That the run reached its time limit.
    pub(super) fn reached_limit(&self) -> Option<String> {
        let duration = self.config.max_run.filter(|limit| self.began.elapsed() >= *limit)?;
        let limit = TimeLimit { duration, name: "max_run_hours".to_owned() };
        Some(format!("the run reached its limit of {limit}"))
    }

    /// The time limit of the next volume: the configured one, at most the rest of the run's. Without a configured
    /// limit, part of the time is left for other waiting volumes, so that one that hangs does not prevent their
    /// backups.
    pub(super) fn time_limit(&self, configured: Option<Duration>, others_wait: bool) -> Option<TimeLimit> {
        let configured = configured.map(|duration| TimeLimit { duration, name: "max_volume_hours".to_owned() });
        let Some(max_run) = self.config.max_run else { return configured };
        let left = max_run.saturating_sub(self.began.elapsed());
        match configured {
            Some(limit) if limit.duration < left => Some(limit),
            None if others_wait => Some(TimeLimit {
                duration: left * 3 / 4,
                name: "three quarters of the time left of max_run_hours, since other volumes wait; set max_volume_hours to change it"
                    .to_owned(),
            }),
            _ => Some(TimeLimit { duration: left, name: "the time left of max_run_hours".to_owned() }),
        }
    }
}
