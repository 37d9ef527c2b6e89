//! What this process knows of a destination, so that it does not ask again: folders that are there, and the last survey.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::seen::Seen;
use crate::objects::{ObjectClient, ObjectError};

/// A survey is used again for so long, unless something was changed since. Listings may be stale in any case: what changes
/// files looks at the files themselves.
const USED_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Known {
    folders: Mutex<BTreeSet<String>>,
    last: Mutex<Option<Survey>>,
}

#[derive(Debug)]
struct Survey {
    at: Instant,
    /// The requests until then that may have changed something.
    changes: u64,
    seen: Arc<Seen>,
}

impl Known {
    fn folders(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, Option<Survey>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a folder was seen. Another host may have emptied it since: then it is an empty folder.
    pub(super) fn has_folder(&self, prefix: &str) -> bool {
        self.folders().contains(prefix)
    }

    pub(super) fn add_folders(&self, prefixes: impl IntoIterator<Item = String>) {
        self.folders().extend(prefixes);
    }

    pub(super) fn forget_folder(&self, prefix: &str) {
        self.folders().remove(prefix);
    }

    /// The next survey is a new one.
    pub(super) fn forget_survey(&self) {
        *self.last() = None;
    }

    /// The last survey if it has all of `covers` and is new enough, or a new one.
    pub(super) fn seen(
        &self,
        client: &ObjectClient,
        covers: &str,
        look: impl FnOnce() -> Result<Seen, ObjectError>,
    ) -> Result<Arc<Seen>, ObjectError> {
        let changes = client.changes();
        let is_usable =
            |last: &&Survey| last.changes == changes && last.at.elapsed() < USED_AGAIN && last.seen.covers(covers);
        if let Some(found) = self.last().as_ref().filter(is_usable) {
            return Ok(Arc::clone(&found.seen));
        }
        let (at, seen) = (Instant::now(), Arc::new(look()?));
        *self.last() = Some(Survey { at, changes, seen: Arc::clone(&seen) });
        Ok(seen)
    }
}
