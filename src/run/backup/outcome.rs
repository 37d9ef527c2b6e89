//! A backup that was published.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::events::Severity;
use crate::manifest::Manifest;

/// A backup that was published.
#[derive(Clone, Debug, Serialize)]
pub struct BackupOutcome {
    /// The source as the user knows it.
    pub source: String,
    /// The archive.
    pub archive: PathBuf,
    /// Its manifest's content.
    pub manifest: Manifest,
    /// The worst of the problems, if there were any.
    pub worst_problem: Option<Severity>,
    /// When the newest backup was begun that has a filesystem which, as the config expects, is gone since: up to then sizes
    /// are no measure.
    pub replaced_until: Option<DateTime<Utc>>,
}

impl BackupOutcome {
    /// Whether a problem was found that needs attention: a warning or an error.
    pub fn has_problems(&self) -> bool {
        self.worst_problem > Some(Severity::Notice)
    }
}
