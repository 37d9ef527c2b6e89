//! The storage below a destination: today a directory of this host, and a seam for other kinds.
//!
//! A [`Store`] is one folder of files, and may have subfolders. A new file is *staged* first: it is written,
//! settled, and then published under its name in one step. A published file is never written again.
//!
//! | | a directory | an object store | an encrypting decorator |
//! | --- | --- | --- | --- |
//! | [`Store::create`] | a file under a temporary name | a multipart upload of the final key; a short file stays in memory | encrypts what is written |
//! | [`StoreFile::settle`] | `fsync` | the last part was taken | the last chunk is sealed |
//! | [`Store::publish`] | `rename` that replaces nothing | the upload is completed, or the short file put under its key | as below it |
//! | [`Store::sync`] | `fsync` of the directory | nothing: an answered request is durable | as below it |
//! | [`Store::open`] | `pread` | ranged GET | reads and decrypts chunks |
//!
//! Listings may be stale: a recently published file may be missing, a recently removed one may still appear. A
//! decision to remove files therefore looks up each file by name.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::StoreError;
pub use super::listing::Listing;
use super::open::OpenError;
use super::options::LockOptions;
use super::presence::{Space, disk_usage};
use crate::archive::members::ArchiveFile;
use crate::manifest::{LockedRecord, ObjectRecord};
use crate::outside::{BlockRead, Traffic};

/// A folder of a destination.
pub type Folder = Arc<dyn Store>;

/// A folder of files. Methods take a single path component as a name.
///
/// Only the holder of the destination's lock may call methods that change the folder, except [`Store::put`] with
/// [`Writers::Many`].
pub trait Store: fmt::Debug + Send + Sync {
    /// Its location for messages; the directory of a local store.
    fn path(&self) -> &Path;

