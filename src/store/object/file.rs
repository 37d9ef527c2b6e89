//! Files that are written, until they are published.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::parts::Parts;
use crate::archive::members::{ArchiveFile, OpenPart};
use crate::manifest::ObjectRecord;
use crate::objects::{LockHeaders, ObjectClient};
use crate::outside::unnamed::unnamed_file;
use crate::outside::{BlockRead, FileBlocks, StoredObject};
use crate::store::api::{Content, StoreFile};
use crate::store::error::StoreError;
use crate::store::open::OpenError;

/// The staged files of this process, by their keys.
#[derive(Debug, Default)]
pub(super) struct Stage(Mutex<BTreeMap<String, Staged>>);

impl Stage {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Staged>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a file; `None` if one of this key is staged.
    pub(super) fn add(&self, key: &str, staged: Staged) -> Option<Staged> {
        let mut all = self.all();
        if all.contains_key(key) {
            return None;
        }
        all.insert(key.to_owned(), staged.clone());
        Some(staged)
    }

    pub(super) fn find(&self, key: &str) -> Option<Staged> {
        self.all().get(key).cloned()
    }

    pub(super) fn take(&self, key: &str) -> Option<Staged> {
        self.all().remove(key)
    }

    /// The names of the files directly below a prefix.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let all = self.all();
        let names = all.keys().filter_map(|key| key.strip_prefix(prefix));
        names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }
}

/// One staged file.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    parts: Arc<Mutex<Parts>>,
    is_announced: Arc<AtomicBool>,
    /// Whether its key is unique to this run.
    is_own: bool,
    lock: Option<LockHeaders>,
    /// What was written so far of an index, to be read before it is published: parts of an upload are not readable.
    copy: Arc<Mutex<Option<File>>>,
}

impl Staged {
    pub(super) fn new(client: &Arc<ObjectClient>, key: &str, lock: Option<LockHeaders>) -> Self {
        let parts = Parts::new(Arc::clone(client), key.to_owned(), lock.clone());
        Self {
            parts: Arc::new(Mutex::new(parts)),
            is_announced: Arc::default(),
            is_own: false,
            lock,
            copy: Arc::default(),
        }
    }

    /// The same, and no other run can have a file of this key.
    pub(super) fn own(self) -> Self {
        Self { is_own: true, ..self }
    }

    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self) -> io::Result<ObjectRecord> {
        self.parts().publish()
    }

    /// The lock that it is published with.
    pub(super) fn lock(&self) -> Option<&LockHeaders> {
        self.lock.as_ref()
    }

    pub(super) fn start_over(&self) -> io::Result<()> {
        *self.copy() = None;
        self.parts().start_over()
    }

    pub(super) fn read(&self) -> io::Result<Arc<dyn BlockRead>> {
        if let Some(file) = &*self.copy() {
            let copy = FileBlocks::of_file(file.try_clone()?)?;
            if copy.len_bytes() == self.parts().len_bytes() {
                return Ok(Arc::new(copy));
            }
        }
        Ok(Arc::new(self.in_memory()?))
    }

    fn copy(&self) -> MutexGuard<'_, Option<File>> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a copy of what is written from now on, in a file without a name. Without room for it, the file cannot be read
    /// before it is published once it is long.
    fn keep_copy(&self) {
        let made = unnamed_file().ok();
        *self.copy() = made.filter(|_| self.parts().len_bytes() == 0);
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut copy = self.copy();
        if copy.as_mut().is_some_and(|file| file.write_all(bytes).is_err()) {
            *copy = None;
        }
        drop(copy);
        self.parts().write(bytes)
    }

    /// A copy of all bytes, if none was sent.
    pub(super) fn in_memory(&self) -> io::Result<Vec<u8>> {
        Ok(self.parts().in_memory()?.to_vec())
    }

    /// Notes that other processes may see it.
    pub(super) fn set_announced(&self) {
        self.is_announced.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_announced(&self) -> bool {
        self.is_announced.load(Ordering::SeqCst)
    }
}

/// The file as it is given to a writer.
#[derive(Debug)]
pub(super) struct ObjectFile {
    staged: Staged,
    path: PathBuf,
}

impl ObjectFile {
    pub(super) fn new(staged: Staged, path: PathBuf) -> Self {
        Self { staged, path }
    }
}

impl StoreFile for ObjectFile {
    fn writer(&self, content: Content) -> io::Result<Box<dyn ArchiveFile>> {
        if content == Content::Index {
            self.staged.keep_copy();
        }
        Ok(Box::new(PartWriter(self.staged.clone())))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.staged.write(bytes).map_err(StoreError::io("writing", &self.path))
    }

    fn start_over(&self) -> Result<(), StoreError> {
        self.staged.start_over().map_err(StoreError::io("emptying", &self.path))
    }

    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.staged.read().map_err(|source| OpenError::Io { path: self.path.clone(), source })
    }

    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError> {
        let mut parts = self.staged.parts();
        let found_bytes = parts.len_bytes();
        if found_bytes != expected_bytes {
            return Err(StoreError::WrongLength { path: self.path.clone(), found_bytes, expected_bytes });
        }
        parts.settle().map_err(StoreError::io("uploading", &self.path))
    }
}

struct PartWriter(Staged);

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    /// An archive that was copied from is gone by now, perhaps, while what it lacks can still be read.
    fn flush(&mut self) -> io::Result<()> {
        self.0.parts().end_copies()
    }
}

impl ArchiveFile for PartWriter {
    fn copy_stored(&mut self, source: &Arc<StoredObject>, range: Range<u64>) -> io::Result<()> {
        self.0.parts().copy(source, range)
    }

    fn open_part(&mut self) -> OpenPart {
        self.0.parts().open_part()
    }
}
