//! A night under way: what it is for, what it works with, and whom its problems go to.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::events::{Event, Observer, Problem, Severity, SourceName};
use crate::run::backup::BackupWorld;
use crate::run::collect::Collector;
use crate::store::Destination;

/// What of a night is wanted.
#[derive(Clone, Debug, Default)]
pub struct NightOptions {
    /// Only these volumes, `LV` or `VG/LV`, whatever the config's patterns say; all when empty.
    pub only: Vec<String>,
    /// The whole chain for one volume: the smallest, or the first of `only`.
    pub test: bool,
    /// Remove old backups even when that is more than half of all.
    pub force: bool,
    /// What the log lines of this run have as their `run_id`; the report names it.
    pub run_id: Option<String>,
}

/// A night under way.
pub(super) struct Night<'a> {
    pub(super) config: &'a Config,
    pub(super) options: &'a NightOptions,
    pub(super) world: &'a BackupWorld,
    pub(super) destination: &'a Destination,
    pub(super) collector: &'a Arc<Collector>,
    pub(super) began: Instant,
}

impl Night<'_> {
    pub(super) fn tell(&self, severity: Severity, location: &str, what: impl Into<String>) {
        self.collector.on_event(&Event::Problem(Problem::new(severity, location, what)));
    }

    /// A problem of a volume that is not being worked on.
    pub(super) fn tell_of(&self, source: SourceName, problem: Problem) {
        self.collector.on_event(&Event::ProblemOf { source, problem });
    }

    /// Whether this night is for all that there is.
    pub(super) fn is_whole(&self) -> bool {
        self.options.only.is_empty() && !self.is_test()
    }

    pub(super) fn is_test(&self) -> bool {
        self.options.test || self.config.lvm_test_mode
    }
}
