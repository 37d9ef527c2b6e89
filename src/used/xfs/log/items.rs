//! The items of committed transactions: which buffers they change, and which blocks are mentioned.

use std::collections::HashMap;

use super::replayed::{Gathered, Replayed};
use super::ring::{BASIC_BLOCK, damaged, not_understood};
use super::transactions::{Items, Transaction};
use crate::field::{be32, le16, le32, le64};
use crate::outside::BlockRead;
use crate::units::ByteRange;
use crate::used::map::{RunSet, Whole};
use crate::used::xfs::superblock::Superblock;

/// `XFS_LI_…`
mod kind {
    pub(super) const EFI: u16 = 0x1236;
    pub(super) const EFD: u16 = 0x1237;
    pub(super) const INODE: u16 = 0x123B;
    pub(super) const BUF: u16 = 0x123C;
    pub(super) const DQUOT: u16 = 0x123D;
    pub(super) const QUOTAOFF: u16 = 0x123E;
    pub(super) const ICREATE: u16 = 0x123F;
    pub(super) const RUI: u16 = 0x1240;
    pub(super) const RUD: u16 = 0x1241;
    pub(super) const CUI: u16 = 0x1242;
    pub(super) const CUD: u16 = 0x1243;
    pub(super) const BUI: u16 = 0x1244;
    pub(super) const BUD: u16 = 0x1245;
}
/// Intents, each with the item that says that it is done.
const DONE: [(u16, u16); 4] =
    [(kind::EFD, kind::EFI), (kind::RUD, kind::RUI), (kind::CUD, kind::CUI), (kind::BUD, kind::BUI)];

/// `XFS_BLF_CANCEL`: the buffer's block was freed, and no earlier item of it is replayed.
const CANCEL: u16 = 0x2;
/// The upper five bits of a buffer's flags are its type: not known, or a block of a tree.
const TYPE_SHIFT: u16 = 11;
const TYPES_OF_TREES: [u16; 2] = [0, 4];
const CHUNK_BYTES: usize = 128;
/// More of these than a log has room for in any use.
const EVENTS_MAX: usize = 1 << 19;

/// The kind of an item and the number of its intent.
type Intent = (u16, u64);
/// A buffer: its first basic block, and how many it has.
type Place = (u64, u64);

enum Event {
    Cancelled(Place),
    Intended(Intent, Vec<ByteRange>),
    Done(Intent),
}

/// A first pass over the log, which collects the facts that the second one needs.
pub(super) struct Survey<'a> {
    xfs: &'a Superblock,
    /// Of each transaction that has no commit yet.
    pending: HashMap<usize, Vec<Event>>,
    /// The place of each transaction in the order of commits, by the order of starts.
    committed: HashMap<usize, u32>,
    /// The last commit that cancels each buffer.
    cancelled: HashMap<Place, u32>,
    /// Intents that are begun and not done.
    intents: HashMap<Intent, Vec<ByteRange>>,
    events: usize,
}

impl<'a> Survey<'a> {
    pub(super) fn new(xfs: &'a Superblock) -> Self {
        Self {
            xfs,
            pending: HashMap::new(),
            committed: HashMap::new(),
            cancelled: HashMap::new(),
            intents: HashMap::new(),
            events: 0,
        }
    }
}

