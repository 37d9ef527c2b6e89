//! The lock of a new backup in an object store: until when nobody may delete its files.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};

use super::api::Store;
use super::error::StoreError;
use super::pending::MANIFEST;
use crate::manifest::{LockMode, LockedRecord};

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
    fn lock(&self, now: DateTime<Utc>, date: NaiveDate, before: Option<NaiveDate>) -> LockedRecord {
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

/// Has the store lock the files of a new backup of the volume `name`, if its options ask for that. The files are published
/// later. Fails if the store has no lock.
pub(super) fn begin(
    volume: &dyn Store,
    name: &str,
    stem: &str,
    date: NaiveDate,
) -> Result<Option<LockedRecord>, StoreError> {
    let Some(options) = volume.lock_options() else { return Ok(None) };
    let of_manifest = |file: &String| {
        let stem = file.strip_suffix(MANIFEST)?.strip_prefix(name)?.strip_prefix('_')?;
        NaiveDate::parse_from_str(stem.get(.."DD_MM_YYYY".len())?, "%d_%m_%Y").ok()
    };
    let before = volume.list()?.files.iter().filter_map(of_manifest).max();
    let lock = options.lock(Utc::now(), date, before);
    volume.lock_files(stem, lock)?;
    Ok(Some(lock))
}

/// The same for a copy of a backup of this date.
pub(crate) fn lock_of_copy(
    volume: &dyn Store,
    name: &str,
    stem: &str,
    date: NaiveDate,
) -> Result<Option<LockedRecord>, StoreError> {
    begin(volume, name, stem, date)
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
