//! Segments that new archives do not refer to.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The names of segments that are left.
#[derive(Debug, Default)]
pub(super) struct LeftSegments(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    all: bool,
    names: BTreeSet<String>,
}

impl LeftSegments {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves these, or all.
    pub(super) fn leave(&self, names: Option<Vec<String>>) {
        let mut left = self.left();
        match names {
            Some(names) => left.names.extend(names),
            None => left.all = true,
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let left = self.left();
        left.all || left.names.contains(name)
    }
}
