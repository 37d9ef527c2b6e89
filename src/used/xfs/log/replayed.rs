//! The filesystem as its log would leave it: group headers and tree blocks in the log replace those on the disk.

use std::collections::HashMap;
use std::io;

use super::ring::{damaged, not_understood};
use crate::field::{array, be64};
use crate::outside::BlockRead;
use crate::units::ByteRange;
use crate::used::map::{UsedMap, Whole};
use crate::used::xfs::checksum::has_right_checksum;
use crate::used::xfs::superblock::Superblock;

const CHUNK_BYTES: usize = 128;
/// More chunks than this, 32 MiB of them, are not kept.
const CHUNKS_MAX: usize = 1 << 18;

type Chunk = [u8; CHUNK_BYTES];

/// The state of a block before the items of the log are applied.
struct Base {
    lsn: u64,
    is_damaged: bool,
}

/// Where version 5 keeps a block's number of the last change that is in it, the filesystem's UUID and the checksum.
struct Stamp {
    lsn: usize,
    uuid: usize,
    crc: usize,
}

impl Stamp {
    fn of(block: &[u8]) -> Option<Self> {
        let (lsn, uuid, crc) = match block.get(..4)? {
            b"XAGF" => (208, 64, 216),
            b"XAGI" => (320, 296, 312),
            b"XFSB" => (240, 32, 224),
            b"AB3B" | b"AB3C" | b"IAB3" | b"FIB3" | b"RMB3" | b"R3FC" => (24, 32, 52),
            _ => return None,
        };
        Some(Self { lsn, uuid, crc })
    }
}

/// Collects chunks; of those of one place the one that is committed last stays.
pub(super) struct Gathered<'a> {
    blocks: &'a dyn BlockRead,
    xfs: &'a Superblock,
    newest_lsn: u64,
    chunks: HashMap<u64, (u32, Chunk)>,
    bases: HashMap<u64, Base>,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(blocks: &'a dyn BlockRead, xfs: &'a Superblock, newest_lsn: u64) -> Self {
        Self { blocks, xfs, newest_lsn, chunks: HashMap::new(), bases: HashMap::new() }
    }

    /// Whether an item of the transaction `lsn` is newer than what the disk has of the block `range`; if not, it is in it already.
    pub(super) fn is_newer(&mut self, range: ByteRange, lsn: u64) -> Result<bool, Whole> {
        if !self.xfs.is_v5 {
            return Ok(true);
        }
        if !self.bases.contains_key(&range.start) {
            if self.bases.len() >= CHUNKS_MAX {
                return Err(too_much());
            }
            let base = self.base(range)?;
            self.bases.insert(range.start, base);
        }
        let base = self.bases.get(&range.start).ok_or_else(damaged)?;
        if base.lsn < lsn {
            return Ok(true);
        }
        if base.is_damaged || base.lsn > self.newest_lsn {
            return Err(Whole::in_doubt(format!(
                "its block at byte {} is damaged, or newer than its log",
                range.start
            )));
        }
        Ok(false)
    }

    fn base(&self, range: ByteRange) -> Result<Base, Whole> {
        let mut block = vec![0; usize::try_from(range.len).map_err(|_| damaged())?];
        self.blocks.read_at(range.start, &mut block)?;
        // What has no number, or another filesystem's, was something else before.
        let nothing = Base { lsn: 0, is_damaged: false };
        let Some(stamp) = Stamp::of(&block) else { return Ok(nothing) };
        let uuid: Option<[u8; 16]> = array(&block, stamp.uuid);
        let is_own = uuid == Some(self.xfs.metadata_uuid) || range.start == 0 && uuid == Some(self.xfs.uuid);
        match be64(&block, stamp.lsn) {
            Some(lsn) if is_own && lsn != u64::MAX => {
                Ok(Base { lsn, is_damaged: !has_right_checksum(&block, stamp.crc) })
            }
            _ => Ok(nothing),
        }
    }

    pub(super) fn add(&mut self, at: u64, order: u32, chunk: &[u8]) -> Result<(), Whole> {
        let chunk = chunk.first_chunk().ok_or_else(damaged)?;
        let is_older = self.chunks.get(&at).is_some_and(|(before, _)| *before > order);
        if is_older {
            return Ok(());
        }
        if self.chunks.len() >= CHUNKS_MAX {
            return Err(too_much());
        }
        self.chunks.insert(at, (order, *chunk));
        Ok(())
    }

    pub(super) fn finish(self, touched: UsedMap, others: UsedMap) -> Replayed<'a> {
        Replayed { blocks: self.blocks, chunks: self.chunks, others, touched: Some(touched) }
    }
}

fn too_much() -> Whole {
    not_understood("it has more changes of free space than are kept in memory")
}

/// The filesystem after its log was replayed, as far as the superblock, the groups' headers and their trees go.
pub(in crate::used::xfs) struct Replayed<'a> {
    blocks: &'a dyn BlockRead,
    chunks: HashMap<u64, (u32, Chunk)>,
    /// What other items of the log change, which is not replayed here.
    others: UsedMap,
    touched: Option<UsedMap>,
}

impl<'a> Replayed<'a> {
    /// Of a log that has nothing to replay.
    pub(super) fn unchanged(blocks: &'a dyn BlockRead) -> Self {
        Self { blocks, chunks: HashMap::new(), others: UsedMap::empty(blocks.len_bytes()), touched: None }
    }

    /// What the log changes or mentions; `None` where it has nothing to replay.
    pub(in crate::used::xfs) fn touched(&self) -> Option<&UsedMap> {
        self.touched.as_ref()
    }

    /// Whether the log has a part of `len` bytes at `offset`, whose checksum is then that of an earlier state.
    pub(in crate::used::xfs) fn has_logged(&self, offset: u64, len: usize) -> bool {
        !self.chunks.is_empty()
            && (offset..offset + len as u64).step_by(CHUNK_BYTES).any(|at| self.chunks.contains_key(&at))
    }
}

impl BlockRead for Replayed<'_> {
    fn len_bytes(&self) -> u64 {
        self.blocks.len_bytes()
    }

    /// `offset` and the length are whole chunks.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if self.others.next_used(offset).is_some_and(|run| run.start < end) {
            return Err(io::Error::other(format!("its log changes the block at byte {offset} to something else")));
        }
        self.blocks.read_at(offset, buf)?;
        if self.chunks.is_empty() {
            return Ok(());
        }
        for (at, place) in (offset..).step_by(CHUNK_BYTES).zip(buf.chunks_exact_mut(CHUNK_BYTES)) {
            if let Some((_, chunk)) = self.chunks.get(&at) {
                place.copy_from_slice(chunk);
            }
        }
        Ok(())
    }
}
