//! The outputs for members and index lines.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::Arc;

use crate::archive::index::Totals;
use crate::archive::level::HIGHEST_LEVEL;
use crate::encryption::WrittenTable;

/// The minimum number of blocks worth sharing.
pub const LEAST_SHARED_BLOCKS: usize = 16;

/// The output for an archive.
pub trait ArchiveFile: Write + Send {
    /// The block size, at most 4096 bytes, at which this file can share blocks with `source` instead of copying:
    /// ranges with the same alignment in both files. `None` if blocks cannot be shared. Called for a single source
    /// only.
    #[doc(hidden)]
    fn block_to_share(&mut self, source: &File) -> Option<NonZero<usize>> {
        let _ = source;
        None
    }

    /// Accepts all of `bytes`, which are at `offset` in `source`. Sharing is optional.
    #[doc(hidden)]
    fn write_shared(&mut self, bytes: &[u8], source: &Arc<File>, offset: u64) -> io::Result<()> {
        let _ = (source, offset);
        self.write_all(bytes)
    }
}

/// Shares nothing.
impl ArchiveFile for File {}

/// The outputs of a writer.
pub struct Outputs {
    /// The archive.
    pub archive: Box<dyn ArchiveFile>,
    /// Its index; needs no buffering.
    pub index: Box<dyn Write + Send>,
    /// The table of its segments, if it is encrypted; needs no buffering.
    pub segments: Option<Box<dyn Write + Send>>,
}

/// The result of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenMembers {
    /// The totals in the index's last line.
    pub totals: Totals,
    /// SHA-1 of the archive's bytes.
    pub archive_sha1: [u8; 20],
    /// SHA-256 of the index's bytes.
    pub index_sha256: [u8; 32],
    /// The length of the index in bytes.
    pub index_bytes: u64,
    /// The table of segments of an encrypted archive.
    pub segments: Option<WrittenTable>,
    /// The number of members compressed at each level.
    pub levels: [u64; HIGHEST_LEVEL as usize + 1],
}
