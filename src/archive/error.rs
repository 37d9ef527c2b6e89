//! Why an archive could not be written.

use std::io;
use std::sync::Arc;

use super::codec::EncoderError;
use super::level::BadLevel;
use crate::units::ByteLen;

/// Polled to find out whether the operation is cancelled.
pub type StopCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why an archive could not be written. The part already written is unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Writing failed, most likely for lack of space.
    #[error("the archive could not be written")]
    Write(#[source] io::Error),
    /// Cancelled by [`WriteOptions::stop`](super::write::WriteOptions::stop).
    #[error("stopped before the archive was complete")]
    Stopped,
    /// A member of a large file is damaged in the previous archive, and the file cannot be re-read in its place:
    /// its map of holes no longer matches the part already copied.
    #[error("{0} is damaged in the previous backup and cannot be read again from the volume: back up with --full")]
    Carry(String),
    /// A filesystem's files exceed the limit of `ArchiveWriter::limit_filesystem`.
    #[error("its files hold more than {} together", ByteLen(*limit_bytes))]
    TooMuch {
        /// The limit.
        limit_bytes: u64,
    },
    /// The archive would exceed the limit of `ArchiveWriter::limit_archive`.
    #[error("its archive would have more than {} before compression: raise max_volume_size (--max-size), or exclude files", ByteLen(*limit_bytes))]
    TooLong {
        /// The limit.
        limit_bytes: u64,
    },
    /// The level does not exist.
    #[error(transparent)]
    Level(#[from] BadLevel),
    /// There is no encoder for the level.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

impl ArchiveError {
    /// Whether the object that the store copied from was replaced or removed meanwhile, or cannot be copied from.
    pub(crate) fn is_source_changed(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle)
    }
}
