//! Tracks which blocks are in use, to find blocks that two files map. Fed by the walk and by the files it finds, at
//! no extra reads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::marks::Marks;
use super::remark::Remark;
use crate::events::Problem;
use crate::shown;

/// How often blocks of maps may be met again before the filesystem counts as crafted to have no end.
const MAX_MET_AGAIN: u32 = 1024;
/// The maximum number of attribute blocks to remember.
const MAX_REMEMBERED: usize = 1 << 20;
/// The maximum number of map problems that wait to be reported.
const MAX_WAITING: usize = 1000;

/// What was met in a filesystem so far.
#[derive(Default)]
pub(super) struct Checks {
    state: Mutex<State>,
    /// How often a block of a map was met again.
    met_again: AtomicU32,
    orphans: OnceLock<HashSet<u32>>,
}

#[derive(Default)]
struct State {
    /// Mapped blocks, and those of the filesystem itself.
    blocks: Marks,
    attribute_blocks: HashSet<u64>,
    waiting: Vec<Problem>,
}

impl Checks {
    /// Starts with the filesystem's own blocks marked as used.
    pub(super) fn with_own_blocks(runs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let checks = Self::default();
        {
            let mut state = checks.lock();
            for (start, len) in runs {
                state.blocks.add_run(start, len);
            }
        }
        checks
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a run of blocks as mapped by a file. Returns the first block that was marked before, and the number of
    /// such blocks.
    pub(super) fn map(&self, start: u64, len: u64) -> Option<(u64, u64)> {
        self.lock().blocks.add_run(start, len)
    }

    /// Marks a block as part of a file's map. False if it was marked before.
    pub(super) fn map_node(&self, block: u64) -> bool {
        let is_new = self.lock().blocks.add(block);
        if !is_new {
            // Cannot overflow: one increment per block read.
            self.met_again.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    }

    /// Marks a block as holding attributes, which inodes may share. False if a file maps it.
    pub(super) fn attribute_block(&self, block: u64) -> bool {
        let mut state = self.lock();
        if state.attribute_blocks.contains(&block) {
            return true;
        }
        if state.attribute_blocks.len() < MAX_REMEMBERED {
            state.attribute_blocks.insert(block);
            return state.blocks.add(block);
        }
        true
    }

    /// Whether the filesystem was crafted so that reading it never ends.
    pub(super) fn has_no_end(&self) -> bool {
        self.met_again.load(Ordering::Relaxed) > MAX_MET_AGAIN
    }

    /// Keeps problems of a file's map, found while the file was read, until [`Checks::take_waiting`].
    pub(super) fn tell(&self, path: &[u8], remarks: Vec<Remark>) {
        let mut state = self.lock();
        for (severity, what) in remarks {
            if state.waiting.len() < MAX_WAITING {
                state.waiting.push(Problem::new(severity, shown::path(path), what));
            }
        }
    }

    /// Returns and clears the kept problems.
    pub(super) fn take_waiting(&self) -> Vec<Problem> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// The inodes that wait to be deleted or truncated. `find` runs at the first call only.
    pub(super) fn orphans(&self, find: impl FnOnce() -> HashSet<u32>) -> &HashSet<u32> {
        self.orphans.get_or_init(find)
    }
}
