//! Errors that end a check without a result.

use std::io;
use std::path::PathBuf;

/// Why a check did not finish. Damage is no error: it is a [`super::Finding`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The check was cancelled.
    #[error("interrupted before the backup was verified")]
    Stopped,
    /// A lack of memory, threads or descriptors. It says nothing about the backup.
    #[error("the backup could not be verified on this host: it may be good or bad")]
    Here(#[source] io::Error),
    /// A file of the backup could not be read. It says nothing about the backup.
    #[error("{} could not be read: the backup may be good or bad", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// What the system or the store said.
        source: io::Error,
    },
    /// No file of the backup is left, or its directory is gone.
    #[error("{} is gone, with all files of its backup: it was removed, or its share is not mounted", .0.display())]
    Gone(PathBuf),
}

impl CheckError {
    /// Whether it concerns this one backup: others may be verified.
    pub fn is_of_one_backup(&self) -> bool {
        matches!(self, Self::Unread { .. } | Self::Gone(_))
    }
}
