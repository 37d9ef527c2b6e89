//! The stored form of a report: JSON with a version.

use chrono::{DateTime, FixedOffset};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::facts::RunReport;

/// Version of the JSON form that is written. Readers accept this version and all earlier ones.
pub const FORMAT_VERSION: u32 = 1;

/// Why a stored report cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It is not a report, or it was truncated or changed.
    #[error("not a report written by volbak")]
    Damaged(#[source] serde_json::Error),
    /// A newer volbak wrote it.
    #[error("the report has format {found}; this version of volbak supports formats up to {FORMAT_VERSION}")]
    TooNew {
        /// Its format.
        found: u32,
    },
}

/// Reads a stored form with a `format_version` of at most `known`.
pub(super) fn from_versioned<T: DeserializeOwned>(json: &[u8], known: u32) -> Result<T, ReportError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_slice(json).map_err(ReportError::Damaged)?;
    if version.format_version > known {
        return Err(ReportError::TooNew { found: version.format_version });
    }
    serde_json::from_slice(json).map_err(ReportError::Damaged)
}

impl RunReport {
    /// The report of a run that has done nothing yet.
    pub fn begun(host: String, started: DateTime<FixedOffset>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            host,
            run_id: None,
            started,
            duration_seconds: 0,
            retention_days: 0,
            destination: String::new(),
            usage: None,
            aborted: None,
            volumes: Vec::new(),
            gone: Vec::new(),
            copy: None,
            problems: Vec::new(),
            changes: Vec::new(),
            needs: Vec::new(),
            cloud: Vec::new(),
        }
    }

    /// The form that is stored in the destination.
    pub fn to_json(&self) -> Result<String, ReportError> {
        serde_json::to_string_pretty(self).map_err(ReportError::Damaged)
    }

    /// Reads a stored report.
    pub fn from_json(json: &[u8]) -> Result<Self, ReportError> {
        from_versioned(json, FORMAT_VERSION)
    }
}
