//! Passes events on, and keeps the problems among them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::events::{Event, Observer, Problem, Severity};

/// More problems than this are counted and passed on, but not kept: a tenant decides how many there are.
const MAX_KEPT: usize = 1000;

/// The problems of one source.
pub(super) struct Collector {
    next: Arc<dyn Observer>,
    kept: Mutex<Collected>,
}

/// What was collected.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    /// The first problems.
    pub(super) problems: Vec<Problem>,
    /// How many there were in all.
    pub(super) total: u64,
    /// The worst of them.
    pub(super) worst: Option<Severity>,
}

impl Collector {
    pub(super) fn new(next: Arc<dyn Observer>) -> Self {
        Self { next, kept: Mutex::default() }
    }

    pub(super) fn collected(&self) -> Collected {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Collector {
    fn on_event(&self, event: &Event) {
        if let Event::Problem(problem) = event {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.total += 1;
            kept.worst = kept.worst.max(Some(problem.severity));
            if kept.problems.len() < MAX_KEPT {
                kept.problems.push(problem.clone());
            }
        }
        self.next.on_event(event);
    }
}
