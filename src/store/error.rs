//! The errors of a destination.

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::io::Errno;

use super::open::OpenError;

/// The errors of a destination.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It does not exist.
    #[error(
        "the destination {} is not an existing directory; mount it, or create it with mkdir, and try again",
        .0.display()
    )]
    Missing(PathBuf),
    /// It is in an object store, where this does not work.
    #[error("{} is in an object store, where this does not work yet: use a directory", .0.display())]
    InObjectStore(PathBuf),
    /// An object store, and this program was built without its client.
    #[error("{} is in an object store, and this volbak was built without the cargo feature `s3`", .0.display())]
    NoClient(PathBuf),
    /// The object store cannot be used with these settings.
    #[error("the destination {} cannot be used", destination.display())]
    Settings {
        /// The destination.
        destination: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The publication of a backup took so long that another run may take its files for remains.
    #[error(
        "{} was not published: its publication took more than {limit_minutes} minutes, after which another run may remove \
         it; the object store is too slow, or this host was suspended",
        .path.display()
    )]
    TooSlow {
        /// The manifest.
        path: PathBuf,
        /// The limit.
        limit_minutes: u64,
    },
    /// It exists, but is not on a mount point although the config requires one.
    #[error(
        "the backup volume is not mounted: neither {} nor a directory above it is a mount point; mount it, or set \
         require_mount = false",
        .0.display()
    )]
    NotMounted(PathBuf),
    /// Another run holds its lock.
    #[error("another run holds the lock of {}: {holder}; wait for its end", destination.display())]
    Locked {
        /// The destination.
        destination: PathBuf,
        /// The holder's description of itself.
        holder: String,
    },
    /// An operation on a file failed.
    #[error("{what} {} failed", path.display())]
    Io {
        /// The operation: `writing`, `renaming`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file on disk has another length than the data written.
    #[error("{} has {found_bytes} bytes where {expected_bytes} were written; nothing was published", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length on the disk.
        found_bytes: u64,
        /// The length that was written.
        expected_bytes: u64,
    },
    /// The filesystem treats the name of a volume's directory as that of another one.
    #[error(
        "{} is called {is} there: the filesystem treats the two names as equal, so the backups of two volumes would be \
         mixed: give one of them another name", path.display()
    )]
    SameName {
        /// The requested directory.
        path: PathBuf,
        /// The name of the existing directory.
        is: String,
    },
    /// A file that is no part of a backup has the name that a file of a backup needs.
    #[error("{} exists, and belongs to no complete backup: move it away", .0.display())]
    Taken(PathBuf),
    /// The config asks for a lock, and the store has none.
    #[error(
        "{} cannot lock objects ({why}), and `lock` in [store] asks for it: create the bucket with object lock, or remove `lock`; \
         nothing was published", path.display()
    )]
    NoLock {
        /// The folder.
        path: PathBuf,
        /// What the store says.
        why: String,
    },
    /// The store took a lock, and does not confirm it.
    #[error("{} was written with a lock, and the store does not confirm it ({why}): the backup was not published", path.display())]
    NotLocked {
        /// The file.
        path: PathBuf,
        /// What the store says.
        why: String,
    },
    /// The store keeps a file from being deleted.
    #[error("{} is locked in its store until {until}", path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// The end of the lock.
        until: DateTime<Utc>,
    },
    /// These credentials have no right to delete.
    #[error("{}: these credentials may not delete it: run `volbak prune --apply` with credentials that may", .0.display())]
    MayNotDelete(PathBuf),
    /// Room of a composed archive was not freed.
    #[error("no space was freed in {}: {why}", path.display())]
    NotFreed {
        /// The folder of the segments.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Another run is about to remove a segment that the new backup refers to, or has removed it.
    #[error("{} {is}: a run that removes backups found it unneeded; nothing was published, the next backup does not refer to it", path.display())]
    Unneeded {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        is: &'static str,
    },
    /// All names for a backup of this minute are in use.
    #[error("every name for a backup of this minute is taken in {}: try again in a minute", .0.display())]
    NoFreeName(PathBuf),
}

impl StoreError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    pub(super) fn errno(what: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { what, path, source: error.into() }
    }
}

/// The system's error where a file is opened without an earlier check.
impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Missing(path) => Self::errno("opening", &path)(Errno::NOENT),
            OpenError::NotAFile { path, what: "a symbolic link" } => Self::errno("opening", &path)(Errno::LOOP),
            OpenError::NotAFile { path, .. } => Self::errno("reading", &path)(Errno::INVAL),
            OpenError::Io { path, source } => Self::Io { what: "opening", path, source },
            OpenError::Encrypted { path, source, .. } => {
                Self::Io { what: "decrypting", path, source: std::io::Error::other(source) }
            }
        }
    }
}