impl Items for Survey<'_> {
    fn format(&mut self, transaction: Transaction, format: &[u8]) -> Result<bool, Whole> {
        let kind = le16(format, 0).ok_or_else(damaged)?;
        let event = match kind {
            kind::BUF => {
                let buffer = Buffer::parse(format).ok_or_else(damaged)?;
                if !buffer.is_cancelled {
                    return Ok(false);
                }
                Event::Cancelled(buffer.place)
            }
            kind::EFI | kind::RUI | kind::CUI | kind::BUI => {
                let id = le64(format, 8).ok_or_else(damaged)?;
                Event::Intended((kind, id), extents(self.xfs, kind, format).ok_or_else(damaged)?)
            }
            kind::EFD | kind::RUD | kind::CUD | kind::BUD => {
                let intent = DONE.iter().find(|(done, _)| *done == kind).ok_or_else(damaged)?.1;
                Event::Done((intent, le64(format, 8).ok_or_else(damaged)?))
            }
            kind::INODE | kind::DQUOT | kind::QUOTAOFF | kind::ICREATE => return Ok(false),
            _ => return Err(not_understood(format!("it has an item of the unknown kind {kind:#x}"))),
        };
        self.events += 1 + if let Event::Intended(_, ranges) = &event { ranges.len() } else { 0 };
        if self.events > EVENTS_MAX {
            return Err(not_understood("it frees too many extents at once"));
        }
        self.pending.entry(transaction.number).or_default().push(event);
        Ok(false)
    }

    fn data(&mut self, _: Transaction, _: &[u8], _: &mut usize, _: &[u8]) -> Result<(), Whole> {
        Ok(())
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), Whole> {
        let order = u32::try_from(self.committed.len()).map_err(|_| damaged())?;
        self.committed.insert(transaction.number, order);
        for event in self.pending.remove(&transaction.number).unwrap_or_default() {
            match event {
                Event::Cancelled(place) => {
                    self.cancelled.insert(place, order);
                }
                Event::Intended(intent, ranges) => {
                    self.intents.insert(intent, ranges);
                }
                Event::Done(intent) => {
                    let done = self.intents.remove(&intent);
                    self.events -= done.map_or(0, |ranges| ranges.len());
                }
            }
        }
        Ok(())
    }
}

/// A second pass, which collects the changes.
pub(super) struct Changes<'a> {
    xfs: &'a Superblock,
    survey: Survey<'a>,
    gathered: Gathered<'a>,
    /// Blocks that an item changes, or that an intent which is not done mentions.
    touched: RunSet,
    /// Blocks of buffers that are no part of a tree or a group's header.
    others: RunSet,
}

impl<'a> Changes<'a> {
    pub(super) fn new(blocks: &'a dyn BlockRead, xfs: &'a Superblock, survey: Survey<'a>, newest_lsn: u64) -> Self {
        let len = blocks.len_bytes();
        let mut touched = RunSet::new(len);
        survey.intents.values().flatten().for_each(|range| touched.add(*range));
        let gathered = Gathered::new(blocks, xfs, newest_lsn);
        Self { xfs, survey, gathered, touched, others: RunSet::new(len) }
    }

    pub(super) fn finish(self) -> Replayed<'a> {
        self.gathered.finish(self.touched.finish(), self.others.finish())
    }

    /// The order of a transaction's commit; `None` where it has none.
    fn order(&self, transaction: Transaction) -> Option<u32> {
        self.survey.committed.get(&transaction.number).copied()
    }

    /// The bytes of a buffer, which must lie in the filesystem.
    fn range(&self, place: Place) -> Result<ByteRange, Whole> {
        let range = ByteRange::new(place.0.saturating_mul(BASIC_BLOCK), place.1 * BASIC_BLOCK);
        let is_inside = range.end().is_some_and(|end| end <= self.xfs.blocks * self.xfs.block_bytes);
        if is_inside { Ok(range) } else { Err(damaged()) }
    }
}

