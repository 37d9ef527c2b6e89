//! Errors that end a restore.

use std::path::PathBuf;

use super::names::IdError;
use super::select::BadPattern;
use crate::run::check::CheckError;
use crate::store::Backup;
use crate::store::open::OpenError;

/// Why nothing, or not everything, was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The archive cannot be opened.
    #[error(transparent)]
    Archive(#[from] OpenError),
    /// The target cannot be used.
    #[error("{} cannot be restored into", to.display())]
    Target {
        /// The target.
        to: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another restore is at work there.
    #[error("another restore works in {}", .0.display())]
    Busy(PathBuf),
    /// Owners and groups cannot be mapped as it was asked for. Nothing was written.
    #[error(transparent)]
    Ids(#[from] IdError),
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The archive has nothing of that name.
    #[error("the archive has nothing that matches {}", .0.join(", "))]
    NothingMatches(Vec<String>),
    /// Somebody wanted it to stop.
    #[error("interrupted before everything was restored; --resume goes on from here")]
    Stopped,
    /// This process lacks what reading a backup takes.
    #[error("the backup cannot be read here")]
    Here(#[source] std::io::Error),
}

impl RestoreError {
    pub(super) fn of_check(error: CheckError) -> Self {
        match error {
            CheckError::Stopped => Self::Stopped,
            CheckError::Here(source) => Self::Here(source),
        }
    }

    /// The backup's archive cannot be opened, or read at all.
    pub(super) fn cannot_open(files: &Backup, source: std::io::Error) -> Self {
        Self::Archive(OpenError::Io { path: files.archive_path(), source })
    }
}
