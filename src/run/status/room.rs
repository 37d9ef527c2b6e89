//! The room in the destination, and how long it will last by the records of past nights.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::run::reports;
use crate::store::Destination;
use crate::store::presence::Space;

/// Nights that are looked at.
const NIGHTS: usize = 60;
/// With fewer nights, or over fewer days, nothing is said.
const FEWEST_NIGHTS: usize = 5;
const FEWEST_DAYS: f64 = 4.0;
/// A later day is no forecast any more.
const MOST_DAYS: f64 = 3650.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// The room in the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Used space of its filesystem.
    pub used_bytes: u64,
    /// Space available to users.
    pub available_bytes: u64,
    /// Days until it is full, if it fills as in past nights; `None` if that cannot be known, or it does not fill.
    pub full_in_days: Option<u64>,
}

/// Days until the destination is full, by the reports of past nights, and by what is used `now` if their reports lack it.
pub(in crate::run) fn forecast(destination: &Destination, space: &Space, now: Option<DateTime<Utc>>) -> Option<u64> {
    let mut past = reports::usage_of_nights(destination, NIGHTS);
    past.extend(now.map(|now| (now, space.used_bytes)));
    full_in_days(&past, space.available_bytes)
}

/// Days until `available_bytes` are used, by the straight line that fits the used space of past nights best.
#[allow(clippy::cast_precision_loss, reason = "a forecast")]
fn full_in_days(past: &[(DateTime<Utc>, u64)], available_bytes: u64) -> Option<u64> {
    let first = past.iter().map(|(at, _)| *at).min()?;
    let points: Vec<(f64, f64)> =
        past.iter().map(|(at, used)| ((*at - first).num_seconds() as f64 / SECONDS_PER_DAY, *used as f64)).collect();
    let span = points.iter().map(|(day, _)| *day).fold(0.0, f64::max);
    if points.len() < FEWEST_NIGHTS || span < FEWEST_DAYS {
        return None;
    }
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_day, mean_used) = (mean(&|point| point.0), mean(&|point| point.1));
    let spread = mean(&|point| (point.0 - mean_day).powi(2));
    let together = mean(&|point| (point.0 - mean_day) * (point.1 - mean_used));
    let bytes_per_day = together / spread;
    let days = (available_bytes as f64 / bytes_per_day).floor();
    let is_known = bytes_per_day > 0.0 && days.is_finite() && days <= MOST_DAYS;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to MOST_DAYS")]
    is_known.then_some(days as u64)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration, Utc};

    use super::full_in_days;

    fn nights(used: &[u64]) -> Vec<(DateTime<Utc>, u64)> {
        let first = DateTime::<Utc>::UNIX_EPOCH;
        used.iter().zip(0..).map(|(used, day)| (first + Duration::days(day), *used)).collect()
    }

    #[test]
    fn the_line_through_past_nights_says_when_it_is_full() {
        assert_eq!(full_in_days(&nights(&[100, 110, 120, 130, 140, 150]), 125), Some(12));
        // A night in which old backups were removed does not hide the growth.
        assert_eq!(full_in_days(&nights(&[100, 120, 110, 130, 120, 140]), 600).map(|days| days > 80), Some(true));
    }

    #[test]
    fn nothing_is_said_where_it_cannot_be_known() {
        assert_eq!(full_in_days(&[], 100), None);
        assert_eq!(full_in_days(&nights(&[100, 110, 120, 130]), 100), None, "too few nights");
        assert_eq!(full_in_days(&nights(&[150, 140, 130, 120, 110]), 100), None, "it empties");
        assert_eq!(full_in_days(&nights(&[100; 6]), 100), None, "it does not fill");
        let of_one_day: Vec<_> = (0..6).map(|hour| (DateTime::UNIX_EPOCH + Duration::hours(hour), 100)).collect();
        assert_eq!(full_in_days(&of_one_day, 100), None);
    }
}
