//! A snapshot that was taken together with those of other volumes, before its own backup begins.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::events::{Event, Observer};
use crate::manifest::SetRecord;
use crate::run::collect::Collector;
use crate::source::SnapshotGuard;

/// What all members of a set share.
#[derive(Debug)]
pub(crate) struct TakenSet {
    /// When the set began: the date of all its backups.
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) record: SetRecord,
}

/// The snapshot of one member, or why there is none. Dropping it removes the snapshot.
pub(crate) struct TakenSnapshot {
    pub(crate) set: Arc<TakenSet>,
    guard: Mutex<Result<SnapshotGuard, String>>,
    relay: Arc<Relay>,
}

impl TakenSnapshot {
    pub(crate) fn new(set: Arc<TakenSet>, guard: Result<SnapshotGuard, String>, relay: Arc<Relay>) -> Self {
        Self { set, guard: Mutex::new(guard), relay }
    }

    /// Gives the snapshot to the member's backup, which hears of its fill and its problems from now on.
    pub(super) fn take(&self, collector: &Arc<Collector>) -> Result<SnapshotGuard, String> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::replace(&mut *guard, Err("it was released already".to_owned()));
        self.relay.lead_to(Arc::clone(collector) as Arc<dyn Observer>);
        taken
    }

    /// Keeps the snapshot of a backup that failed, so that it can be read again.
    pub(super) fn put_back(&self, guard: SnapshotGuard) {
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Ok(guard);
    }

    /// Whether the snapshot is there, and valid as far as is known.
    pub(crate) fn can_be_read(&self) -> bool {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().is_ok_and(|guard| !guard.health_flag().is_failed())
    }
}

impl fmt::Debug for TakenSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakenSnapshot").field("set", &self.set).finish_non_exhaustive()
    }
}

/// An observer whose events go to the run first, and to the backup once it begins.
pub(crate) struct Relay(Mutex<Arc<dyn Observer>>);

impl Relay {
    pub(crate) fn new(first: Arc<dyn Observer>) -> Self {
        Self(Mutex::new(first))
    }

    fn lead_to(&self, next: Arc<dyn Observer>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl Observer for Relay {
    fn on_event(&self, event: &Event) {
        let next = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        next.on_event(event);
    }
}
