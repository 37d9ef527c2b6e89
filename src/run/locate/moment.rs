//! Dates that name backups.

use chrono::{Local, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use crate::store::catalog::{BackupState, CatalogEntry};
use crate::store::without_run;

/// A day, a second of it, or a microsecond of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) struct Moment {
    day: NaiveDate,
    time: Option<NaiveTime>,
    microsecond: Option<u32>,
}

impl Moment {
    /// Parses a typed date: `2026-11-20`, `20_11_2026`, `today`, `yesterday`; followed by `_HHMMSS` or `THH:MM:SS`
    /// for one second of that day, and by `.ffffff` for a microsecond of that.
    pub(in crate::run) fn parse(text: &str, today: NaiveDate) -> Option<Self> {
        match text {
            "today" => return Some(Self { day: today, time: None, microsecond: None }),
            "yesterday" => return Some(Self { day: today.pred_opt()?, time: None, microsecond: None }),
            _ => {}
        }
        if let Some((second, fraction)) = text.split_once('.') {
            let is_plain = fraction.len() == 6 && fraction.bytes().all(|byte| byte.is_ascii_digit());
            let second = Self::parse(second, today).filter(|second| is_plain && second.time.is_some())?;
            return Some(Self { microsecond: fraction.parse().ok(), ..second });
        }
        if let Some(named) = Self::of_name(text) {
            return Some(named);
        }
        let (date, time) = match text.split_once(['T', '_']) {
            Some((date, time)) => (date, Some(parse_time(&time.replace(':', ""))?)),
            None => (text, None),
        };
        let is_plain = date.len() == 10 && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let day = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok().filter(|_| is_plain)?;
        Some(Self { day, time, microsecond: None })
    }

    /// Parses a date in a file name: `20_11_2026` or `20_11_2026_010203`, and in an object store
    /// `20_11_2026_010203_0123456789ab`.
    pub(in crate::run) fn of_name(text: &str) -> Option<Self> {
        let (date, time) = match without_run(text).split_at_checked(10)? {
            (date, "") => (date, None),
            (date, time) => (date, Some(parse_time(time.strip_prefix('_')?)?)),
        };
        let is_plain = date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
        let day = NaiveDate::parse_from_str(date, "%d_%m_%Y").ok().filter(|_| is_plain)?;
        Some(Self { day, time, microsecond: None })
    }

    /// The day, and the time if it is a second of it.
    pub(in crate::run) fn parts(self) -> (NaiveDate, Option<NaiveTime>) {
        (self.day, self.time)
    }

    /// Whether this is that day, second or microsecond.
    pub(in crate::run) fn is_at(self, at: NaiveDateTime) -> bool {
        at.date() == self.day
            && self.time.is_none_or(|time| at.time().with_nanosecond(0) == Some(time))
            && self.microsecond.is_none_or(|microsecond| at.time().nanosecond() / 1000 == microsecond)
    }

    /// Whether the backup is from this day or second. The name of a day's first backup has no time; its manifest
    /// has it.
    pub(super) fn is_of(self, entry: &CatalogEntry, volume: &str) -> bool {
        let name = entry.stem.strip_prefix(volume).and_then(|rest| rest.strip_prefix('_'));
        let Some(named) = name.and_then(Self::of_name) else { return false };
        let begun = match &entry.state {
            BackupState::Complete { manifest } => manifest.started_at.with_timezone(&Local).time().with_nanosecond(0),
            _ => None,
        };
        let second = named.time.or(begun);
        named.day == self.day && self.time.is_none_or(|time| second == Some(time))
    }
}

fn parse_time(digits: &str) -> Option<NaiveTime> {
    let is_plain = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    NaiveTime::parse_from_str(digits, "%H%M%S").ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, NaiveDateTime};

    use super::Moment;

    fn parse(text: &str) -> Option<Moment> {
        Moment::parse(text, "2026-11-21".parse::<NaiveDate>().unwrap())
    }

    #[test]
    fn dates_are_written_in_several_ways() {
        let day = parse("2026-11-20").unwrap();
        assert_eq!(day.time, None);
        for same in ["20_11_2026", "yesterday"] {
            assert_eq!(parse(same), Some(day), "{same}");
        }
        let second = parse("20_11_2026_010203").unwrap();
        assert_eq!((second.day, second.time.is_some()), (day.day, true));
        let fraction = parse("20_11_2026_010203.000456").unwrap();
        assert_eq!((fraction.time, fraction.microsecond), (second.time, Some(456)));
        let at = |text: &str| text.parse::<NaiveDateTime>().unwrap();
        assert!(
            fraction.is_at(at("2026-11-20T01:02:03.000456789")) && second.is_at(at("2026-11-20T01:02:03.000456789"))
        );
        assert!(!fraction.is_at(at("2026-11-20T01:02:03.000457")));
        for same in ["2026-11-20_010203", "2026-11-20T01:02:03", "2026-11-20T010203"] {
            assert_eq!(parse(same), Some(second), "{same}");
        }
        for wrong in [
            "",
            "soon",
            "20_11",
            "2026-1-20",
            "2026-11-20T1",
            "a_b_c",
            "2026-02-30",
            "20_11_2026_",
            "20_11_2026.000456",
            "20_11_2026_010203.456",
            "20_11_2026_010203.000456.000456",
            "+1_11_2026",
            "2026-11-20_256060",
            "ä0_11_2026",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
