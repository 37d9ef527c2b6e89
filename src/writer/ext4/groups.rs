//! Group descriptors: ext4 layout, "Block Group Descriptors".

use super::bytes::{high16, low16, put};
use super::error::WriteError;
use super::output::Output;
use super::volume::Volume;
use crate::field::{crc32c, crc32c_without, le16, le32};
use crate::reader::ext4::DescriptorChecksum;

/// `bg_flags`.
pub(super) const INODE_UNINIT: u16 = 0x1;
pub(super) const BLOCK_UNINIT: u16 = 0x2;

/// A 32-bit count or checksum in two halves: the offsets of both.
pub(super) type Field = (usize, usize);
pub(super) const FREE_BLOCKS: Field = (0xC, 0x2C);
pub(super) const FREE_INODES: Field = (0xE, 0x2E);
const USED_DIRECTORIES: Field = (0x10, 0x30);
pub(super) const BLOCK_BITMAP_CHECKSUM: Field = (0x18, 0x38);
pub(super) const INODE_BITMAP_CHECKSUM: Field = (0x1A, 0x3A);
const UNUSED_INODES: Field = (0x1C, 0x32);
/// A block number in two halves of 32 bits.
pub(super) const BLOCK_BITMAP: Field = (0x0, 0x20);
pub(super) const INODE_BITMAP: Field = (0x4, 0x24);
const INODE_TABLE: Field = (0x8, 0x28);

/// All descriptors of a filesystem, as they are on the disk.
pub(super) struct Groups {
    bytes: Vec<u8>,
    descriptor_bytes: usize,
    has_flags: bool,
    /// How many inodes of each group's table mkfs has written.
    written_inodes: Vec<u32>,
    changed: Vec<bool>,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
}

impl Groups {
    /// Reads and checks them.
    pub(super) fn read(volume: &Volume, output: &mut Output) -> Result<Self, WriteError> {
        let facts = &volume.facts;
        // At most 2^18 groups with 1024 bytes.
        let count = usize::try_from(facts.groups).unwrap_or(0);
        let mut groups = Self {
            bytes: vec![0; count * facts.descriptor_bytes],
            descriptor_bytes: facts.descriptor_bytes,
            has_flags: volume.seed.is_some(),
            written_inodes: Vec::with_capacity(count),
            changed: vec![false; count],
            free_blocks: 0,
            free_inodes: 0,
        };
        output.read(volume.byte_of(facts.first_data_block + 1), &mut groups.bytes)?;
        let checksum = volume.seed.map_or(DescriptorChecksum::None, DescriptorChecksum::Crc32c);
        let table_blocks = (u64::from(facts.inodes_per_group) * facts.inode_bytes as u64).div_ceil(facts.block_bytes);
        for group in 0..count {
            let number = group as u64;
            if !checksum.is_right(number, groups.descriptor(group))? {
                return Err(WriteError::left(format!("the checksum of group {group} is wrong")));
            }
            let places = [
                (groups.block(group, BLOCK_BITMAP), 1),
                (groups.block(group, INODE_BITMAP), 1),
                (groups.block(group, INODE_TABLE), table_blocks),
            ];
            let is_right =
                |(start, len): (u64, u64)| facts.may_hold(number, start, len) && start > facts.first_data_block;
            let counts = [groups.number(group, FREE_INODES), groups.unused_inodes(group)];
            if !places.into_iter().all(is_right) || counts.iter().any(|count| *count > facts.inodes_per_group) {
                return Err(WriteError::left(format!("the descriptor of group {group} makes no sense")));
            }
            groups.free_blocks += u64::from(groups.number(group, FREE_BLOCKS));
            groups.free_inodes += u64::from(groups.number(group, FREE_INODES));
            let written = facts.inodes_per_group - groups.unused_inodes(group);
            let written = if groups.has_flag(group, INODE_UNINIT) { 0 } else { written };
            groups.written_inodes.push(written);
        }
        Ok(groups)
    }

    pub(super) fn count(&self) -> usize {
        self.changed.len()
    }

