//! Why nothing is carried forward.

use std::io;
use std::path::PathBuf;

use crate::archive::carry::parent::ParentError;
use crate::archive::image::parent::ImageParentError;
use crate::archive::kind::Compression;
use crate::error::with_causes;
use crate::run::locate::LocateError;
use crate::store::ReadError;
use crate::store::open::OpenError;

impl PreviousError {
    /// Whether an earlier backup is not as it was written, or cannot be read: more than a reason to read everything.
    pub(in crate::run) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Bad(_) | Self::AllBad(_) | Self::ReadManifest { .. } | Self::Manifest(_) => true,
            Self::Unusable { why, .. } => match why {
                // What is cold, or does not answer now, is no damage.
                UnusableError::Open(error) => match error {
                    OpenError::Missing(_) | OpenError::NotAFile { .. } => true,
                    OpenError::Io { source, .. } => source.kind() == io::ErrorKind::InvalidData,
                    OpenError::Encrypted { .. } => false,
                },
                UnusableError::ArchiveLength { .. }
                | UnusableError::Overwritten
                | UnusableError::IndexLength { .. }
                | UnusableError::Index(
                    ParentError::Index(_) | ParentError::OtherIndex { .. } | ParentError::OtherArchive,
                )
                | UnusableError::ImageIndex(ImageParentError::Changed | ImageParentError::Index(_)) => true,
                _ => false,
            },
            Self::Find(_) | Self::ImageInObjectStore | Self::Elsewhere(_) => false,
        }
    }
}

/// Why nothing is carried forward although there is a previous backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(in crate::run) enum PreviousError {
    /// The backup named by the user was not found.
    #[error(transparent)]
    Find(#[from] LocateError),
    /// The destination is an object store, and the backup an image.
    #[error("images cannot be carried forward in an object store")]
    ImageInObjectStore,
    /// The named backup is in another place.
    #[error("{} is not in the destination: an object store can copy only from itself", .0.display())]
    Elsewhere(PathBuf),
    /// The manifest of the named backup cannot be read.
    #[error("{}", path.display())]
    ReadManifest {
        /// The manifest.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The manifest of the named backup is missing or damaged.
    #[error(transparent)]
    Manifest(ReadError),
    /// The named backup is bad, or its record of verifications cannot be read.
    #[error("{0}")]
    Bad(String),
    /// All backups of the source are bad, or their records cannot be read, or they may have data of such ones; this is the
    /// newest.
    #[error(
        "{0} is bad (`volbak verify` says more), or may have data carried forward from a bad backup, and there is no other backup"
    )]
    AllBad(String),
    /// The only backup of the volume is damaged.
    #[error("{0} is damaged (`volbak verify` says how), and there is no other backup")]
    Damaged(String),
    /// The backup is valid but unsuitable.
    #[error("{stem}: {}", with_causes(why))]
    Unusable {
        /// The backup.
        stem: String,
        /// The reason.
        why: UnusableError,
    },
}

/// Why a backup cannot be carried forward from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(in crate::run) enum UnusableError {
    /// Another version of volbak wrote it.
    #[error("it has the format {0}, from which this version cannot carry data forward")]
    Format(u32),
    /// Its members are compressed in another way.
    #[error("it is a {before}, and the new backup is a {now}")]
    Compression {
        /// The format of its archive.
        before: Compression,
        /// That of the new archive.
        now: Compression,
    },
    /// Its members would keep their old compression level.
    #[error("it was compressed at level {before}, and the new backup is at level {now}")]
    Level {
        /// Its level; prefixed by `auto` if it was chosen automatically.
        before: String,
        /// The level of the new backup.
        now: i32,
    },
    /// Its members are larger than those of the shared layout.
    #[error("it is in the plain layout, and the members of the shared one are smaller")]
    PlainLayout,
    /// Its parts lie in an object store, and are not read.
    #[error("it is in the shared layout, and in an object store its data cannot be copied into the plain one")]
    SharedLayout,
    /// Its manifest has no date, which the schedule of re-reads needs.
    #[error("its manifest has no date")]
    NoDate,
    /// Its archive or its index cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The archive was changed or truncated.
    #[error("its archive has {found} bytes, and its manifest says {said}")]
    ArchiveLength {
        /// Its length in bytes.
        found: u64,
        /// Its length in the manifest, in bytes.
        said: u64,
    },
    /// Its archive is another object than the one that was published.
    #[error("its archive was overwritten in the store: `volbak verify` says by which version")]
    Overwritten,
    /// Its index is not the one of its manifest.
    #[error("its index has {found} bytes, and its manifest says {said}")]
    IndexLength {
        /// Its length in bytes.
        found: u64,
        /// Its length in the manifest, in bytes.
        said: u64,
    },
    /// Its index cannot be fetched from the store.
    #[error("its index or table of segments cannot be copied to a temporary file: check TMPDIR, or /var/tmp")]
    FetchIndex(#[source] io::Error),
    /// Its index cannot be used.
    #[error(transparent)]
    Index(#[from] ParentError),
    /// The index of the image cannot be used.
    #[error(transparent)]
    ImageIndex(#[from] ImageParentError),
    /// It is plain, and now backups are encrypted.
    #[error("it is not encrypted, and the new backup is")]
    NotEncryptedBefore,
    /// It is encrypted, and now backups are not.
    #[error("it is encrypted, and the new backup is not")]
    NotEncryptedNow,
    /// Its table of segments is not the one that this host wrote.
    #[error("its table of segments was changed")]
    OtherSegments,
    /// Its segments are for others.
    #[error("the recipients in [encryption] have changed since")]
    OtherRecipients,
    /// This host has only public keys, and no index of it.
    #[error("this host has no index of it in {}", .0.display())]
    NotKept(PathBuf),
    /// It is an image, and files are backed up now, or the other way round.
    #[error("one of the two backups is an image, and the other one has files")]
    OtherKind,
}
