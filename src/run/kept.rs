//! Files that each run keeps in the destination: one a run, with its date and time in the name.

use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use std::fmt::Display;

use crate::store::{StoreError, is_run};

/// The end of their names.
pub(super) const SUFFIX: &str = ".json";
const MOMENT: &str = "%Y-%m-%d_%H%M%S";
const MOMENT_CHARS: usize = "YYYY-MM-DD_HHMMSS".len();

/// Why a kept file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError<E: std::error::Error + 'static> {
    /// There is none, or none of that day.
    #[error("{0}")]
    None(String),
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be decoded.
    #[error("{name}")]
    Damaged {
        /// Its file.
        name: String,
        /// The cause.
        source: E,
    },
}

/// The name of the file of a run that began at this time.
pub(super) fn name_at<Z: TimeZone>(began: &DateTime<Z>) -> String
where
    Z::Offset: Display,
{
    format!("{}{SUFFIX}", began.format(MOMENT))
}

/// The name of a file that several runs may write in one second: `run` is random. It sorts behind those of that second in
/// `others`.
pub(super) fn name_of_run(at: &DateTime<Utc>, run: &str, others: &[String]) -> String {
    let moment = at.format(MOMENT).to_string();
    let number = others.iter().filter(|name| name.starts_with(&moment)).count().min(99);
    format!("{moment}_{number:02}_{run}{SUFFIX}")
}

/// The time in a name.
pub(super) fn moment_of(name: &str) -> Option<NaiveDateTime> {
    let name = name.strip_suffix(SUFFIX)?;
    let (moment, of_run) = name.split_at_checked(MOMENT_CHARS).unwrap_or((name, ""));
    let is_number = |number: &str| number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_of_run = of_run.strip_prefix('_').and_then(|of_run| of_run.split_once('_'));
    if !of_run.is_empty() && !is_of_run.is_some_and(|(number, run)| is_number(number) && is_run(run)) {
        return None;
    }
    NaiveDateTime::parse_from_str(moment, MOMENT).ok()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{moment_of, name_at, name_of_run};

    #[test]
    fn names_of_one_second_differ_and_sort_by_their_order() {
        let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let mut names = vec![name_at(&at)];
        for run in ["ffffffffffff", "0123456789ab", "0123456789ab"] {
            let name = name_of_run(&at, run, &names);
            assert_eq!(moment_of(&name), Some(at.naive_utc()), "{name}");
            names.push(name);
        }
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        let moment = names[0].trim_end_matches(".json");
        for wrong in ["_", "_00", "_00_x", "_0_0123456789ab", "_00_0123456789aB", "x"] {
            assert_eq!(moment_of(&format!("{moment}{wrong}.json")), None, "{wrong}");
        }
    }
}
