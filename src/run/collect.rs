//! Forwards events, and keeps their problems.

use std::sync::{Arc, Mutex, PoisonError};

use crate::events::{Event, Observer, Problem, Severity};
use crate::manifest::ProblemCounts;

/// The maximum number of problems to keep per severity; further ones are counted and forwarded. A tenant controls
/// their number: a thousand sockets must leave room for a single file that could not be read.
const MAX_KEPT: u64 = 1000;

/// The problems of one source.
pub(super) struct Collector {
    next: Arc<dyn Observer>,
    kept: Mutex<Collected>,
}

/// The collected problems.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    /// The first problems of each severity, in order of appearance.
    pub(super) problems: Vec<Problem>,
    /// The total numbers.
    pub(super) counts: ProblemCounts,
    /// The highest severity.
    pub(super) worst: Option<Severity>,
}

impl Collector {
    pub(super) fn new(next: Arc<dyn Observer>) -> Self {
        Self { next, kept: Mutex::default() }
    }

    /// Discards everything after `before`: the work is repeated.
    pub(super) fn go_back_to(&self, before: Collected) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    pub(super) fn collected(&self) -> Collected {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Collector {
    fn on_event(&self, event: &Event) {
        if let Event::Problem(problem) | Event::ProblemOf { problem, .. } = event {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.worst = kept.worst.max(Some(problem.severity));
            let count = match problem.severity {
                Severity::Notice => &mut kept.counts.notices,
                Severity::Warning => &mut kept.counts.warnings,
                Severity::Error => &mut kept.counts.errors,
            };
            *count += 1;
            if *count <= MAX_KEPT {
                kept.problems.push(problem.clone());
            }
        }
        self.next.on_event(event);
    }
}

/// Reports a problem to an observer.
pub(crate) fn tell(observer: &dyn Observer, severity: Severity, location: String, what: impl Into<String>) {
    observer.on_event(&Event::Problem(Problem::new(severity, location, what)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Collector;
    use crate::events::{Event, Observer, Problem, Severity, Silent};

    #[test]
    fn many_notices_do_not_push_an_error_out() {
        let collector = Collector::new(Arc::new(Silent));
        for number in 0..5000 {
            collector.on_event(&Event::Problem(Problem::new(Severity::Notice, number.to_string(), "socket")));
        }
        collector.on_event(&Event::Problem(Problem::new(Severity::Error, "file", "unreadable")));
        let collected = collector.collected();
        assert_eq!((collected.counts.notices, collected.counts.errors), (5000, 1));
        assert_eq!(collected.problems.len(), 1001);
        assert_eq!(collected.worst, Some(Severity::Error));
    }
}
