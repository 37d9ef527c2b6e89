//! Why a source could not be backed up.

use std::io;
use std::path::PathBuf;

use super::options::AroundError;
use crate::archive::error::ArchiveError;
use crate::events::Severity;
use crate::layout::LayoutError;
use crate::manifest::ManifestError;
use crate::reader::exclude::BadPattern;
use crate::reader::kernel::device_map::DeviceMapError;
use crate::source::SourceError;
use crate::store::StoreError;

/// Why a source could not be backed up. Nothing was published then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It is no source, cannot be frozen, or did not stay what it was.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its first or last sectors cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The system gives no more threads.
    #[error("no thread could be started")]
    Thread(#[source] io::Error),
    /// This process's limits do not let it have the memory that a backup takes.
    #[error("there is too little memory for a backup; fewer threads need less")]
    Memory(#[source] io::Error),
    /// What was frozen cannot be opened or read.
    #[error("what was frozen cannot be read")]
    Open(#[source] io::Error),
    /// A region's files cannot be archived as files; its bytes can. [`back_up_source`](super::back_up_source) keeps it as a raw image instead.
    #[error("{region}: {what}")]
    NotAsFiles {
        /// The region.
        region: String,
        /// How bad that is.
        severity: Severity,
        /// Why.
        what: String,
    },
    /// Its directory in the destination is another source's.
    #[error(
        "{} holds the backups of {there}, and this is another source, {here}: `volbak snapshot --name NAME` gives it a \
         directory of its own; or move that directory away, if it is of no use any more", directory.display()
    )]
    AnotherSource {
        /// The directory.
        directory: PathBuf,
        /// The source of the newest backup there.
        there: String,
        /// The source that was to be backed up.
        here: String,
    },
    /// Device maps that an earlier run left cannot be looked for.
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
    /// An exclude pattern.
    #[error(transparent)]
    Exclude(#[from] BadPattern),
    /// What was to be done before the snapshot failed.
    #[error("before the snapshot: {0}")]
    Before(AroundError),
    /// It took longer than it may.
    #[error(
        "it took more than {limit}{}; nothing was published",
        if *.is_hanging { ", and hangs in a read or a write" } else { "" }
    )]
    OutOfTime {
        /// How long it may take, and what says so.
        limit: String,
        /// Whether it did not end when it was to.
        is_hanging: bool,
    },
    /// Somebody wanted it to end.
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
