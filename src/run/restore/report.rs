//! The report of a restore.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Entries that are as they were.
    pub restored: u64,
    /// Entries that were there already, equal; directories among them.
    pub present: u64,
    /// Entries that were left out as asked for: devices.
    pub left_out: u64,
    /// Entries that are not there, or not as they were. Each was told as a problem, but for those of `in_the_way`.
    pub failed: u64,
    /// How many of the failed ones have something in their place that was there before.
    pub in_the_way: u64,
    /// Files that were left without their set-user-id or set-group-id bits or capabilities, since others can reach them.
    pub stripped: u64,
    /// Bytes of files and images that were read for it.
    pub data_bytes: u64,
    /// What could not be set, and on how many entries: owners without root, attributes that the filesystem does not have.
    pub shortfalls: BTreeMap<String, u64>,
    /// Numbers of owners and groups that stand for several of the backup's, one sentence each. Each was told as a problem.
    pub merged_ids: Vec<String>,
    /// Whether the archive's own digests were there to compare with.
    pub verified: bool,
    /// Other problems of the archive.
    pub archive_problems: u64,
}

impl RestoreReport {
    /// Whether everything that was asked for is there as it was.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.archive_problems == 0
    }
}
