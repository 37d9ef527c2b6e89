//! A group of the previous backup, and the entries of tonight's walk that are as its lines say.

use super::group::Group;
use crate::archive::placed::{Placed, Same};

/// A group of which all entries so far are the same, except perhaps for their headers.
pub(super) struct Candidate {
    pub(super) group: Group,
    /// One for each of its lines that was compared.
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

/// A group all of whose entries are as they were, and can be copied.
pub(in crate::archive) struct CompleteGroup {
    pub(in crate::archive) group: Group,
    pub(in crate::archive) taken: Vec<Taken>,
}

/// An entry that is as its line says.
pub(in crate::archive) struct Taken {
    pub(in crate::archive) placed: Box<Placed>,
    pub(in crate::archive) same: Same,
}
