//! Where the members of an archive and the lines of its index go.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::Arc;

use crate::archive::index::Totals;
use crate::archive::level::HIGHEST_LEVEL;

/// Of pieces of fewer blocks nothing is shared.
pub const LEAST_SHARED_BLOCKS: usize = 16;

/// Where an archive is written to.
pub trait ArchiveFile: Write + Send {
    /// The blocks, in bytes, that this file can have in common with `source` in place of a copy: what lies alike in both,
    /// seen from where a block begins. At most 4096. `None` where each file has its own. Asked for one source alone.
    fn block_to_share(&mut self, source: &File) -> Option<NonZero<usize>> {
        let _ = source;
        None
    }

    /// Takes all of `bytes`, which `source` has at `offset`. Does not need to share any of it.
    fn write_shared(&mut self, bytes: &[u8], source: &Arc<File>, offset: u64) -> io::Result<()> {
        let _ = (source, offset);
        self.write_all(bytes)
    }
}

/// Shares nothing.
impl ArchiveFile for File {}

/// Where the two streams go.
pub struct Outputs {
    /// The archive.
    pub archive: Box<dyn ArchiveFile>,
    /// Its index. Need not be buffered.
    pub index: Box<dyn Write + Send>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenMembers {
    /// The index's last line.
    pub totals: Totals,
    /// SHA-1 of the archive's bytes.
    pub archive_sha1: [u8; 20],
    /// SHA-256 of the index's bytes.
    pub index_sha256: [u8; 32],
    /// How long the index is, in bytes.
    pub index_bytes: u64,
    /// How many members were compressed at each level, by the level.
    pub levels: [u64; HIGHEST_LEVEL as usize + 1],
}
