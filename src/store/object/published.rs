//! Files on their way to their keys: staged ones, and those that were set aside.

use chrono::Utc;
use rustix::io::Errno;

use super::cache::Named;
use super::file::{ObjectFile, Staged};
use super::locked::headers;
use super::parts::recorded;
use super::{MOST_SET_ASIDE, ObjectStore, catalogue, seen};
use crate::manifest::{Manifest, ObjectRecord};
use crate::objects::LockHeaders;
use crate::store::api::StoreFile;
use crate::store::error::StoreError;
use crate::store::names::MANIFEST;

impl ObjectStore {
    /// Stages a file. Fails if one of this name is staged in this process.
    pub(super) fn staged(
        &self,
        name: &str,
        as_it_is: impl Fn(Staged) -> Staged,
    ) -> Result<Box<dyn StoreFile>, StoreError> {
        let (key, path) = (self.key(name)?, self.path.join(name));
        let staged = self.stage.add(&key, as_it_is(Staged::new(&self.client, &key, self.locks.of(&key))));
        let staged = staged.ok_or_else(|| StoreError::errno("making", &path)(Errno::EXIST))?;
        Ok(Box::new(ObjectFile::new(staged, path)))
    }

    /// Publishes a staged file.
    pub(super) fn publish_staged(&self, key: &str, name: &str, staged: &Staged) -> Result<ObjectRecord, StoreError> {
        let short = staged.in_memory().ok().filter(|_| seen::is_kept(key));
        let object = staged.publish().map_err(StoreError::io("publishing", &self.path.join(name)))?;
        self.stage.take(key);
        if let Some(lock) = staged.lock() {
            self.confirm_lock(key, name, lock)?;
        }
        if let Some(bytes) = short {
            let etag = catalogue::md5(&bytes);
            self.cache.keep(Named { key, etag: &etag, len: bytes.len() as u64 }, &bytes);
        }
        if staged.is_announced() {
            // If it stays, the next run removes it. The file is published.
            let _ = self.client.delete(&self.aside(name)?, None);
        }
        Ok(object)
    }

    /// Publishes a file that was set aside. It gets its lock again.
    pub(super) fn publish_set_aside(&self, key: &str, name: &str) -> Result<ObjectRecord, StoreError> {
        let aside = self.aside(name)?;
        let failed = |error| self.failed("publishing", name, error);
        let Some(content) = self.client.get(&aside, MOST_SET_ASIDE).map_err(failed)? else {
            return Err(StoreError::errno("publishing", &self.path.join(name))(Errno::NOENT));
        };
        let lock = self.locks.of(key).or_else(|| lock_in(name, &content));
        let written = match &lock {
            Some(lock) => self.client.put_locked(key, &content, lock),
            None => self.client.put(key, &content, false),
        };
        let object = recorded(written.map_err(failed)?);
        if let Some(lock) = &lock {
            self.confirm_lock(key, name, lock)?;
        }
        self.client.delete(&aside, None).map_err(failed)?;
        Ok(object)
    }
}

/// The lock that a manifest says its backup has, if it has not ended.
fn lock_in(name: &str, content: &[u8]) -> Option<LockHeaders> {
    let manifest = name.ends_with(MANIFEST).then(|| Manifest::from_bytes(content).ok()).flatten()?;
    manifest.locked.filter(|lock| lock.until > Utc::now()).map(headers)
}