    fn descriptor(&self, group: usize) -> &[u8] {
        &self.bytes[group * self.descriptor_bytes..(group + 1) * self.descriptor_bytes]
    }

    fn change(&mut self, group: usize) -> &mut [u8] {
        self.changed[group] = true;
        &mut self.bytes[group * self.descriptor_bytes..(group + 1) * self.descriptor_bytes]
    }

    fn is_long(&self) -> bool {
        self.descriptor_bytes >= 64
    }

    pub(super) fn number(&self, group: usize, (low, high): Field) -> u32 {
        let bytes = self.descriptor(group);
        let half = |at| u32::from(le16(bytes, at).unwrap_or(0));
        half(low) | if self.is_long() { half(high) << 16 } else { 0 }
    }

    pub(super) fn set(&mut self, group: usize, (low, high): Field, number: u32) {
        let is_long = self.is_long();
        let bytes = self.change(group);
        put(bytes, low, low16(number));
        if is_long {
            put(bytes, high, high16(number));
        }
    }

    pub(super) fn block(&self, group: usize, (low, high): Field) -> u64 {
        let bytes = self.descriptor(group);
        let half = |at| u64::from(le32(bytes, at).unwrap_or(0));
        half(low) | if self.is_long() { half(high) << 32 } else { 0 }
    }

    pub(super) fn inode_table(&self, group: usize) -> u64 {
        self.block(group, INODE_TABLE)
    }

    /// Whether it has the flag. Without checksums, there are none.
    pub(super) fn has_flag(&self, group: usize, flag: u16) -> bool {
        self.has_flags && le16(self.descriptor(group), 0x12).unwrap_or(0) & flag != 0
    }

    pub(super) fn clear_flag(&mut self, group: usize, flag: u16) {
        if self.has_flag(group, flag) {
            let bytes = self.change(group);
            let flags = le16(bytes, 0x12).unwrap_or(0) & !flag;
            put(bytes, 0x12, flags.to_le_bytes());
        }
    }

    /// `bg_itable_unused`; without checksums it means nothing, and mkfs has written all of the table.
    pub(super) fn unused_inodes(&self, group: usize) -> u32 {
        if self.has_flags { self.number(group, UNUSED_INODES) } else { 0 }
    }

    /// The inode with this index in the group is now written.
    pub(super) fn use_inode(&mut self, group: usize, index: u32, in_group: u32) {
        let unused = in_group.saturating_sub(index + 1);
        if self.has_flags && unused < self.unused_inodes(group) {
            self.set(group, UNUSED_INODES, unused);
        }
    }

    /// The number of inodes of the group's table that mkfs has written. Others are what was on the disk before.
    pub(super) fn written_inodes(&self, group: usize) -> u32 {
        self.written_inodes[group]
    }

    pub(super) fn count_directory(&mut self, group: usize, is_new: bool) {
        let count = self.number(group, USED_DIRECTORIES);
        let count = if is_new { count.saturating_add(1) } else { count.saturating_sub(1) };
        self.set(group, USED_DIRECTORIES, count);
    }

    /// Sets a count of free blocks or inodes, and the total.
    pub(super) fn add_free(&mut self, group: usize, field: Field, change: i64) {
        let total = if field == FREE_BLOCKS { &mut self.free_blocks } else { &mut self.free_inodes };
        *total = total.saturating_add_signed(change);
        let count = i64::from(self.number(group, field)).saturating_add(change);
        self.set(group, field, u32::try_from(count).unwrap_or(0));
    }

    /// Writes the changed ones, with their checksums. Copies of them in other groups stay as mkfs made them, as with
    /// the kernel.
    pub(super) fn write(&mut self, volume: &Volume, output: &mut Output) -> Result<(), WriteError> {
        for group in 0..self.count() {
            if let (true, Some(seed)) = (self.changed[group], volume.seed) {
                let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
                let bytes = self.change(group);
                let checksum = crc32c_without(crc32c(seed, &number), bytes, 0x1E..0x20).unwrap_or(0);
                put(bytes, 0x1E, low16(checksum));
            }
        }
        Ok(output.write(volume.byte_of(volume.facts.first_data_block + 1), &self.bytes)?)
    }
}
