//! Browses backups without restoring them: lists entries, prints a file, compares two backups.

mod cat;
mod diff;
mod error;
mod index;
mod list;

pub use self::cat::{Printed, cat};
pub use self::diff::{Change, Difference, diff};
pub use self::error::BrowseError;
#[cfg(feature = "mount")]
pub(crate) use self::index::open_index;
pub use self::list::{Entries, ListedEntry, list};
