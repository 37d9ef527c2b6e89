//! A backup in progress: the values common to its steps.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::earlier::EarlierBackups;
use super::options::{BackupOptions, BackupWorld};
use crate::events::{Event, Observer, Severity};
use crate::run::collect::{Collector, tell};
use crate::source::Source;
use crate::store::Destination;

/// A backup in progress.
pub(super) struct UnderWay<'a> {
    pub(super) source: &'a Source,
    pub(super) destination: &'a Destination,
    /// The existing backups.
    pub(super) backups: &'a EarlierBackups<'a>,
    pub(super) options: &'a BackupOptions,
    pub(super) world: &'a BackupWorld,
    pub(super) collector: &'a Arc<Collector>,
    pub(super) started_at: DateTime<Utc>,
}

impl UnderWay<'_> {
    /// Reports the next step.
    pub(super) fn step(&self, step: &str) {
        self.collector.on_event(&Event::Step { step: step.to_owned() });
    }

    /// Reports a problem of the source as a whole.
    pub(super) fn tell(&self, severity: Severity, what: impl Into<String>) {
        tell(&**self.collector, severity, self.source.display_name().to_owned(), what);
    }
}
