//! Errors that end a nightly run before it starts; no report is written.

use std::path::PathBuf;

use crate::error::ExitClass;
use crate::source::SourceError;
use crate::store::StoreError;

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NightError {
    /// The lock, mostly.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Volumes cannot be listed, and nothing but a list was wanted.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A volume that was asked for by name is not there.
    #[error("no such volume: {}; `lvs` lists those of {}", names.join(", "), groups.join(", "))]
    NoSuchVolume {
        /// Its name.
        names: Vec<String>,
        /// Where it was looked for.
        groups: Vec<String>,
    },
    /// The destination is not where it should be, and nothing but a list was wanted.
    #[error("the backup volume is not mounted: neither {} nor a directory above it is a mount point", .0.display())]
    NotMounted(PathBuf),
}

impl NightError {
    /// What it means for the exit status.
    pub fn class(&self) -> ExitClass {
        match self {
            Self::Store(StoreError::Locked { .. }) => ExitClass::Locked,
            Self::NoSuchVolume { .. } => ExitClass::Usage,
            Self::Store(_) | Self::Source(_) | Self::NotMounted(_) => ExitClass::Failed,
        }
    }
}
