//! Files that each run keeps in the destination: one a run, with its date and time in the name.

use chrono::{DateTime, NaiveDateTime, TimeZone};
use std::fmt::Display;

use crate::store::StoreError;

/// The end of their names.
pub(super) const SUFFIX: &str = ".json";
const MOMENT: &str = "%Y-%m-%d_%H%M%S";

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

/// The time in a name.
pub(super) fn moment_of(name: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(name.strip_suffix(SUFFIX)?, MOMENT).ok()
}
