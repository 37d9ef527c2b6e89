//! Which blocks are in use, so that two files that map one are found. Noted from what is read anyway, by the walk and by
//! the files that it has found.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::marks::Marks;
use super::remark::Remark;
use crate::events::Problem;
use crate::shown;

/// So many times a block of a map may be met again. With more the filesystem was made so that it has no end.
const MAX_MET_AGAIN: u32 = 1024;
/// Blocks of attributes are remembered up to this many.
const MAX_REMEMBERED: usize = 1 << 20;
/// Problems of files' maps that wait to be told.
const MAX_WAITING: usize = 1000;

/// What was met of a filesystem so far.
#[derive(Default)]
pub(super) struct Checks {
    state: Mutex<State>,
    /// How many blocks of maps were met again.
    met_again: AtomicU32,
    orphans: OnceLock<HashSet<u32>>,
}

#[derive(Default)]
struct State {
    /// Blocks that are mapped, and those of the filesystem itself.
    blocks: Marks,
    attribute_blocks: HashSet<u64>,
    waiting: Vec<Problem>,
}

impl Checks {
    /// Knows the blocks that belong to the filesystem itself.
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

    /// Notes that a file maps these blocks. Gives the first that something else has, and how many such there are.
    pub(super) fn map(&self, start: u64, len: u64) -> Option<(u64, u64)> {
        self.lock().blocks.add_run(start, len)
    }

    /// Notes that a block is part of a file's map. False when something else has it.
    pub(super) fn map_node(&self, block: u64) -> bool {
        let is_new = self.lock().blocks.add(block);
        if !is_new {
            // One addition a block that is read: far from the end of the numbers.
            self.met_again.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    }

    /// Notes that an inode has its attributes there, which others may share. False when it is a file's block.
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

    /// Whether it was made so that reading it has no end.
    pub(super) fn has_no_end(&self) -> bool {
        self.met_again.load(Ordering::Relaxed) > MAX_MET_AGAIN
    }

    /// Keeps what was found of a file's map while it was read.
    pub(super) fn tell(&self, path: &[u8], remarks: Vec<Remark>) {
        let mut state = self.lock();
        for (severity, what) in remarks {
            if state.waiting.len() < MAX_WAITING {
                state.waiting.push(Problem::new(severity, shown::path(path), what));
            }
        }
    }

    /// What was kept by [`Checks::tell`].
    pub(super) fn take_waiting(&self) -> Vec<Problem> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// The inodes on the way to be deleted or cut, which are looked for when they are asked for first.
    pub(super) fn orphans(&self, find: impl FnOnce() -> HashSet<u32>) -> &HashSet<u32> {
        self.orphans.get_or_init(find)
    }
}
