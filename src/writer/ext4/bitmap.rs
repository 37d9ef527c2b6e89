//! Allocates blocks and inodes in ascending order: ext4 layout, "Block and Inode Bitmaps".
//!
//! One bitmap of each kind is in memory; it is written when another group's turn comes.

use super::error::WriteError;
use super::groups::{
    BLOCK_BITMAP, BLOCK_BITMAP_CHECKSUM, BLOCK_UNINIT, FREE_BLOCKS, FREE_INODES, Field, Groups, INODE_BITMAP,
    INODE_BITMAP_CHECKSUM, INODE_UNINIT,
};
use super::output::Output;
use super::volume::Volume;
use crate::field::crc32c;

/// What a bitmap is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Blocks,
    Inodes,
}

/// A run of allocated blocks or inodes, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// The bitmaps of one kind.
pub(super) struct Bitmaps {
    of: Of,
    /// Bits of each group; the last group may have fewer blocks.
    in_group: u64,
    /// All bits.
    total: u64,
    /// The bitmap in memory.
    group: Option<usize>,
    bits: Vec<u8>,
    is_changed: bool,
    /// No bit below is free.
    next: u64,
}

impl Bitmaps {
    pub(super) fn new(of: Of, volume: &Volume) -> Self {
        let facts = &volume.facts;
        let (in_group, total) = match of {
            Of::Blocks => (facts.blocks_per_group, facts.blocks - facts.first_data_block),
            Of::Inodes => (facts.inodes_per_group.into(), facts.inodes.into()),
        };
        Self { of, in_group, total, group: None, bits: vec![0; volume.block_bytes], is_changed: false, next: 0 }
    }

    fn fields(&self) -> (Field, Field, Field, u16) {
        match self.of {
            Of::Blocks => (BLOCK_BITMAP, BLOCK_BITMAP_CHECKSUM, FREE_BLOCKS, BLOCK_UNINIT),
            Of::Inodes => (INODE_BITMAP, INODE_BITMAP_CHECKSUM, FREE_INODES, INODE_UNINIT),
        }
    }

    /// The number of bits of a group.
    fn len_of(&self, group: usize) -> usize {
        let left = self.total.saturating_sub(group as u64 * self.in_group);
        // At most eight times the length of a block.
        usize::try_from(left.min(self.in_group)).unwrap_or(0)
    }

    /// Writes the bitmap in memory.
    pub(super) fn flush(
        &mut self,
        volume: &Volume,
        groups: &mut Groups,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        let Some(group) = self.group.filter(|_| self.is_changed) else { return Ok(()) };
        let (bitmap, checksum, _, uninitialised) = self.fields();
        if let Some(seed) = volume.seed {
            let covered = usize::try_from(self.in_group / 8).unwrap_or(0).min(self.bits.len());
            groups.set(group, checksum, crc32c(seed, &self.bits[..covered]));
        }
        groups.clear_flag(group, uninitialised);
        output.write_now(volume.byte_of(groups.block(group, bitmap)), &self.bits)?;
        self.is_changed = false;
        Ok(())
    }

    fn load(
        &mut self,
        group: usize,
        volume: &Volume,
        groups: &mut Groups,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        if self.group == Some(group) {
            return Ok(());
        }
        self.flush(volume, groups, output)?;
        self.group = None;
        let (bitmap, _, free, uninitialised) = self.fields();
        let len = self.len_of(group);
        if groups.has_flag(group, uninitialised) {
            self.bits.fill(0);
            if self.of == Of::Blocks {
                self.set_own_blocks(group, volume, groups);
            }
            for bit in len..self.bits.len() * 8 {
                self.bits[bit / 8] |= 1 << (bit % 8);
            }
        } else {
            output.read(volume.byte_of(groups.block(group, bitmap)), &mut self.bits)?;
        }
        let found = (0..len).filter(|bit| !self.is_set(*bit)).count();
        if found as u64 != u64::from(groups.number(group, free)) {
            return Err(WriteError::left(format!("the count of free {:?} of group {group} is wrong", self.of)));
        }
        self.group = Some(group);
        Ok(())
    }

