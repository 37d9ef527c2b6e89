//! Decided entries that are not in the archive yet.

use std::collections::VecDeque;

use crate::archive::carry::candidate::CompleteGroup;
use crate::archive::carry::copy::CopyRun;
use crate::archive::placed::Placed;

/// How many entries ahead files are opened, so that the kernel prefetches them.
const AHEAD_ENTRIES: usize = 128;
/// The approximate maximum size of the waiting entries' attributes.
const AHEAD_XATTR_BYTES: usize = 8 << 20;
/// How many items wait at most.
const MOST_ITEMS: usize = 1024;

/// A waiting entry or run of groups.
pub(super) enum Queued {
    Read(Box<Placed>),
    Copy(Box<CopyRun>),
    Refer(Box<CompleteGroup>),
}

/// Waiting items in the archive's order.
#[derive(Default)]
pub(super) struct Queue {
    items: VecDeque<Queued>,
    reads: usize,
    xattr_bytes: usize,
    /// Complete groups after the last item. The next group may be checked together with them.
    open_run: CopyRun,
}

impl Queue {
    /// Whether no more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.reads >= AHEAD_ENTRIES || self.xattr_bytes >= AHEAD_XATTR_BYTES || self.items.len() >= MOST_ITEMS
    }

    /// Whether nothing waits, except perhaps the open run.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Drops all waiting items.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds an entry after all runs. The open run must have been taken.
    pub(super) fn push_read(&mut self, placed: Box<Placed>) {
        self.reads += 1;
        self.xattr_bytes += placed.entry.xattr_bytes();
        self.items.push_back(Queued::Read(placed));
    }

    /// Whether a group can be checked together with the open run.
    pub(super) fn takes_group(&self, complete: &CompleteGroup) -> bool {
        self.open_run.takes(complete)
    }

    /// Adds a group to the open run, which must have room for it.
    pub(super) fn push_group(&mut self, complete: CompleteGroup) {
        self.open_run.push(complete);
    }

    /// Takes the open run, if it is not empty; a new one begins.
    pub(super) fn take_open_run(&mut self) -> Option<CopyRun> {
        (!self.open_run.is_empty()).then(|| std::mem::take(&mut self.open_run))
    }

    /// Adds a group that the archive refers to.
    pub(super) fn push_referred(&mut self, complete: CompleteGroup) {
        self.items.push_back(Queued::Refer(Box::new(complete)));
    }

    /// Adds a run whose members were submitted for checking.
    pub(super) fn push_run(&mut self, run: CopyRun) {
        self.items.push_back(Queued::Copy(Box::new(run)));
    }

    /// The next item.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        let item = self.items.pop_front();
        if let Some(Queued::Read(placed)) = &item {
            self.reads -= 1;
            self.xattr_bytes -= placed.entry.xattr_bytes();
        }
        item
    }
}
