//! Why a filesystem, or a structure in it, is not read.

use std::io;
use std::ops::Range;

use crate::field;

/// Why a filesystem is not read by volbak itself.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// It has something that is left to the kernel.
    #[error("it has {0}, which is left to the kernel")]
    LeftToKernel(String),
    /// Its superblock, a group or the journal is damaged; the kernel has the last word on it.
    #[error("it cannot be read")]
    Damaged(#[source] io::Error),
    /// It is made so that reading it never ends, and must not be given to the kernel either.
    #[error("its journal leads round and round")]
    Endless,
}

impl From<io::Error> for NotRead {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// [`field::crc32c_without`], of a structure that may be cut off.
pub(super) fn crc32c_without(crc: u32, bytes: &[u8], blank: Range<usize>) -> io::Result<u32> {
    field::crc32c_without(crc, bytes, blank).ok_or_else(cut_off)
}

/// An error that says what is wrong on the disk.
pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The error of a structure that ends before one of its fields.
pub(super) fn cut_off() -> io::Error {
    damaged("a structure of the filesystem is cut off")
}
