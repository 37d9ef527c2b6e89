//! Reads one backup and compares its files with each other; the verbs that restore, rehearse and verify build on it.
//!
//! [`side_files`] checks manifest, checksum and index, [`content`] reads the archive once and compares every byte of it
//! with them, [`second_opinion`] reads it with independent libraries, and [`record`] keeps the results of verifications
//! beside the backup. What is wrong is gathered in [`Findings`].

pub mod content;
mod error;
mod finding;
mod library;
pub mod record;
pub mod second_opinion;
pub mod side_files;
mod verdict;

pub use self::error::CheckError;
pub use self::finding::{BackupFile, Finding, Findings};
pub(crate) use self::library::without_panic;
pub use self::verdict::{CheckLevel, Verdict};
