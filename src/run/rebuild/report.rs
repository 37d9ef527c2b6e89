//! The report of a restored disk.

use std::collections::BTreeMap;

use serde::Serialize;

use super::read_back::TableOpinion;
use crate::run::restore::RestoreReport;

/// What was restored.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceReport {
    /// What became of the files, by region.
    pub files: BTreeMap<String, RestoreReport>,
    /// What is not as it was, one line each. Each was told as a problem.
    pub failures: Vec<String>,
    /// The filesystems that were checked and found clean.
    pub clean: Vec<String>,
    /// What other implementations read from the table that was written.
    pub second_opinion: TableOpinion,
}

impl DeviceReport {
    /// Whether everything is as it was.
    pub fn is_complete(&self) -> bool {
        let whole = |report: &RestoreReport| report.is_complete() && report.shortfalls.is_empty();
        self.failures.is_empty() && self.files.values().all(whole)
    }
}
