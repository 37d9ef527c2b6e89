//! The settings of `[retention]`.

/// How long a source's backups are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The maximum age in days at which a backup is kept by age.
    pub retention_days: u32,
    /// The number of newest backups to keep whatever their age.
    pub keep_last: u32,
    /// The number of most recent days with a backup whose newest backup is kept.
    pub keep_daily: u32,
    /// The number of most recent ISO weeks with a backup whose newest backup is kept.
    pub keep_weekly: u32,
    /// The number of most recent months with a backup whose newest backup is kept.
    pub keep_monthly: u32,
    /// The number of most recent years with a backup whose newest backup is kept.
    pub keep_yearly: u32,
    /// The backups of a gone source are kept until the newest is older than this many days.
    pub gone_days: u32,
    /// Whether even the last good backup of a gone source is removed after `gone_days`.
    pub remove_last_of_gone: bool,
}

/// A week.
impl Default for Policy {
    fn default() -> Self {
        Self::days(7)
    }
}

impl Policy {
    /// Keeps by age only. The backups of a gone source are kept for 90 days, or `retention_days` if that is longer.
    pub fn days(retention_days: u32) -> Self {
        Self {
            retention_days,
            keep_last: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
            gone_days: retention_days.max(90),
            remove_last_of_gone: false,
        }
    }
}
