//! The report of a restored disk.

use std::collections::BTreeMap;

use serde::Serialize;

use super::read_back::TableOpinion;
use crate::run::restore::RestoreReport;

/// The result of restoring a disk.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceReport {
    /// The result for the files, by region.
    pub files: BTreeMap<String, RestoreReport>,
    /// Differences from the source, one line each. Each was reported as a problem.
    pub failures: Vec<String>,
    /// The filesystems that were checked and found clean.
    pub clean: Vec<String>,
    /// The second opinion on the table.
    pub second_opinion: TableOpinion,
}

impl DeviceReport {
    /// Whether everything was restored exactly.
    pub fn is_complete(&self) -> bool {
        let whole = |report: &RestoreReport| report.is_complete() && report.shortfalls.is_empty();
        self.failures.is_empty() && self.files.values().all(whole)
    }
}
