//! Errors that end a nightly run before it starts; no report is written.

use std::path::PathBuf;

use crate::error::ExitClass;
use crate::source::SourceError;
use crate::store::StoreError;

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NightError {
    /// Usually the lock.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Volumes cannot be listed, and only a listing was requested.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A volume requested by name does not exist.
    #[error("no such volume: {}; `lvs` lists those of {}", names.join(", "), groups.join(", "))]
    NoSuchVolume {
        /// The names.
        names: Vec<String>,
        /// The groups searched.
        groups: Vec<String>,
    },
    /// The destination is not mounted, and only a listing was requested.
    #[error("the backup volume is not mounted: neither {} nor a directory above it is a mount point", .0.display())]
    NotMounted(PathBuf),
}

impl NightError {
    /// The exit class.
    pub fn class(&self) -> ExitClass {
        match self {
            Self::Store(StoreError::Locked { .. }) => ExitClass::Locked,
            Self::NoSuchVolume { .. } => ExitClass::Usage,
            Self::Store(_) | Self::Source(_) | Self::NotMounted(_) => ExitClass::Failed,
        }
    }
}
