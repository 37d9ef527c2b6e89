//! Exceptions for single volumes: the tables `[volume."NAME"]`.

use std::time::Duration;

use super::expect::Expectation;
use super::options::VolumeOptions;
use super::pattern::Pattern;
use crate::archive::level::CompressionLevel;
use crate::source::SnapshotSize;

/// What one `[volume."NAME"]` changes for the volumes that its name matches; `None` leaves the general setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeException {
    /// The name, which may be a pattern.
    pub pattern: Pattern,
    /// Whether these volumes are left out (`true`), or not although a wildcard's exception says so (`false`).
    pub skip: Option<bool>,
    /// In place of `max_volume_hours`.
    pub max_volume: Option<Duration>,
    /// In place of `max_volume_size`.
    pub max_volume_size: Option<u64>,
    /// In place of `snapshot_max_size`.
    pub snapshot_max_size: Option<SnapshotSize>,
    /// In place of `archive.level`.
    pub level: Option<CompressionLevel>,
    /// In place of `archive.exclude`.
    pub exclude: Option<Vec<String>>,
    /// In place of `backups_retention_days`.
    pub backups_retention_days: Option<u32>,
    /// In place of `retention.keep_last`.
    pub keep_last: Option<u32>,
    /// In place of `retention.keep_daily`.
    pub keep_daily: Option<u32>,
    /// In place of `retention.keep_weekly`.
    pub keep_weekly: Option<u32>,
    /// In place of `retention.keep_monthly`.
    pub keep_monthly: Option<u32>,
    /// In place of `retention.keep_yearly`.
    pub keep_yearly: Option<u32>,
    /// In place of `retention.gone_days`; where it is below the volume's retention, that counts.
    pub gone_days: Option<u32>,
    /// In place of `sudden_change.enabled`.
    pub sudden_change: Option<bool>,
    /// In place of `hooks.before_snapshot`.
    pub before_snapshot: Option<Vec<Vec<String>>>,
    /// In place of `hooks.after_snapshot`.
    pub after_snapshot: Option<Vec<Vec<String>>>,
    /// In place of `hooks.timeout_seconds`.
    pub hook_timeout: Option<Duration>,
    /// What these volumes hold that is no problem.
    pub expect: Option<Vec<Expectation>>,
}

impl VolumeException {
    /// Puts what is set here over `options`.
    pub(super) fn apply(&self, options: &mut VolumeOptions) {
        fn put<T: Clone>(into: &mut T, from: Option<&T>) {
            if let Some(value) = from {
                into.clone_from(value);
            }
        }
        options.max_time = self.max_volume.or(options.max_time);
        options.max_bytes = self.max_volume_size.or(options.max_bytes);
        put(&mut options.snapshot.snapshot_size, self.snapshot_max_size.as_ref());
        put(&mut options.archive.level, self.level.as_ref());
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
        put(&mut options.expect, self.expect.as_ref());
    }
}
