//! Why a source could not be backed up.

use std::io;
use std::path::PathBuf;

use super::options::AroundError;
use crate::archive::error::ArchiveError;
use crate::encryption::KeyError;
use crate::events::Severity;
use crate::layout::LayoutError;
use crate::manifest::ManifestError;
use crate::reader::exclude::BadPattern;
use crate::reader::kernel::device_map::DeviceMapError;
use crate::source::SourceError;
use crate::store::StoreError;

/// Why a source could not be backed up. Nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It is no valid source, cannot be frozen, or changed while it was read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its first or last sectors cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The system cannot start another thread.
    #[error("no thread could be started")]
    Thread(#[source] io::Error),
    /// The limits of this process do not allow the memory that a backup needs.
    #[error("there is too little memory for a backup: use fewer threads (--threads, or `threads` in [archive])")]
    Memory(#[source] io::Error),
    /// The frozen source cannot be opened or read.
    #[error("the source cannot be opened or read")]
    Open(#[source] io::Error),
    /// A region cannot be archived as files, only as an image. [`back_up_source`](super::back_up_source) then keeps
    /// it as a raw image.
    #[error("{region}: {what}")]
    NotAsFiles {
        /// The region.
        region: String,
        /// The severity.
        severity: Severity,
        /// The reason.
        what: String,
    },
    /// Its directory in the destination belongs to another source.
    #[error(
        "{} holds the backups of {there}, and this is another source, {here}: `volbak snapshot --name NAME` gives it a \
         directory of its own; or move that directory away, if it is of no use any more", directory.display()
    )]
    AnotherSource {
        /// The directory.
        directory: PathBuf,
        /// The source of the newest backup there.
        there: String,
        /// The source of this backup.
        here: String,
    },
    /// The search for stale device maps failed.
    #[error(transparent)]
    DeviceMap(#[from] DeviceMapError),
    /// The archive could not be written.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest could not be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The keys of encrypted backups.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The manifest could not be signed.
    #[error("the manifest could not be signed")]
    Sign(#[source] io::Error),
    /// The shared layout in an object store.
    #[error(
        "{} is in an object store, where the shared layout does not work together with {with}: set `layout = \"plain\"` in [archive]",
        destination.display()
    )]
    SharedInObjectStore {
        /// The destination.
        destination: PathBuf,
        /// What it does not work with.
        with: &'static str,
    },
    /// An exclude pattern.
    #[error(transparent)]
    Exclude(#[from] BadPattern),
    /// The action before the snapshot failed.
    #[error("before the snapshot: {0}")]
    Before(AroundError),
    /// Its snapshot was to be taken together with those of its group, and was not.
    #[error("it has no snapshot from its group: {0}")]
    NotInSet(String),
    /// The time limit was exceeded.
    #[error(
        "it took more than {limit}{}; nothing was published",
        if *.is_hanging { ", and hangs in a read or a write" } else { "" }
    )]
    OutOfTime {
        /// The limit and its setting.
        limit: String,
        /// Whether it did not end when it was cancelled.
        is_hanging: bool,
    },
    /// The operation was cancelled.
    #[error("interrupted; nothing was published")]
    Cancelled,
}

impl From<ArchiveError> for BackupError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Stopped => Self::Cancelled,
            other => Self::Archive(other),
        }
    }
}
