//! The locks that new files get.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::objects::LockHeaders;
use crate::store::options::LockOptions;

/// The locks of new files, and what is known of the bucket. Shared by all folders of a destination.
#[derive(Debug, Default)]
pub(super) struct Locks {
    options: Option<LockOptions>,
    /// By the begin of their keys: `VOLUME/STEM.`.
    files: Mutex<BTreeMap<String, LockHeaders>>,
    /// Whether the bucket keeps versions.
    pub(super) keeps_versions: OnceLock<bool>,
    /// Whether the bucket says that it has a lock, or does not say.
    pub(super) is_there: OnceLock<()>,
}

impl Locks {
    pub(super) fn new(options: Option<LockOptions>) -> Self {
        Self { options, ..Self::default() }
    }

    pub(super) fn options(&self) -> Option<LockOptions> {
        self.options
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, LockHeaders>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the files whose keys begin so.
    pub(super) fn add(&self, begin: String, lock: LockHeaders) {
        self.files().insert(begin, lock);
    }

    /// The lock of a file of this key.
    pub(super) fn of(&self, key: &str) -> Option<LockHeaders> {
        self.files().iter().find(|(begin, _)| key.starts_with(begin.as_str())).map(|(_, lock)| lock.clone())
    }
}