    /// Writes the bitmap of a group that has none yet.
    pub(super) fn initialise(
        &mut self,
        group: usize,
        volume: &Volume,
        groups: &mut Groups,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        self.load(group, volume, groups, output)?;
        self.is_changed = true;
        Ok(())
    }

    /// The filesystem's own blocks in a group whose bitmap was never written: as the kernel's
    /// `ext4_init_block_bitmap`.
    fn set_own_blocks(&mut self, group: usize, volume: &Volume, groups: &Groups) {
        let facts = &volume.facts;
        let first = facts.first_data_block + group as u64 * self.in_group;
        let mut mark = |start: u64, len: u64| {
            for block in start.max(first)..start.saturating_add(len).min(first + self.in_group) {
                let bit = usize::try_from(block - first).unwrap_or(0);
                self.bits[bit / 8] |= 1 << (bit % 8);
            }
        };
        if facts.has_copy(group as u64) {
            let descriptors = facts.groups * facts.descriptor_bytes as u64;
            mark(first, 1 + descriptors.div_ceil(facts.block_bytes) + facts.reserved_descriptor_blocks);
        }
        mark(groups.block(group, BLOCK_BITMAP), 1);
        mark(groups.block(group, INODE_BITMAP), 1);
        let table = u64::from(facts.inodes_per_group) * facts.inode_bytes as u64;
        mark(groups.inode_table(group), table.div_ceil(facts.block_bytes));
    }

    fn is_set(&self, bit: usize) -> bool {
        self.bits[bit / 8] & 1 << (bit % 8) != 0
    }

    /// The next free run, of at most `most`. The caller has checked that so many are free.
    pub(super) fn take(
        &mut self,
        most: u64,
        volume: &Volume,
        groups: &mut Groups,
        output: &mut Output,
    ) -> Result<Run, WriteError> {
        let (_, _, free, _) = self.fields();
        let mut group = usize::try_from(self.next / self.in_group).unwrap_or(usize::MAX);
        while group < groups.count() {
            if groups.number(group, free) > 0 {
                self.load(group, volume, groups, output)?;
                let first = group as u64 * self.in_group;
                let len = self.len_of(group);
                let mut bit = usize::try_from(self.next.saturating_sub(first)).unwrap_or(0);
                while bit < len && self.is_set(bit) {
                    // Whole bytes of used ones first.
                    bit += if bit.is_multiple_of(8) && self.bits[bit / 8] == 0xFF { 8 } else { 1 };
                }
                let start = bit;
                while bit < len && ((bit - start) as u64) < most && !self.is_set(bit) {
                    self.bits[bit / 8] |= 1 << (bit % 8);
                    bit += 1;
                }
                if bit > start {
                    let run = Run { start: first + start as u64, len: (bit - start) as u64 };
                    self.is_changed = true;
                    self.next = run.start + run.len;
                    groups.add_free(group, free, -i64::try_from(run.len).unwrap_or(0));
                    return Ok(run);
                }
            }
            group += 1;
            self.next = group as u64 * self.in_group;
        }
        Err(WriteError::left("its counts of free blocks or inodes are wrong"))
    }

    /// Gives a run back.
    pub(super) fn free(
        &mut self,
        run: Run,
        volume: &Volume,
        groups: &mut Groups,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        let (_, _, free, _) = self.fields();
        for at in run.start..run.start + run.len {
            let group = usize::try_from(at / self.in_group).unwrap_or(usize::MAX);
            self.load(group, volume, groups, output)?;
            let bit = usize::try_from(at % self.in_group).unwrap_or(0);
            self.bits[bit / 8] &= !(1 << (bit % 8));
            self.is_changed = true;
            groups.add_free(group, free, 1);
        }
        self.next = self.next.min(run.start);
        Ok(())
    }
}
