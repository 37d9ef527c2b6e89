//! The groups of an object that wait until there are enough for a copy.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::archive::carry::candidate::CompleteGroup;
use crate::archive::carry::segment::Plan;
use crate::outside::StoredObject;

/// The groups that may be copied.
pub(super) struct StoredParent {
    pub(super) source: Arc<StoredObject>,
    pub(super) plan: Plan,
    pub(super) held: VecDeque<CompleteGroup>,
}

impl StoredParent {
    pub(super) fn new(source: Arc<StoredObject>) -> Self {
        Self { source, plan: Plan::new(), held: VecDeque::new() }
    }

    /// Drops the groups.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.plan.read_held();
    }
}
