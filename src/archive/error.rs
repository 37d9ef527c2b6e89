//! Why an archive could not be written.

use std::io;
use std::sync::Arc;

use super::codec::EncoderError;
use super::level::BadLevel;
use crate::units::ByteLen;

/// Asked now and then whether the work is to stop.
pub type StopCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why an archive could not be written. Whatever was written is of no use then.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Writing failed: no space, most likely.
    #[error("the archive could not be written")]
    Write(#[source] io::Error),
    /// [`WriteOptions::stop`](super::write::WriteOptions::stop) said so.
    #[error("stopped before the archive was complete")]
    Stopped,
    /// A member of a large file is damaged in the previous archive, and the file is another one each time that it is asked
    /// for its holes.
    #[error("{0} is damaged in the previous backup and cannot be read in its place; back up with --full")]
    Carry(String),
    /// A filesystem's files hold more than `ArchiveWriter::limit_filesystem` allows.
    #[error("its files hold more than {} together", ByteLen(*limit_bytes))]
    TooMuch {
        /// What was allowed.
        limit_bytes: u64,
    },
    /// The archive would become longer than `ArchiveWriter::limit_archive` allows.
    #[error("its archive would be longer than {} before it is compressed (max_volume_size)", ByteLen(*limit_bytes))]
    TooLong {
        /// What was allowed.
        limit_bytes: u64,
    },
    /// There is no such level.
    #[error(transparent)]
    Level(#[from] BadLevel),
    /// There is no encoder for the level.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}
