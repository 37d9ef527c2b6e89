//! The time of day in which volumes are begun: `start_after` and `start_before`.

use std::fmt;

use chrono::{DateTime, Local, NaiveTime, TimeDelta, TimeZone, Utc};

use super::section::Section;

/// The time of day in which a run begins volumes, in the host's time zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// Without it, the window opens with the run.
    pub(crate) start_after: Option<NaiveTime>,
    pub(crate) start_before: Option<NaiveTime>,
}

/// A time of day that a run is outside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed(Window);

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.start_before.unwrap_or_default().format("%H:%M");
        match self.0.start_after.map(|from| from.format("%H:%M")) {
            None => write!(f, "no volume is begun after {end} (start_before)"),
            Some(from) => write!(f, "volumes are begun from {from} to {end} alone (start_after, start_before)"),
        }
    }
}

impl Window {
    /// Whether it limits anything.
    pub(crate) fn is_set(self) -> bool {
        self.start_before.is_some()
    }

    /// Why a run that began at `began` begins no volume at `now`.
    pub(crate) fn closed(self, began: DateTime<Utc>, now: DateTime<Utc>) -> Option<Closed> {
        self.closed_in(&Local, began, now).then_some(Closed(self))
    }

    fn closed_in<Z: TimeZone>(self, zone: &Z, began: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let Some(end) = self.start_before else { return false };
        let time = now.with_timezone(zone).time();
        match self.start_after {
            Some(start) if start < end => time < start || time >= end,
            Some(start) => time < start && time >= end,
            // A clock that was set back does not open it again.
            None => next(zone, end, began).is_some_and(|end| now >= end),
        }
    }
}

/// The first moment after `began` at which the clocks of this zone show `time`, or the first one after a gap in them.
fn next<Z: TimeZone>(zone: &Z, time: NaiveTime, began: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let today = began.with_timezone(zone).date_naive();
    let days = [Some(today), today.succ_opt(), today.succ_opt().and_then(|day| day.succ_opt())];
    days.into_iter().flatten().find_map(|day| {
        // No zone has skipped more than a day at once; clocks are set forward by an hour or less.
        let at = (0..=24).find_map(|quarter| {
            let shown = day.and_time(time).checked_add_signed(TimeDelta::minutes(15 * quarter))?;
            zone.from_local_datetime(&shown).earliest()
        })?;
        Some(at.to_utc()).filter(|at| *at > began)
    })
}

/// Reads both keys.
pub(super) fn read(section: &Section<'_>) -> Window {
    let time = |key: &'static str, right: &str| {
        section.parsed(key, right, |text| {
            let is_form = text.len() == 5 && text.is_ascii();
            is_form.then(|| NaiveTime::parse_from_str(text, "%H:%M").ok()).flatten()
        })
    };
    let window = Window {
        start_after: time("start_after", "write a time of day, like start_after = \"22:00\""),
        start_before: time("start_before", "write a time of day, like start_before = \"05:30\""),
    };
    let mistake = |what: &str, right: &str| section.reading.mistake(&section.place("start_after"), what, right);
    if section.has("start_after") && !section.has("start_before") {
        mistake(
            "`start_after` has no `start_before`",
            "write when the window ends, too, like start_before = \"05:30\"",
        );
    } else if window.start_after.is_some() && window.start_after == window.start_before {
        mistake("`start_after` and `start_before` are the same", "write two times of day, or leave both out");
    }
    window
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset, NaiveTime, Utc};

    use super::Window;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn window(after: Option<&str>, before: &str) -> Window {
        let time = |text: &str| NaiveTime::parse_from_str(text, "%H:%M").unwrap();
        Window { start_after: after.map(time), start_before: Some(time(before)) }
    }

    #[test]
    fn without_a_beginning_it_ends_at_the_next_such_time() {
        let zone = FixedOffset::east_opt(2 * 3600).unwrap();
        let is_closed = |began: &str, now: &str| window(None, "06:00").closed_in(&zone, at(began), at(now));
        // 22:00 in that zone.
        let began = "2026-11-28T20:00:00Z";
        assert!(!is_closed(began, "2026-11-29T03:59:59Z"));
        assert!(is_closed(began, "2026-11-29T04:00:00Z"));
        assert!(is_closed(began, "2026-11-29T21:00:00Z"), "it stays closed for this run");
        assert!(!is_closed("2026-11-29T04:00:00Z", "2026-11-29T05:00:00Z"), "a run by day was asked for");
        assert!(!Window::default().closed_in(&zone, at(began), at("2026-12-29T05:00:00Z")));
    }

    #[test]
    fn with_a_beginning_a_late_run_begins_nothing() {
        let is_closed = |window: Window, now: &str| window.closed_in(&Utc, at(now), at(now));
        let night = window(Some("22:00"), "06:00");
        for (now, closed) in [("21:59", true), ("22:00", false), ("00:00", false), ("05:59", false), ("06:00", true)] {
            assert_eq!(is_closed(night, &format!("2026-11-29T{now}:00Z")), closed, "{now}");
        }
        let day = window(Some("12:00"), "13:00");
        for (now, closed) in [("11:59", true), ("12:00", false), ("12:59", false), ("13:00", true), ("00:00", true)] {
            assert_eq!(is_closed(day, &format!("2026-11-29T{now}:00Z")), closed, "{now}");
        }
    }
}
