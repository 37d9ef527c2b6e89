//! The keys of files, and how their objects are read.

use std::io::{self, Write};
use std::sync::Arc;

use rustix::io::Errno;

use super::parts::store_of;
use super::reading::{FIRST_BYTES, ObjectBlocks, stored};
use super::seen::{self, Seen};
use super::{ObjectStore, cache, versions};
use crate::archive::kind::ArchiveKind;
use crate::objects::{ListedObject, ObjectError};
use crate::outside::unnamed::unnamed_file;
use crate::outside::{BlockRead, FileBlocks, StoredObject};
use crate::store::OWN_DIRECTORY;
use crate::store::backup::RECORD;
use crate::store::error::StoreError;
use crate::store::local::TEMPORARY_PREFIX;
use crate::store::open::OpenError;
use crate::store::shared::PARTS;

/// A longer object is held in a file without a name: a composed index has many segments, which are open at the same time.
const HELD_IN_MEMORY: usize = 1 << 20;

fn held(bytes: Vec<u8>) -> io::Result<Arc<dyn BlockRead>> {
    if bytes.len() <= HELD_IN_MEMORY {
        return Ok(Arc::new(bytes));
    }
    let mut file = unnamed_file()?;
    file.write_all(&bytes)?;
    Ok(Arc::new(FileBlocks::of_file(file)?))
}

impl ObjectStore {
    /// What was seen, if it has all that begins with `start`.
    pub(super) fn seen_of(&self, start: &str) -> Option<&Seen> {
        self.seen.as_deref().filter(|seen| seen.covers(start))
    }

    /// Whether files of this name are written again, so that each version has a key of its own.
    pub(super) fn is_written_again(&self, name: &str) -> bool {
        name.ends_with(RECORD) || self.is_own()
    }

    /// Whether this is the destination's own folder.
    pub(super) fn is_own(&self) -> bool {
        self.prefix.trim_end_matches('/').rsplit('/').next() == Some(OWN_DIRECTORY)
    }

    /// The key of a file: that of its newest version, if it may have several. `None` if the newest says that it was removed.
    pub(super) fn newest_key(&self, name: &str) -> Result<Option<String>, StoreError> {
        let key = self.key(name)?;
        if !self.is_written_again(name) {
            return Ok(Some(key));
        }
        let mut is_there = true;
        let versions = if let Some(seen) = self.seen_of(&key) {
            versions::of(&key, seen.starting_with(&key))
        } else {
            let found = self.client.list(&key, false).map_err(|error| self.failed("listing", name, error))?;
            is_there = found.objects.iter().any(|object| object.key == key);
            versions::of(&key, found.objects.iter())
        };
        Ok(match versions.last() {
            Some(removed) if removed.len == 0 => None,
            Some(newest) => Some(newest.key.clone()),
            // What has no versions was written by others.
            None => Some(key).filter(|_| is_there),
        })
    }

    /// The length of a file, by what was seen or by asking.
    pub(super) fn length_of(&self, name: &str) -> Option<u64> {
        let key = self.newest_key(name).ok()??;
        if let Some(seen) = self.seen_of(&key) {
            if let Some(object) = seen.get(&key) {
                return Some(object.len);
            }
            // A listing may lack what is there, but one that has the archive of this stem lacks no second one.
            let (stem, _) = ArchiveKind::of_name(name)?;
            let names = |kind: ArchiveKind| ["", PARTS].map(|parts| format!("{stem}{}{parts}", kind.suffix()));
            let mut archives = ArchiveKind::ALL.into_iter().flat_map(names).filter_map(|name| self.key(&name).ok());
            if archives.any(|key| seen.get(&key).is_some()) {
                return None;
            }
        }
        Some(self.client.head(&key).ok()??.len)
    }

    pub(super) fn key(&self, name: &str) -> Result<String, StoreError> {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(StoreError::errno("naming", &self.path.join(name))(Errno::INVAL));
        }
        Ok(format!("{}{name}", self.prefix))
    }

    pub(super) fn aside(&self, name: &str) -> Result<String, StoreError> {
        self.key(name)?;
        self.key(&format!("{TEMPORARY_PREFIX}{name}"))
    }

    pub(super) fn failed(&self, what: &'static str, name: &str, error: ObjectError) -> StoreError {
        StoreError::Io { what, path: self.path.join(name), source: io::Error::other(error) }
    }

    pub(super) fn is_there(&self, key: &str, name: &str) -> Result<bool, StoreError> {
        Ok(self.client.head(key).map_err(|error| self.failed("asking", name, error))?.is_some())
    }

    /// Reads an object that was seen: a short one that never changes at once, and another one when it is read.
    pub(super) fn read_seen(&self, object: &ListedObject) -> Option<Arc<dyn BlockRead>> {
        if let Some(bytes) = self.seen.as_ref().and_then(|seen| seen.known(&object.key)) {
            return Some(bytes);
        }
        if object.etag.is_empty() {
            return None;
        }
        if seen::is_kept(&object.key) && object.len <= cache::MOST_BYTES {
            return held(seen::content(&self.client, &self.cache, object)?).ok();
        }
        Some(Arc::new(self.blocks_of(object)))
    }

    /// An object that was seen; nothing of it is read.
    pub(super) fn blocks_of(&self, object: &ListedObject) -> ObjectBlocks {
        let (store, key, etag) = (store_of(&self.client), object.key.clone(), object.etag.clone());
        let object = StoredObject { store, key, etag, len_bytes: object.len, is_cold: object.is_cold };
        ObjectBlocks::new(&self.client, object, Vec::new())
    }

    pub(super) fn read_object(&self, key: &str, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let path = self.path.join(name);
        let failed = |error| OpenError::Io { path: path.clone(), source: io::Error::other(error) };
        match self.client.get_first(key, FIRST_BYTES).map_err(failed)? {
            None => Err(OpenError::Missing(path.clone())),
            Some((found, first)) => {
                Ok(Arc::new(ObjectBlocks::new(&self.client, stored(&self.client, key.to_owned(), found), first)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HELD_IN_MEMORY, held};

    #[test]
    fn a_long_object_is_held_in_a_file() {
        for (len, is_in_file) in [(HELD_IN_MEMORY, false), (HELD_IN_MEMORY + 1, true)] {
            let bytes: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[1]).collect();
            let object = held(bytes.clone()).unwrap();
            assert_eq!((object.file().is_some(), object.len_bytes()), (is_in_file, len as u64));
            let mut read = vec![0; len];
            object.read_at(0, &mut read).unwrap();
            assert!(read == bytes);
        }
    }
}
