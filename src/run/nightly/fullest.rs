//! Records the maximum fill of a volume's snapshot, also for a failed backup, which has no manifest.

use std::sync::{Arc, Mutex, PoisonError};

use crate::events::{Event, Observer};

/// Forwards events, and records the highest fill.
pub(super) struct Fullest {
    next: Arc<dyn Observer>,
    percent: Mutex<Option<f64>>,
}

impl Fullest {
    pub(super) fn new(next: Arc<dyn Observer>) -> Self {
        Self { next, percent: Mutex::new(None) }
    }

    /// In percent of the snapshot's size at that moment; `None` without a thick snapshot.
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
