//! What a destination is kept in: a directory of this host today, and a seam for whatever else comes.
//!
//! A [`Store`] is one folder of files, and may hold further folders. A new file is *staged* first: it is written, settled,
//! and then published under its name in one step. Nothing that is published is ever written again.
//!
//! | | a directory | an object store | an encrypting decorator |
//! | --- | --- | --- | --- |
//! | [`Store::create`] | a file under a temporary name | a multipart upload of the final key; a short file is a marker object | encrypts what is written |
//! | [`StoreFile::settle`] | `fsync` | the last part was taken | the last chunk is sealed |
//! | [`Store::publish`] | `rename` that replaces nothing | the upload is completed; a marker is put under its key, then deleted | as below it |
//! | [`Store::sync`] | `fsync` of the directory | nothing: an answered request is durable | as below it |
//! | [`Store::open`] | `pread` | ranged GET | reads and decrypts chunks |
//!
//! A listing may be late: a file that was published or removed a moment ago may be missing from it, or still be in it. What
//! a decision to remove rests on is therefore asked for by its name.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;
use super::open::OpenError;
use super::presence::Space;
use crate::archive::members::ArchiveFile;
use crate::outside::BlockRead;

/// A folder of a destination. It lives as long as somebody uses it.
pub type Folder = Arc<dyn Store>;

/// A folder of files. Each method takes a single path component as a name.
///
/// Only the holder of the destination's lock may call what changes something, but for [`Store::put`] with
/// [`Writers::Many`].
pub trait Store: fmt::Debug + Send + Sync {
    /// Where it is, as messages name it; of a local store, its directory.
    fn path(&self) -> &Path;

    /// Where the staged file `name` is, as messages name it.
    fn path_of_staged(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The same folder in a form that thousands may be kept of: it holds no descriptor and no connection.
    fn detached(&self) -> Folder;

    /// The folder `name` in it; `None` when there is none. With `make`, it is made when it is not there.
    fn folder(&self, name: &str, make: bool) -> Result<Option<Folder>, StoreError>;

    /// What lies in it.
    fn list(&self) -> Result<Listing, StoreError>;

    /// Opens the published file `name`. What has been opened stays readable when its name is removed.
    fn open(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError>;

    /// Begins the file `name`, staged. Fails when it is staged already.
    fn create(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError>;

    /// Publishes the staged file `name`. Fails, and changes nothing, when a file of that name is published already.
    /// Its name survives a power cut from the next [`Store::sync`] on.
    fn publish(&self, name: &str) -> Result<(), StoreError>;

    /// Whether the staged and the published file `name` are one: its publication was cut off between two steps.
    fn is_half_published(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Makes the published file `name` a staged one. It replaces what is staged under that name.
    fn set_aside(&self, name: &str) -> Result<(), StoreError>;

    /// Writes the small file `name`, or replaces it: a reader finds the whole old or the whole new one, also after a power
    /// cut. It survives one when this returns.
    fn put(&self, name: &str, bytes: &[u8], writers: Writers) -> Result<(), StoreError>;

    /// Removes the published file `name`; that it is not there is fine.
    fn remove(&self, name: &str) -> Result<(), StoreError>;

    /// Removes the staged file `name`; that it is not there is fine.
    fn discard(&self, name: &str) -> Result<(), StoreError>;

    /// Returns once all names that were created, published, set aside or removed survive a power cut.
    fn sync(&self) -> Result<(), StoreError>;

    /// Removes the folder when nothing is left in it; says whether it did.
    fn remove_if_empty(&self) -> Result<bool, StoreError>;

    /// Takes the lock `name`, in the name of `holder`: one line that others are shown.
    fn lock(&self, name: &str, holder: &str) -> Result<Lock, StoreError>;

    /// How full it is; `None` where there is no limit to know.
    fn space(&self) -> Result<Option<Space>, StoreError>;

    /// Whether it is still the one that was opened: nothing was unmounted, or mounted over it.
    fn is_still_there(&self) -> Result<bool, StoreError> {
        Ok(true)
    }
}

/// A staged file that is being written.
pub trait StoreFile: fmt::Debug + Send + Sync {
    /// Where it is written to, from where it was written last on. One writer at a time. What goes wrong after the last
    /// write is kept for [`StoreFile::settle`].
    fn writer(&self, content: Content) -> io::Result<Box<dyn ArchiveFile>>;

    /// Writes `bytes` at once, for files that are short.
    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Forgets all that was written. Its writer must be gone.
    fn start_over(&self) -> Result<(), StoreError>;

    /// Reads what was written. Its writer must be gone.
    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError>;

    /// Returns once all that was written survives a power cut, and is as long as it should be.
    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError>;
}

/// What is written, which decides how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An archive: long, and with `share_blocks` much of it may be in another file already.
    Archive {
        /// Whether it may have blocks in common with other files.
        share_blocks: bool,
    },
    /// An index.
    Index,
}

/// Who may write a file of one name meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// The holder of the lock alone.
    One,
    /// Any process: the last one wins.
    Many,
}

/// What lies in a folder, each list sorted. Names that are not UTF-8 are left out: they are not volbak's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The names of the published files, and of whatever else is neither staged nor a folder.
    pub files: Vec<String>,
    /// The names of the staged files.
    pub staged: Vec<String>,
    /// The names of the folders.
    pub folders: Vec<String>,
}

impl Listing {
    /// Whether the file `name` is published.
    pub fn has(&self, name: &str) -> bool {
        self.files.binary_search_by(|other| other.as_str().cmp(name)).is_ok()
    }

    /// Whether the file `name` is staged.
    pub fn has_staged(&self, name: &str) -> bool {
        self.staged.binary_search_by(|other| other.as_str().cmp(name)).is_ok()
    }
}

/// What came of asking for a lock.
#[derive(Debug)]
pub enum Lock {
    /// It is held until this is dropped, or the process ends.
    Taken(RunLock),
    /// Another process holds it: `by` is what it says of itself, and may be empty.
    Held {
        /// One line.
        by: String,
    },
}

/// The right to change a destination. It is given back when the process ends, however it ends.
pub struct RunLock {
    _held: Box<dyn Send + Sync>,
}

impl RunLock {
    /// Held as long as `held` is.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for RunLock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RunLock")
    }
}
