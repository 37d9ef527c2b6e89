//! How an object store is reached.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};

use crate::manifest::{LockMode, LockedRecord};

/// The settings of an object store: the table `[store]` of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The store's address; that of the environment or the profile if `None`.
    pub endpoint: Option<String>,
    /// The region; that of the environment or the profile if `None`.
    pub region: Option<String>,
    /// Whether the bucket is in the path of addresses, and not in their host name.
    pub path_style: bool,
    /// A file with the authorities that sign the server's certificate; the system's if `None`.
    pub ca_file: Option<PathBuf>,
    /// A file of profiles with the credentials; the environment, then the usual files if `None`.
    pub credentials_file: Option<PathBuf>,
    /// The profile; `AWS_PROFILE`, or `default` if `None`.
    pub profile: Option<String>,
    /// For `swift://`: the name of a cloud in clouds.yaml; `OS_CLOUD`, or the variables `OS_*`, if `None`.
    pub cloud: Option<String>,
    /// For `swift://`: the clouds.yaml; the usual places if `None`.
    pub clouds_file: Option<PathBuf>,
    /// For `swift://`: the interface of the catalogue; that of the cloud if `None`.
    pub interface: Option<String>,
    /// The proxy; that of the environment if `None`.
    pub proxy: Option<String>,
    /// Bytes per second that are sent at most.
    pub upload_rate_limit: Option<u64>,
    /// A directory of this host for indexes and manifests that were read.
    pub cache_directory: PathBuf,
    /// The time for one request with all its repetitions.
    pub deadline: Duration,
    /// The lock of new backups; none if `None`.
    pub lock: Option<LockOptions>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: true,
            ca_file: None,
            credentials_file: None,
            profile: None,
            cloud: None,
            clouds_file: None,
            interface: None,
            proxy: None,
            upload_rate_limit: None,
            cache_directory: PathBuf::from("/var/cache/volbak"),
            deadline: Duration::from_secs(300),
            lock: None,
        }
    }
}

/// `lock` and its durations in `[store]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// Who may end a lock earlier.
    pub mode: LockMode,
    /// Days for which each backup is locked.
    pub days: u32,
    /// Days for the first backup of a volume in an ISO week; `days` if that is longer.
    pub weekly_days: u32,
    /// The same for a month.
    pub monthly_days: u32,
    /// The same for a year.
    pub yearly_days: u32,
}

impl LockOptions {
    /// The lock of a backup of this date, if the newest backup before it has the date `before`.
    pub(super) fn lock(&self, now: DateTime<Utc>, date: NaiveDate, before: Option<NaiveDate>) -> LockedRecord {
        let is_first = |period: fn(NaiveDate) -> (i32, u32)| before.is_none_or(|before| period(before) != period(date));
        let of_class = |is_first: bool, days: u32| if is_first { days } else { 0 };
        let days = self
            .days
            .max(of_class(is_first(|date| (date.iso_week().year(), date.iso_week().week())), self.weekly_days))
            .max(of_class(is_first(|date| (date.year(), date.month())), self.monthly_days))
            .max(of_class(is_first(|date| (date.year(), 0)), self.yearly_days));
        let until = now.checked_add_signed(TimeDelta::days(days.into())).unwrap_or(DateTime::<Utc>::MAX_UTC);
        // Stores keep whole seconds.
        LockedRecord { mode: self.mode, until: DateTime::from_timestamp(until.timestamp(), 0).unwrap_or(until) }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate, TimeDelta};

    use super::{LockMode, LockOptions};

    #[test]
    fn the_first_of_a_period_is_locked_for_its_class() {
        let date = |text: &str| text.parse::<NaiveDate>().unwrap();
        let options =
            LockOptions { mode: LockMode::Compliance, days: 7, weekly_days: 30, monthly_days: 100, yearly_days: 400 };
        let now = DateTime::from_timestamp(1_795_000_000, 999_000_000).unwrap();
        for (before, new, days) in [
            (None, "2026-11-20", 400),
            (Some("2025-12-31"), "2026-01-01", 400),
            (Some("2026-10-31"), "2026-11-01", 100),
            // A Sunday, and the Monday after it.
            (Some("2026-11-15"), "2026-11-16", 30),
            (Some("2026-11-16"), "2026-11-17", 7),
            (Some("2026-11-17"), "2026-11-17", 7),
        ] {
            let lock = options.lock(now, date(new), before.map(date));
            assert_eq!(
                lock.until,
                DateTime::from_timestamp(1_795_000_000, 0).unwrap() + TimeDelta::days(days),
                "{new}"
            );
        }
        let none = LockOptions { weekly_days: 0, monthly_days: 0, yearly_days: 0, ..options };
        assert_eq!((none.lock(now, date("2026-11-20"), None).until - now).num_days(), 6);
    }
}
