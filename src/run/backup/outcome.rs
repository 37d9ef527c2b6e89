//! A backup that was published.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::events::Severity;
use crate::manifest::Manifest;

/// A backup that was published.
#[derive(Clone, Debug, Serialize)]
pub struct BackupOutcome {
    /// The source's display name.
    pub source: String,
    /// The archive.
    pub archive: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// The highest severity of its problems.
    pub worst_problem: Option<Severity>,
    /// The start of the newest backup with a filesystem that, as the config expects, has gone since. Up to then,
    /// sizes are no baseline.
    pub replaced_until: Option<DateTime<Utc>>,
}

impl BackupOutcome {
    /// Whether a problem was found that needs attention: a warning or an error.
    pub fn has_problems(&self) -> bool {
        self.worst_problem > Some(Severity::Notice)
    }
}
