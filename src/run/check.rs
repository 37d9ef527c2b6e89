//! Checks one backup: reads it and compares its files with each other. The verbs restore, rehearse and verify use
//! it.
//!
//! [`side_files`] checks manifest, checksum and index. [`content`] reads the archive once and compares every byte
//! with them. [`second_opinion`] reads it with independent libraries. [`record`] keeps the results of verifications
//! beside the backup. [`Findings`] collects the problems.

pub mod content;
mod error;
mod finding;
pub mod image;
pub mod image_test;
mod library;
pub(crate) mod overwritten;
pub mod record;
pub(crate) mod sealed;
pub mod second_opinion;
pub mod side_files;
mod verdict;

pub use self::error::CheckError;
pub use self::finding::{BackupFile, Finding, Findings};
pub(crate) use self::library::without_panic;
pub use self::verdict::Verdict;
pub use crate::report::CheckLevel;
