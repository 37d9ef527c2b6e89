//! The reasons to end a night: a signal, a lost destination, the time limits of the run and of a volume.

use std::time::Duration;

use super::destination::is_present;
use super::night::Night;
use crate::report::{Abort, RunReport};
use crate::run::backup::TimeLimit;

impl Night<'_> {
    /// Why no further volume is started. The loss of the destination and a cancellation end the whole run.
    pub(super) fn reason_to_stop(&self, report: &mut RunReport) -> Option<String> {
        if report.aborted.is_none() {
            if self.world.cancel.is_cancelled() {
                report.aborted = Some(Abort::Other("stopped by a signal".to_owned()));
            } else if !is_present(self.config, self.destination) {
                report.aborted = Some(Abort::NotMounted);
            }
        }
        match &report.aborted {
            Some(Abort::NotMounted) => Some("the backup volume is not mounted".to_owned()),
            Some(Abort::Other(why)) => Some(why.clone()),
            None => self.config.max_run.filter(|limit| self.began.elapsed() >= *limit).map(|limit| {
                format!("the run reached its limit of {} h (max_run_hours)", limit.as_secs_f64() / 3600.0)
            }),
        }
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
                name: "three quarters of what was left of max_run_hours, since others wait; max_volume_hours sets it"
                    .to_owned(),
            }),
            _ => Some(TimeLimit { duration: left, name: "what was left of max_run_hours".to_owned() }),
        }
    }
}
