//! A backup in progress: the values common to its steps.

use std::sync::Arc;

use chrono::{DateTime, Local, Utc};

use super::earlier::EarlierBackups;
use super::error::BackupError;
use super::options::{BackupOptions, BackupWorld};
use crate::archive::write::WriteOptions;
use crate::encryption::{EncryptionOptions, Signer};
use crate::events::{Event, Observer, Severity};
use crate::layout::{Layout, detect};
use crate::manifest::SourceRecord;
use crate::outside::BlockRead;
use crate::run::collect::{Collector, tell};
use crate::run::expected::Expected;
use crate::run::parent::Sought;
use crate::source::{SnapshotGuard, Source};
use crate::store::Destination;
use crate::store::shared::ArchiveLayout;

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
    /// The key for signing, of an encrypted backup.
    pub(super) signer: Option<Signer>,
}

impl UnderWay<'_> {
    /// Reports the next step.
    pub(super) fn step(&self, step: &str) {
        self.collector.on_event(&Event::Step { step: step.to_owned() });
    }

    /// Reads the layout of the frozen source, and reports its problems.
    pub(super) fn read_layout(&self, blocks: &dyn BlockRead, guard: &SnapshotGuard) -> Result<Layout, BackupError> {
        let layout = detect(blocks, self.source.display_name(), Some(guard.sector_size_bytes()))?;
        let expected = Expected(&self.options.expect);
        for problem in &layout.problems {
            self.collector.on_event(&Event::Problem(expected.weighed(problem.clone(), &layout.regions)));
        }
        Ok(layout)
    }

    /// How an archive of the frozen source is written: until it is cancelled, or its snapshot fails.
    pub(super) fn write_options(&self, guard: &SnapshotGuard) -> WriteOptions {
        let (cancel, health) = (self.world.cancel.clone(), guard.health_flag());
        WriteOptions {
            level: self.options.archive.level,
            compression: self.options.kind().compression(),
            recipients: self.encryption().map(|encryption| encryption.recipients.clone()),
            threads: self.options.threads(),
            has_fine_members: self.options.archive.layout == ArchiveLayout::Shared,
            stop: Arc::new(move || cancel.is_cancelled() || health.is_failed()),
        }
    }

    /// How the backup is encrypted.
    pub(super) fn encryption(&self) -> Option<&EncryptionOptions> {
        self.options.archive.encryption.as_ref()
    }

    /// The previous backup that is sought, for `source`, the record of [`Self::source`].
    pub(super) fn sought<'a>(&'a self, source: &'a SourceRecord) -> Sought<'a> {
        Sought {
            source,
            kind: self.options.kind(),
            name: self.source.backup_name(),
            encryption: self.encryption(),
            level: self.options.archive.level,
            layout: self.options.archive.layout,
            choice: &self.options.parent,
            full_read_every_days: self.options.archive.full_read_every_days,
            today: self.started_at.with_timezone(&Local).date_naive(),
            now: self.started_at,
        }
    }

    /// Reports a problem of the source as a whole.
    pub(super) fn tell(&self, severity: Severity, what: impl Into<String>) {
        tell(&**self.collector, severity, self.source.display_name().to_owned(), what);
    }
}
