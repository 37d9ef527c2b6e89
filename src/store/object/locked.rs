//! Object lock: files of new backups are locked, what is locked is not removed, and removal removes versions.

use chrono::{DateTime, TimeDelta, Utc};

use super::ObjectStore;
use crate::manifest::{LockMode, LockedRecord};
use crate::objects::{LockHeaders, ObjectError};
use crate::shown;
use crate::store::error::StoreError;

impl ObjectStore {
    /// Locks the files of this stem that are created from now on. Fails at once if the bucket says that it has no lock.
    pub(super) fn begin_lock(&self, stem: &str, lock: LockedRecord) -> Result<(), StoreError> {
        if self.locks.is_there.get().is_none() {
            let no_lock = |why: String| StoreError::NoLock { path: self.path.clone(), why };
            if let Some(why) = self.client.why_no_lock() {
                return Err(no_lock(why.to_owned()));
            }
            match self.client.has_object_lock() {
                Ok(true) => {}
                Ok(false) => return Err(no_lock("the bucket was made without object lock".to_owned())),
                // These credentials need no right to ask. What is written is read back in any case.
                Err(error) if error.status() == Some(403) => {}
                Err(error @ (ObjectError::Status { .. } | ObjectError::NotUnderstood { .. })) => {
                    return Err(no_lock(error.to_string()));
                }
                Err(error) => return Err(self.failed("asking for the lock of", stem, error)),
            }
            let _ = self.locks.is_there.set(());
        }
        self.locks.add(self.key(&format!("{stem}."))?, headers(lock));
        Ok(())
    }

    /// Reads the lock of an object back that was written just now. If the store does not confirm it, the object is removed.
    pub(super) fn confirm_lock(&self, key: &str, name: &str, lock: &LockHeaders) -> Result<(), StoreError> {
        let why = match self.lock_there(key, lock) {
            Ok(Some((mode, until))) => {
                let end = DateTime::parse_from_rfc3339(&until).ok();
                let is_long = end.is_some_and(|end| end + TimeDelta::seconds(1) >= lock.until);
                if mode == lock.mode && is_long {
                    return Ok(());
                }
                format!("it says {} until {}", shown::text(&mode), shown::text(&until))
            }
            Ok(None) => "it says that there is none".to_owned(),
            Err(error) => error.to_string(),
        };
        // If it stays, it is a remain that the announcement names; a manifest is worse: it would make the backup complete.
        let _ = self.erase(key, name);
        Err(StoreError::NotLocked { path: self.path.join(name), why })
    }

    /// The lock of an object that was written with one. Ceph's RADOS gateway forgets that of an upload in parts, and keeps one that
    /// the finished object is given.
    fn lock_there(&self, key: &str, lock: &LockHeaders) -> Result<Option<(String, String)>, ObjectError> {
        let found = self.client.retention(key, None)?;
        if found.is_none() && self.client.lock_written(key, lock).is_ok() {
            return self.client.retention(key, None);
        }
        Ok(found)
    }

    /// The end of an object's lock, if that is still to come.
    pub(super) fn held_until(&self, key: &str) -> Option<DateTime<Utc>> {
        let until = self.client.head(key).ok()??.locked_until?;
        let until = DateTime::parse_from_rfc3339(&until).ok()?.with_timezone(&Utc);
        (until > Utc::now() + TimeDelta::seconds(self.client.skew_seconds())).then_some(until)
    }

    /// Deletes an object; in a bucket with versions all of them, since a mere deletion only adds a marker. Markers go last:
    /// without them a version that stays would show again.
    pub(super) fn erase(&self, key: &str, name: &str) -> Result<(), StoreError> {
        let erased = if self.keeps_versions() {
            self.client.object_versions(key).and_then(|versions| {
                let (contents, markers): (Vec<_>, Vec<_>) =
                    versions.iter().filter(|version| version.key == key).partition(|version| version.etag.is_some());
                contents.into_iter().chain(markers).try_for_each(|version| self.client.delete(key, Some(&version.id)))
            })
        } else {
            self.client.delete(key, None)
        };
        erased.map_err(|error| match (error.status(), self.path.join(name)) {
            (Some(403), path) => match self.held_until(key) {
                Some(until) => StoreError::Held { path, until },
                None => StoreError::MayNotDelete(path),
            },
            _ => self.failed("removing", name, error),
        })
    }

    /// Whether the bucket keeps versions. If the store does not say, an object is deleted as where it keeps none.
    fn keeps_versions(&self) -> bool {
        self.asked_for_versions().unwrap_or(false)
    }

    /// Whether the bucket keeps versions, or did; asked once.
    pub(super) fn asked_for_versions(&self) -> Result<bool, ObjectError> {
        if let Some(known) = self.locks.keeps_versions.get() {
            return Ok(*known);
        }
        let state = self.client.versioning()?;
        Ok(*self.locks.keeps_versions.get_or_init(|| matches!(state.as_deref(), Some("Enabled" | "Suspended"))))
    }
}

/// A lock as the S3 API has it.
pub(super) fn headers(lock: LockedRecord) -> LockHeaders {
    let mode = match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    };
    LockHeaders { mode, until: lock.until }
}
