//! A night in progress: its selection, its services, and its reports of problems.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::events::{Event, Observer, Problem, Severity, SourceName};
use crate::outside::rate::Rate;
use crate::run::backup::BackupWorld;
use crate::run::cloud::night::NightCloud;
use crate::run::collect::Collector;
use crate::store::Destination;

/// The selection of a night.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NightOptions {
    /// Only these volumes, `LV` or `VG/LV`, whatever the config's patterns say; all if empty.
    pub only: Vec<String>,
    /// All steps for one volume: the smallest, or the first of `only`.
    pub test: bool,
    /// Remove old backups even if that is more than half of all.
    pub force: bool,
    /// Restore some backups for a test, though it is not due or not enabled.
    pub rehearse: bool,
    /// The `run_id` of this run's log lines; the report names it.
    pub run_id: Option<String>,
}

/// A night in progress.
#[derive(Clone, Copy)]
pub(super) struct Night<'a> {
    pub(super) config: &'a Config,
    pub(super) options: &'a NightOptions,
    pub(super) world: &'a BackupWorld,
    pub(super) destination: &'a Destination,
    pub(super) collector: &'a Arc<Collector>,
    pub(super) began: Instant,
    pub(super) started: DateTime<Utc>,
    pub(super) cloud: &'a NightCloud,
    /// The limit of reading, for all volumes together.
    pub(super) read_rate: Option<&'a Arc<Rate>>,
    /// The number of volumes that are backed up at the same time.
    pub(super) at_once: usize,
}

impl Night<'_> {
    pub(super) fn tell(&self, severity: Severity, location: &str, what: impl Into<String>) {
        self.collector.on_event(&Event::Problem(Problem::new(severity, location, what)));
    }

    /// Reports a problem of a volume that is not being backed up at the moment.
    pub(super) fn tell_of(&self, source: SourceName, problem: Problem) {
        self.collector.on_event(&Event::ProblemOf { source, problem });
    }

    /// Whether this night is for all volumes.
    pub(super) fn is_whole(&self) -> bool {
        self.options.only.is_empty() && !self.is_test()
    }

    pub(super) fn is_test(&self) -> bool {
        self.options.test || self.config.lvm_test_mode
    }
}
