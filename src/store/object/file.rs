//! Files that are written, until they are published.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::parts::Parts;
use crate::archive::members::ArchiveFile;
use crate::objects::ObjectClient;
use crate::outside::BlockRead;
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
pub(super) struct Staged(Arc<Mutex<Parts>>);

impl Staged {
    pub(super) fn new(client: &Arc<ObjectClient>, key: &str) -> Self {
        Self(Arc::new(Mutex::new(Parts::new(Arc::clone(client), key.to_owned()))))
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self) -> io::Result<()> {
        self.parts().publish()
    }

    pub(super) fn start_over(&self) -> io::Result<()> {
        self.parts().start_over()
    }

    pub(super) fn read(&self) -> io::Result<Arc<dyn BlockRead>> {
        Ok(Arc::new(self.parts().in_memory()?.to_vec()))
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
    fn writer(&self, _: Content) -> io::Result<Box<dyn ArchiveFile>> {
        Ok(Box::new(PartWriter(self.staged.clone())))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.staged.parts().write(bytes).map_err(StoreError::io("writing", &self.path))
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
        self.0.parts().write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveFile for PartWriter {}
