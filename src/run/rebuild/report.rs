//! The report of a restored disk.

use std::collections::BTreeMap;

use serde::Serialize;

use super::read_back::TableOpinion;
use crate::run::restore::RestoreReport;

/// What put the files into a new filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum PutBy {
    /// volbak's own writer, without a mount.
    Volbak,
    /// The kernel, in a mount.
    Kernel {
        /// Why volbak's own writer did not, if it writes this type.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
}

/// The result of restoring a disk.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceReport {
    /// The result for the files, by region.
    pub files: BTreeMap<String, RestoreReport>,
    /// What put the files there, by region.
    pub put_by: BTreeMap<String, PutBy>,
    /// If all of the disk was restored: how many files or regions of the source the backup lacks, or has damaged.
    pub backup_errors: u64,
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

    /// Whether nothing of what was restored was missing or damaged when it was backed up.
    pub fn is_as_the_source_was(&self) -> bool {
        self.backup_errors == 0 && self.files.values().all(RestoreReport::is_as_the_source_was)
    }

    /// Whether owners or groups that differed in the backup are one now, as they were mapped.
    pub fn has_merged_ids(&self) -> bool {
        self.files.values().any(|report| !report.merged_ids.is_empty())
    }
}
