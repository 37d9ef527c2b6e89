//! The report of a restore.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::attributes::Restorer;
use super::ids::{IdMaps, Uses};
use crate::events::{Event, Observer, Problem, Severity};
use crate::shown::counted;

/// The result of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Entries restored exactly.
    pub restored: u64,
    /// Entries that already existed and are equal, including directories.
    pub present: u64,
    /// Entries skipped as requested: devices.
    pub left_out: u64,
    /// Entries not restored, or not exactly. Each was reported as a problem, except those of `in_the_way`.
    pub failed: u64,
    /// The failed entries whose place was taken.
    pub in_the_way: u64,
    /// The failed entries for which the target had no room.
    #[serde(skip)]
    pub without_room: u64,
    /// Files whose set-user-id or set-group-id bits or capabilities were dropped, since other users can reach them.
    pub stripped: u64,
    /// Entries restored as they are in the archive, which were not read whole when they were backed up. Each was reported as a
    /// problem.
    pub damaged_in_backup: u64,
    /// If all of the backup was restored: how many files or regions of the source it lacks, or has damaged.
    pub backup_errors: u64,
    /// The length of files and images read.
    pub data_bytes: u64,
    /// Attributes that could not be set, and on how many entries: owners without root, attributes that the
    /// filesystem lacks.
    pub shortfalls: BTreeMap<String, u64>,
    /// Ids of owners and groups that several of the backup's are mapped to, one sentence each. Each was reported as
    /// a problem.
    pub merged_ids: Vec<String>,
    /// Whether the archive's own digests were available and compared.
    pub verified: bool,
    /// Other problems of the archive.
    pub archive_problems: u64,
}

impl RestoreReport {
    /// Reports the ids that several of the backup's are mapped to.
    pub(super) fn merge_ids(&mut self, uses: &Uses, maps: &IdMaps, to: &Path, observer: &dyn Observer) {
        self.merged_ids = uses.merged(maps);
        for what in &self.merged_ids {
            let place = to.display().to_string();
            observer.on_event(&Event::Problem(Problem::new(Severity::Warning, place, what.clone())));
        }
    }

    /// Reports the attributes that could not be set.
    pub(super) fn take_shortfalls(&mut self, restorer: &Restorer, to: &Path, observer: &dyn Observer) {
        for (what, count) in restorer.shortfalls() {
            let what = format!("{what} ({})", counted(*count, "time", "times"));
            observer.on_event(&Event::Problem(Problem::new(Severity::Warning, to.display().to_string(), what)));
        }
        self.shortfalls.clone_from(restorer.shortfalls());
    }

    /// Whether everything selected was restored as it is in the backup. See also [`Self::is_as_the_source_was`].
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.archive_problems == 0
    }

    /// Whether nothing of what was restored was missing or damaged when it was backed up.
    pub fn is_as_the_source_was(&self) -> bool {
        self.damaged_in_backup == 0 && self.backup_errors == 0
    }
}
