//! What a remap did.

use serde::Serialize;

use super::change::Kept;
use crate::shown;

/// Problems that the report lists; all are counted.
const MOST_PROBLEMS: usize = 1000;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemapReport {
    /// Inodes that were looked at.
    pub inodes: u64,
    /// Inodes that were changed, or would be.
    pub changed: u64,
    /// Inodes that an earlier, interrupted call had in its journal.
    pub resumed: u64,
    /// Further names of inodes with several names.
    pub further_names: u64,
    /// Mount points and other filesystems, which were left alone.
    pub other_filesystems: u64,
    /// How many inodes have which attribute that a change of owner would lose, and kept it.
    #[serde(flatten)]
    pub kept: Kept,
    /// Inodes by owner: from, to, how many.
    pub uids: Vec<(u32, u32, u64)>,
    /// Inodes by group: from, to, how many.
    pub gids: Vec<(u32, u32, u64)>,
    /// Numbers that owned inodes before and to which others were mapped: the two cannot be told apart any more but by the journal.
    pub merged: Vec<String>,
    /// What was not changed, and why; the first ones.
    pub problems: Vec<String>,
    /// How many there are.
    pub problem_count: u64,
    /// Whether an earlier call had completed it, so that nothing was done.
    pub was_complete: bool,
}

impl RemapReport {
    pub(super) fn problem(&mut self, path: &[u8], what: &dyn std::fmt::Display) {
        self.problem_count += 1;
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(format!("{}: {what}", shown::path(path)));
        }
    }
}
