//! Exceptions for volumes: the tables `[volume."NAME"]`.

use std::time::Duration;

use super::expect::Expectation;
use super::options::VolumeOptions;
use super::pattern::Pattern;
use crate::archive::kind::{BackupMode, Compression};
use crate::archive::level::CompressionLevel;
use crate::source::SnapshotSize;

/// A `[volume."NAME"]`: the settings that it changes for the volumes that match; `None` keeps the general setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeException {
    /// The name, which may be a pattern.
    pub pattern: Pattern,
    /// Whether their files are backed up, or an image of each.
    pub mode: Option<BackupMode>,
    /// Whether these volumes are excluded (`true`), or included although a wildcard's exception excludes them
    /// (`false`).
    pub skip: Option<bool>,
    /// Replaces `max_volume_hours`.
    pub max_volume: Option<Duration>,
    /// Replaces `max_volume_size`.
    pub max_volume_size: Option<u64>,
    /// Replaces `snapshot_max_size`.
    pub snapshot_max_size: Option<SnapshotSize>,
    /// Replaces `archive.level`.
    pub level: Option<CompressionLevel>,
    /// Replaces `archive.format`.
    pub format: Option<Compression>,
    /// Replaces `archive.exclude`.
    pub exclude: Option<Vec<String>>,
    /// Replaces `backups_retention_days`.
    pub backups_retention_days: Option<u32>,
    /// Replaces `retention.keep_last`.
    pub keep_last: Option<u32>,
    /// Replaces `retention.keep_daily`.
    pub keep_daily: Option<u32>,
    /// Replaces `retention.keep_weekly`.
    pub keep_weekly: Option<u32>,
    /// Replaces `retention.keep_monthly`.
    pub keep_monthly: Option<u32>,
    /// Replaces `retention.keep_yearly`.
    pub keep_yearly: Option<u32>,
    /// Replaces `retention.gone_days`, but is at least the volume's retention.
    pub gone_days: Option<u32>,
    /// Replaces `sudden_change.enabled`.
    pub sudden_change: Option<bool>,
    /// Replaces `hooks.before_snapshot`.
    pub before_snapshot: Option<Vec<Vec<String>>>,
    /// Replaces `hooks.after_snapshot`.
    pub after_snapshot: Option<Vec<Vec<String>>>,
    /// Replaces `hooks.timeout_seconds`.
    pub hook_timeout: Option<Duration>,
    /// Replaces `hooks.freeze_limit_seconds`.
    pub freeze_limit: Option<Duration>,
    /// Content that is expected and reported as no problem.
    pub expect: Option<Vec<Expectation>>,
}

impl VolumeException {
    /// The exception that changes the retention alone.
    pub(crate) fn of_retention(pattern: Pattern, days: u32) -> Self {
        Self {
            pattern,
            mode: None,
            skip: None,
            max_volume: None,
            max_volume_size: None,
            snapshot_max_size: None,
            level: None,
            format: None,
            exclude: None,
            backups_retention_days: Some(days),
            keep_last: None,
            keep_daily: None,
            keep_weekly: None,
            keep_monthly: None,
            keep_yearly: None,
            gone_days: None,
            sudden_change: None,
            before_snapshot: None,
            after_snapshot: None,
            hook_timeout: None,
            freeze_limit: None,
            expect: None,
        }
    }

    /// Applies these settings to `options`.
    pub(super) fn apply(&self, options: &mut VolumeOptions) {
        fn put<T: Clone>(into: &mut T, from: Option<&T>) {
            if let Some(value) = from {
                into.clone_from(value);
            }
        }
        put(&mut options.mode, self.mode.as_ref());
        options.max_time = self.max_volume.or(options.max_time);
        options.max_bytes = self.max_volume_size.or(options.max_bytes);
        put(&mut options.snapshot.snapshot_size, self.snapshot_max_size.as_ref());
        put(&mut options.archive.level, self.level.as_ref());
        put(&mut options.archive.format, self.format.as_ref());
        put(&mut options.archive.exclude, self.exclude.as_ref());
        let retention = &mut options.retention;
        put(&mut retention.retention_days, self.backups_retention_days.as_ref());
        put(&mut retention.keep_last, self.keep_last.as_ref());
        put(&mut retention.keep_daily, self.keep_daily.as_ref());
        put(&mut retention.keep_weekly, self.keep_weekly.as_ref());
        put(&mut retention.keep_monthly, self.keep_monthly.as_ref());
        put(&mut retention.keep_yearly, self.keep_yearly.as_ref());
        put(&mut retention.gone_days, self.gone_days.as_ref());
        retention.gone_days = retention.gone_days.max(retention.retention_days);
        put(&mut options.finds_sudden_changes, self.sudden_change.as_ref());
        put(&mut options.hooks.before_snapshot, self.before_snapshot.as_ref());
        put(&mut options.hooks.after_snapshot, self.after_snapshot.as_ref());
        put(&mut options.hooks.timeout, self.hook_timeout.as_ref());
        put(&mut options.hooks.freeze_limit, self.freeze_limit.as_ref());
        put(&mut options.expect, self.expect.as_ref());
    }
}
