//! The ring of basic blocks that a log is.

use std::fmt::Display;

use crate::field::be32;
use crate::outside::BlockRead;
use crate::used::map::Whole;

/// The log is counted in blocks of this size, whatever the filesystem's are.
pub(super) const BASIC_BLOCK: u64 = 512;
/// The same, as the length of a buffer.
pub(super) const BLOCK_LEN: usize = 512;
pub(super) const RECORD_MAGIC: u32 = 0xFEED_BABE;

/// The ring of blocks that the log is.
pub(super) struct Ring<'a> {
    pub(super) blocks: &'a dyn BlockRead,
    /// The byte of the filesystem where the log begins.
    pub(super) start: u64,
    /// How many basic blocks it has.
    pub(super) len: u64,
}

impl Ring<'_> {
    /// Fills `buf`, whole blocks of it, from block `at` on, past the end with what is at the start.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), Whole> {
        let at = at % self.len * BASIC_BLOCK;
        let before_end = usize::try_from(self.len * BASIC_BLOCK - at).map_or(buf.len(), |left| left.min(buf.len()));
        let (front, back) = buf.split_at_mut(before_end);
        self.blocks.read_at(self.start + at, front)?;
        if !back.is_empty() {
            self.blocks.read_at(self.start, back)?;
        }
        Ok(())
    }

    /// The cycle that a block was written in.
    pub(super) fn cycle_at(&self, at: u64) -> Result<u32, Whole> {
        let mut block = [0; BLOCK_LEN];
        self.read(at, &mut block)?;
        cycle_of(&block).ok_or_else(damaged)
    }
}

/// A record's first block has its magic number in front of the cycle.
pub(super) fn cycle_of(block: &[u8]) -> Option<u32> {
    match be32(block, 0)? {
        RECORD_MAGIC => be32(block, 4),
        cycle => Some(cycle),
    }
}

pub(super) fn damaged() -> Whole {
    Whole::in_doubt("its log is damaged")
}

/// The log is right as far as it is read, and has something that is not understood here.
pub(super) fn not_understood(what: impl Display) -> Whole {
    Whole::out_of_date(format!("it was in use, and its log is not replayed here: {what}"))
}
