//! A group of the previous backup, and the entries of the walk that match its lines so far.

use std::ops::Range;

use super::group::Group;
use crate::archive::placed::{Placed, Same};
use crate::entry::EntryKind;

/// A group whose entries all match so far, except perhaps for their headers.
pub(super) struct Candidate {
    pub(super) group: Group,
    /// The matching entries, one per line compared.
    pub(super) taken: Vec<Taken>,
}

impl Candidate {
    pub(super) fn new(group: Group) -> Self {
        let taken = Vec::with_capacity(group.entries.len());
        Self { group, taken }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.taken.len() >= self.group.entries.len()
    }
}

/// A group whose entries are all unchanged, and which can be copied.
pub(in crate::archive) struct CompleteGroup {
    pub(in crate::archive) group: Group,
    pub(in crate::archive) taken: Vec<Taken>,
}

impl CompleteGroup {
    /// Where its members lie in the previous archive, if they are adjacent there and can be taken without being read.
    pub(in crate::archive) fn referred_range(&self) -> Option<Range<u64>> {
        // An entry other than a file is that long only because of its attributes; too rare.
        let is_file = || self.taken.iter().all(|taken| matches!(taken.placed.entry.kind, EntryKind::File(_)));
        let length = self.group.length.filter(|_| self.group.members == 1 || is_file())?;
        let start = self.group.first.offset;
        start.checked_add(length).map(|end| start..end)
    }
}

/// An entry that matches its line.
pub(in crate::archive) struct Taken {
    pub(in crate::archive) placed: Box<Placed>,
    pub(in crate::archive) same: Same,
}