    /// The location of the staged file `name`, for messages.
    fn path_of_staged(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The same folder without open descriptors or connections, and without what [`Self::survey`] knows, so that thousands
    /// can be kept.
    fn detached(&self) -> Folder;

    /// The subfolder `name`; `None` if it does not exist. With `make` it is created if missing.
    fn folder(&self, name: &str, make: bool) -> Result<Option<Folder>, StoreError>;

    /// Lists the folder.
    fn list(&self) -> Result<Listing, StoreError>;

    /// This folder as it is now, to read many small files in it and below it, if that takes fewer requests. Lengths are
    /// those of one listing, and content is that of objects in it. `below` names the subfolders that are read; all if it
    /// has not just one. It is for looking only: what changes files looks at the files themselves.
    fn survey(&self, below: &[String]) -> Result<Option<Folder>, StoreError> {
        let _ = below;
        Ok(None)
    }

    /// As [`Self::survey`] of all, and certainly not older than this call.
    fn survey_anew(&self) -> Result<Option<Folder>, StoreError> {
        self.survey(&[])
    }

    /// Writes what spares a later [`Self::survey`] a request for each file. Only for the root of a destination.
    fn write_catalogue(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Opens the published file `name`. An open file stays readable after its name is removed.
    fn open(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError>;

    /// Opens the published file `name` without reading any of it.
    fn open_unread(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.open(name)
    }

    /// The ETag of the published file `name` as it is stored; `None` if its store has none.
    fn etag(&self, name: &str) -> Result<Option<String>, OpenError> {
        Ok(self.open_unread(name)?.object().map(|object| object.etag.clone()).filter(|etag| !etag.is_empty()))
    }

    /// Opens the staged file `name`, to see what an interrupted run left.
    fn open_staged(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError>;

    /// Creates the staged file `name`. Fails if it is already staged.
    fn create(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError>;

    /// As [`Store::create`], of a file whose name is unique to this run: no other process has one of it.
    fn create_own(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        self.create(name)
    }

    /// Opens the staged file `name`, to continue it at its end. `None` if it is not staged, or if this store cannot
    /// continue a file: the caller discards it and starts again.
    fn resume(&self, name: &str) -> Result<Option<Box<dyn StoreFile>>, StoreError> {
        let _ = name;
        Ok(None)
    }

    /// Publishes the staged file `name`. Fails, without a change, if a published file has that name. The name is
    /// durable after the next [`Store::sync`]. An object store returns what tells the new object from a later one.
    fn publish(&self, name: &str) -> Result<Option<ObjectRecord>, StoreError>;

    /// The objects whose names begin with `start`, and their versions; `None` without an object store.
    fn objects(&self, start: &str) -> Result<Option<ObjectStates>, StoreError> {
        let _ = start;
        Ok(None)
    }

    /// Whether the staged and the published file `name` are the same file: its publication was interrupted between
    /// two steps.
    fn is_half_published(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Turns the published file `name` into a staged one, replacing a staged file of that name.
    fn set_aside(&self, name: &str) -> Result<(), StoreError>;

    /// Writes or replaces the small file `name` atomically: readers see the whole old or the whole new content,
    /// also after a power cut. It is durable when this returns.
    fn put(&self, name: &str, bytes: &[u8], writers: Writers) -> Result<(), StoreError>;

    /// Removes the published file `name`. A missing file is no error.
    fn remove(&self, name: &str) -> Result<(), StoreError>;

    /// Removes the staged file `name`. A missing file is no error.
    fn discard(&self, name: &str) -> Result<(), StoreError>;

    /// Makes all created, published, set aside and removed names durable.
    fn sync(&self) -> Result<(), StoreError>;

    /// Removes the folder if it is empty; returns whether it did.
    fn remove_if_empty(&self) -> Result<bool, StoreError>;

    /// Takes the lock `name`. `holder` is one line that describes this process to others.
    fn lock(&self, name: &str, holder: &str) -> Result<Lock, StoreError>;

    /// Used and available space; `None` if the store has no known limit.
    fn space(&self) -> Result<Option<Space>, StoreError>;

    /// Whether the folder is a directory of this host: its path leads to it.
    fn is_local(&self) -> bool {
        true
    }

    /// Whether [`Store::publish`] refuses to replace a file also if two hosts publish at the same time. If not, the names
    /// of a backup are unique to its run.
    fn refuses_to_replace(&self) -> bool {
        true
    }

    /// The length of the published file `name`; `None` if it is missing or no file.
    fn length(&self, name: &str) -> Option<u64> {
        self.open(name).ok().map(|file| file.len_bytes())
    }

    /// Lets other processes see the staged file `name`, which is settled and short: after a crash the next run finds it.
    fn announce(&self, name: &str) -> Result<(), StoreError> {
        let _ = name;
        Ok(())
    }

    /// Whether no run can still be about to publish the staged file `name`. The holder of a lock that is more than advice
    /// knows that there is no other run.
    fn is_abandoned(&self, name: &str) -> Result<bool, StoreError> {
        let _ = name;
        Ok(true)
    }

    /// Ends uploads of killed runs in this folder and below it; returns their number.
    fn end_dead_uploads(&self) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// The bytes of all published files in this folder and below it.
    fn used_bytes(&self) -> Result<u64, StoreError> {
        Ok(disk_usage(self.path()))
    }

    /// What was sent to the store and received from it so far; `None` without a network.
    fn traffic(&self) -> Option<Traffic> {
        None
    }

    /// How new backups are locked here; `None` if they are not.
    fn lock_options(&self) -> Option<LockOptions> {
        None
    }

    /// Locks the files of this stem that are published from now on: publishing one fails if the store does not confirm its
    /// lock. Fails if the store has no lock.
    fn lock_files(&self, stem: &str, lock: LockedRecord) -> Result<(), StoreError> {
        let _ = (stem, lock);
        Ok(())
    }

    /// Fails if the published file `name` is locked, or if these credentials may not delete it as far as that is known.
    fn check_removable(&self, name: &str) -> Result<(), StoreError> {
        let _ = name;
        Ok(())
    }

    /// Bytes of the composed archive `name` that were new in its night; `None` if it is not composed.
    fn new_bytes(&self, name: &str) -> Option<u64> {
        let _ = name;
        None
    }

    /// The names of the segments that the composed archive `name` refers to; none if it is not composed.
    fn segments_of(&self, name: &str) -> Result<Vec<String>, OpenError> {
        let _ = name;
        Ok(Vec::new())
    }

    /// From now on, new files do not refer to these segments; with `None` to none that is there.
    fn leave_segments(&self, names: Option<Vec<String>>) {
        let _ = names;
    }

    /// Takes the objects that segments were published as, from the manifests of the volume. From now on, new files refer to
    /// no segment that is another object by now; returns the names of those.
    fn know_segments(&self, recorded: &[(&str, &ObjectRecord)]) -> Vec<String> {
        let _ = recorded;
        Vec::new()
    }

    /// Fails if a segment that one of the published files refers to is missing, or may be removed by another run. Where the
    /// lock is advice, this is asked before the manifest is published. Returns the objects of the segments.
    fn confirm_segments(&self, names: &[String]) -> Result<BTreeMap<String, ObjectRecord>, StoreError> {
        let _ = names;
        Ok(BTreeMap::new())
    }

    /// How long ago the published file `name` was written, by the store's clock; `None` if it is missing, or if that is not
    /// known.
    fn age(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        let _ = name;
        Ok(None)
    }

    /// Frees what no composed archive in this folder of a volume refers to any more.
    fn free_unneeded(&self) -> Result<Freed, StoreError> {
        Ok(Freed::default())
    }

    /// Gives back the room of these ranges of the published file `name`, which then has zeros there. False if this store
    /// cannot.
    fn free_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<bool, StoreError> {
        let _ = (name, ranges);
        Ok(false)
    }

    /// Holds the folder: several processes may together, or one `alone`, to free something in it. `None` if another holds it
    /// otherwise.
    fn hold(&self, alone: bool) -> Option<RunLock> {
        let _ = alone;
        Some(RunLock::new(()))
    }

    /// Whether this is still the directory that was opened: it was not unmounted, and nothing was mounted over it.
    fn is_still_there(&self) -> Result<bool, StoreError> {
        Ok(true)
    }
}

/// The result of [`Store::free_unneeded`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes whose room was given back.
    pub bytes: u64,
    /// Bytes that nothing needs, and whose room this filesystem does not give back before the whole segment is removed.
    pub wasted_bytes: u64,
}

/// A staged file during writing.
pub trait StoreFile: fmt::Debug + Send + Sync {
    /// A writer that continues at the end of the file. Only one writer at a time. Errors after the last write are
    /// kept for [`StoreFile::settle`].
    fn writer(&self, content: Content) -> io::Result<Box<dyn ArchiveFile>>;

    /// Writes a short file at once.
    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Discards all written data. The writer must be dropped before.
    fn start_over(&self) -> Result<(), StoreError>;

    /// Reads the written data. The writer must be dropped before.
    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError>;

    /// Makes all written data durable, and checks the file's length.
    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError>;
}

/// The kind of content, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An archive: long, and with `share_blocks` partly present in another file.
    Archive {
        /// Whether it may share blocks with other files.
        share_blocks: bool,
    },
    /// An index.
    Index,
}

/// Who may write a file of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Only the holder of the lock.
    One,
    /// Any process: the last write wins.
    Many,
}

/// The result of [`Store::objects`].
#[derive(Clone, Debug, Default)]
pub struct ObjectStates {
    /// By their names.
    pub by_name: BTreeMap<String, ObjectState>,
    /// Why older versions are not in it, although the bucket may keep some.
    pub without_versions: Option<String>,
    /// Why the parts of objects were not looked at.
    pub without_parts: Option<String>,
}

/// An object, and what was under its name before.
#[derive(Clone, Debug, Default)]
pub struct ObjectState {
    /// What a reader gets; `None` if the object was deleted and a version of it is left.
    pub current: Option<ObjectRecord>,
    /// The versions before, in the order in which the store lists them: the newest first.
    pub older: Vec<ObjectRecord>,
    /// What is wrong with its parts, where these are objects that can be changed by themselves.
    pub wrong_parts: Vec<String>,
}

/// The result of [`Store::lock`].
#[derive(Debug)]
pub enum Lock {
    /// Taken: held until this is dropped or the process ends.
    Taken(RunLock),
    /// Another process holds it.
    Held {
        /// That process's description of itself, one line; may be empty.
        by: String,
    },
}

/// The lock of a destination, and with it the right to change the destination. The system releases it when the
/// process ends, for any reason.
pub struct RunLock {
    _held: Box<dyn Send + Sync>,
}

impl RunLock {
    /// A lock that is held as long as `held` exists.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for RunLock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RunLock")
    }
}
