//! How full a volume's snapshot was at most, also when its backup failed and there is no manifest that says so.

use std::sync::{Arc, Mutex, PoisonError};

use crate::events::{Event, Observer};

/// Passes events on, and keeps the highest fill among them.
pub(super) struct Fullest {
    next: Arc<dyn Observer>,
    percent: Mutex<Option<f64>>,
}

impl Fullest {
    pub(super) fn new(next: Arc<dyn Observer>) -> Self {
        Self { next, percent: Mutex::new(None) }
    }

    /// In percent of the snapshot's size at that moment; `None` when there was no thick snapshot.
    pub(super) fn percent(&self) -> Option<f64> {
        *self.percent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Fullest {
    fn on_event(&self, event: &Event) {
        if let Event::SnapshotFill { percent, .. } = event {
            let mut highest = self.percent.lock().unwrap_or_else(PoisonError::into_inner);
            *highest = Some(highest.unwrap_or(0.0).max(*percent));
        }
        self.next.on_event(event);
    }
}
