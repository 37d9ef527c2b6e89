//! Why nothing, or not everything, was copied.

use std::path::PathBuf;

use super::outcome::CopyReport;
use crate::store::StoreError;

/// Why a copy ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Source and target are the same directory.
    #[error("{} is the destination that is copied from: name another directory with --to", target.display())]
    SamePlace {
        /// The target.
        target: PathBuf,
    },
    /// One of the two is inside the other.
    #[error(
        "{} lies inside {}: what damages one of them would damage both, and each would list the other's volumes; name a \
         directory on another disk with --to", inner.display(), outer.display()
    )]
    Inside {
        /// The directory inside.
        inner: PathBuf,
        /// The directory around it.
        outer: PathBuf,
    },
    /// One of the destinations.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Interrupted. Backups that are copied so far stay, and a part of one in a directory, with which the next copy continues.
    #[error("{}", .0.ended_early.as_deref().unwrap_or("interrupted; the next copy copies what is missing"))]
    Stopped(Box<CopyReport>),
}
