//! Why volbak does not read a filesystem or one of its structures.

use std::io;
use std::ops::Range;

use crate::field;

/// Why volbak's own reader does not read a filesystem.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// It has a feature that is left to the kernel.
    #[error("it has {0}, which is left to the kernel")]
    LeftToKernel(String),
    /// The superblock, a group descriptor or the journal is damaged. The kernel decides whether it can be mounted.
    #[error("it cannot be read")]
    Damaged(#[source] io::Error),
    /// It was crafted so that reading it never ends, and must not be given to the kernel either.
    #[error("its journal forms a loop")]
    Endless,
}

impl From<io::Error> for NotRead {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// [`field::crc32c_without`] for a structure that may be truncated.
pub(super) fn crc32c_without(crc: u32, bytes: &[u8], blank: Range<usize>) -> io::Result<u32> {
    field::crc32c_without(crc, bytes, blank).ok_or_else(cut_off)
}

/// An error that describes damage on the disk.
pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The error for a structure that ends before one of its fields.
pub(super) fn cut_off() -> io::Error {
    damaged("a structure of the filesystem is cut off")
}
