//! What goes wrong with a destination.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::open::OpenError;

/// What went wrong with a destination.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is not there.
    #[error(
        "the destination {} is not a directory that is there; mount it, or make it with mkdir, and try again",
        .0.display()
    )]
    Missing(PathBuf),
    /// It is there, and not on a mount point, though the config asks for one.
    #[error(
        "the backup volume is not mounted: neither {} nor a directory above it is a mount point; mount it, or set \
         require_mount = false",
        .0.display()
    )]
    NotMounted(PathBuf),
    /// Somebody else works on it.
    #[error("another run holds the lock of {}: {holder}; wait for its end", destination.display())]
    Locked {
        /// The destination.
        destination: PathBuf,
        /// Who holds it, as they said themselves.
        holder: String,
    },
    /// An operation on a file failed.
    #[error("{what} {} failed", path.display())]
    Io {
        /// What was tried: `writing`, `renaming`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is on the disk is not what was written.
    #[error("{} has {found_bytes} bytes where {expected_bytes} were written; nothing was published", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length on the disk.
        found_bytes: u64,
        /// The length that was written.
        expected_bytes: u64,
    },
    /// The filesystem takes the name of a volume's directory for another one's.
    #[error(
        "{} is called {is} there: the filesystem takes both names for one, so that the backups of two volumes would be \
         mixed; give one of them another name", path.display()
    )]
    SameName {
        /// The directory that was asked for.
        path: PathBuf,
        /// What it is called.
        is: String,
    },
    /// No name is left for a backup of this moment.
    #[error("every name for a backup of this minute is taken in {}", .0.display())]
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

/// As the system says it where a file is opened without a look at it before.
impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Missing(path) => Self::errno("opening", &path)(Errno::NOENT),
            OpenError::NotAFile { path, what: "a symbolic link" } => Self::errno("opening", &path)(Errno::LOOP),
            OpenError::NotAFile { path, .. } => Self::errno("reading", &path)(Errno::INVAL),
            OpenError::Io { path, source } => Self::Io { what: "opening", path, source },
        }
    }
}
