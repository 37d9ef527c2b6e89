//! A group of the previous backup, and the entries of the walk that match its lines so far.

use super::group::Group;
use crate::archive::placed::{Placed, Same};

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

/// An entry that matches its line.
pub(in crate::archive) struct Taken {
    pub(in crate::archive) placed: Box<Placed>,
    pub(in crate::archive) same: Same,
}
