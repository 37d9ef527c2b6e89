//! The outputs for members and index lines.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use crate::archive::index::Totals;
use crate::archive::level::HIGHEST_LEVEL;
use crate::encryption::WrittenTable;
use crate::outside::{BlockRead, StoredObject};

/// The minimum number of blocks worth sharing.
pub const LEAST_SHARED_BLOCKS: usize = 16;

/// A member of the previous archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct KnownMember {
    /// Its offset there.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// The BLAKE3 of its bytes.
    pub digest: [u8; 32],
}

/// The members of the previous archive, in its order.
#[doc(hidden)]
pub type KnownMembersOf = Box<dyn Iterator<Item = KnownMember> + Send>;

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

    /// Sets the previous archive, and says which members it has: a file that is composed of parts refers to them where
    /// their bytes are the same. Called before the first write.
    #[doc(hidden)]
    fn refer_to(&mut self, previous: &Arc<dyn BlockRead>, members: KnownMembersOf) {
        let _ = (previous, members);
    }

    /// Accepts `bytes`, which are whole members with these lengths and BLAKE3 digests. `from` is their offset in the
    /// previous archive if they were read there, and are what its index says.
    #[doc(hidden)]
    fn write_members(
        &mut self,
        bytes: &[u8],
        members: &mut dyn Iterator<Item = (u64, [u8; 32])>,
        from: Option<u64>,
    ) -> io::Result<()> {
        let _ = (members, from);
        self.write_all(bytes)
    }

    /// Appends a range of the previous archive, whose bytes lie in an object store and are not read.
    #[doc(hidden)]
    fn refer_to_range(&mut self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Appends a range of an object of the same store, which the store copies. The open part must have its least length.
    #[doc(hidden)]
    fn copy_stored(&mut self, source: &Arc<StoredObject>, range: Range<u64>) -> io::Result<()> {
        let _ = (source, range);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The lengths of the parts that copies alternate with. Called before [`ArchiveFile::copy_stored`].
    #[doc(hidden)]
    fn open_part(&mut self) -> OpenPart {
        OpenPart::default()
    }
}

/// The part of an upload that is being filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct OpenPart {
    /// Bytes that were written since the last part or copy.
    pub bytes: u64,
    /// The fewest bytes of a part before a copy, and of the copy.
    pub least_bytes: u64,
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
    /// SHA-1 of the archive's bytes; `None` if the store copied some of them, which this host did not see.
    pub archive_sha1: Option<[u8; 20]>,
    /// Bytes that the store copied.
    pub copied_on_server_bytes: u64,
    /// SHA-256 of the index's bytes.
    pub index_sha256: [u8; 32],
    /// The length of the index in bytes.
    pub index_bytes: u64,
    /// The table of segments of an encrypted archive.
    pub segments: Option<WrittenTable>,
    /// The number of members compressed at each level.
    pub levels: [u64; HIGHEST_LEVEL as usize + 1],
}