impl Items for Changes<'_> {
    fn format(&mut self, transaction: Transaction, format: &[u8]) -> Result<bool, Whole> {
        let Some(order) = self.order(transaction) else { return Ok(false) };
        match le16(format, 0) {
            Some(kind::BUF) => {}
            Some(kind::ICREATE) => {
                let word = |at: usize| be32(format, at).map(u64::from).ok_or_else(damaged);
                let (group, first, count) = (word(4)?, word(8)?, word(20)?);
                let range = self.xfs.bytes_of(group * self.xfs.group_blocks + first, count);
                self.touched.add(range);
                return Ok(false);
            }
            _ => return Ok(false),
        }
        let buffer = Buffer::parse(format).ok_or_else(damaged)?;
        let range = self.range(buffer.place)?;
        self.touched.add(range);
        let is_cancelled = self.survey.cancelled.get(&buffer.place).is_some_and(|last| order <= *last);
        if buffer.is_cancelled || is_cancelled {
            return Ok(false);
        }
        if !self.xfs.is_header_or_tree(range, TYPES_OF_TREES.contains(&buffer.kind)) {
            self.others.add(range);
            return Ok(false);
        }
        self.gathered.is_newer(range, transaction.lsn)
    }

    fn data(
        &mut self,
        transaction: Transaction,
        format: &[u8],
        next_bit: &mut usize,
        data: &[u8],
    ) -> Result<(), Whole> {
        let order = self.order(transaction).ok_or_else(damaged)?;
        let buffer = Buffer::parse(format).ok_or_else(damaged)?;
        let range = self.range(buffer.place)?;
        let first = (*next_bit..buffer.bits()).find(|bit| buffer.has(*bit)).ok_or_else(damaged)?;
        // A run of bits may be cut into regions where its buffer's pages are.
        let run = (first..buffer.bits()).take_while(|bit| buffer.has(*bit)).count();
        let count = run.min(data.len() / CHUNK_BYTES);
        if count == 0 {
            return Err(damaged());
        }
        for (bit, chunk) in (first..first + count).zip(data.chunks_exact(CHUNK_BYTES)) {
            let at = range.start + (bit * CHUNK_BYTES) as u64;
            if at >= range.start + range.len {
                return Err(damaged());
            }
            self.gathered.add(at, order, chunk)?;
        }
        *next_bit = first + count;
        Ok(())
    }

    fn commit(&mut self, _: Transaction) -> Result<(), Whole> {
        Ok(())
    }
}

/// `xfs_buf_log_format`.
struct Buffer<'a> {
    kind: u16,
    is_cancelled: bool,
    place: Place,
    /// A bit for each 128 bytes of the buffer that a region has.
    bitmap: &'a [u8],
}

impl<'a> Buffer<'a> {
    fn parse(format: &'a [u8]) -> Option<Self> {
        let flags = le16(format, 4)?;
        let words = usize::try_from(le32(format, 16)?).ok()?;
        let bitmap = format.get(20..)?;
        // A buffer that was freed may have no bitmap.
        let bitmap = bitmap.get(..words.checked_mul(4)?).or((flags & CANCEL != 0).then_some(&[]))?;
        Some(Self {
            kind: flags >> TYPE_SHIFT,
            is_cancelled: flags & CANCEL != 0,
            place: (le64(format, 8)?, le16(format, 6)?.into()),
            bitmap,
        })
    }

    fn bits(&self) -> usize {
        self.bitmap.len() * 8
    }

    /// The bitmap's words are those of the machine, little-endian, so that its bytes are in order.
    fn has(&self, bit: usize) -> bool {
        self.bitmap.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
}

/// The extents of an intent.
fn extents(xfs: &Superblock, kind: u16, format: &[u8]) -> Option<Vec<ByteRange>> {
    let count = usize::try_from(le32(format, 4)?).ok()?;
    let list = format.get(16..)?;
    // The bytes of an extent, and where in it the first block and the length are. Those of an EFI are shorter where the machine
    // had 32 bits.
    let (bytes, first_at, len_at) = match kind {
        kind::EFI if list.len() == count.checked_mul(12)? => (12, 0, 8),
        kind::EFI | kind::CUI => (16, 0, 8),
        _ => (32, 8, 24),
    };
    let list = list.get(..count.checked_mul(bytes)?)?;
    list.chunks_exact(bytes)
        .map(|extent| {
            let (first, count) = (xfs.block_of(le64(extent, first_at)?), u64::from(le32(extent, len_at)?));
            let end = first.checked_add(count)?;
            (end <= xfs.blocks).then(|| xfs.bytes_of(first, count))
        })
        .collect()
}
