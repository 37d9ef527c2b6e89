//! The group descriptors: ext4 layout, "Block Group Descriptors".

use std::io;

use super::superblock::START;
use super::volume::Volume;
use super::{cut_off, damaged};
use crate::layout::field::{crc32c, le16, le32};

/// What the descriptors say.
#[derive(Default)]
pub(super) struct Groups {
    /// The block in which each group's inodes begin.
    pub(super) inode_tables: Vec<u64>,
    /// What is free in all of them together.
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
}

/// Reads all descriptors, and checks their checksums. Before the journal is replayed these may be wrong, and no more than
/// where the inodes are is of use.
pub(super) fn read(volume: &Volume, is_replayed: bool) -> io::Result<Groups> {
    let superblock = &volume.superblock;
    let len = superblock.descriptor_bytes;
    let in_block = superblock.block_bytes / len as u64;
    // They follow the superblock.
    let first = START / superblock.block_bytes + 1;
    let mut groups = Groups::default();
    for group in 0..superblock.groups {
        let block = volume.block(first + group / in_block)?;
        // Below a block's length, 64 KiB.
        let at = usize::try_from(group % in_block).unwrap_or(0) * len;
        let descriptor = block.get(at..at + len).ok_or_else(cut_off)?;
        if let Some(seed) = superblock.checksum_seed.filter(|_| is_replayed) {
            check(seed, group, descriptor)?;
        }
        let low_half = |at: usize| le16(descriptor, at).map(u64::from).ok_or_else(cut_off);
        let high_half = |at: usize| if len >= 64 { low_half(at) } else { Ok(0) };
        let high = if len >= 64 { le32(descriptor, 0x28) } else { Some(0) };
        let table = high.zip(le32(descriptor, 0x8)).map(|(high, low)| u64::from(high) << 32 | u64::from(low));
        groups.inode_tables.push(table.ok_or_else(cut_off)?);
        let free_clusters = high_half(0x2C)? << 16 | low_half(0xC)?;
        groups.free_blocks = groups.free_blocks.saturating_add(free_clusters * superblock.cluster_blocks);
        groups.free_inodes += high_half(0x2E)? << 16 | low_half(0xE)?;
    }
    Ok(groups)
}

/// The checksum at 0x1E is of the group's number, and of all of the descriptor with zeros in its own place.
fn check(seed: u32, group: u64, descriptor: &[u8]) -> io::Result<()> {
    let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
    let (before, after) = (descriptor.get(..0x1E).ok_or_else(cut_off)?, descriptor.get(0x20..).ok_or_else(cut_off)?);
    let crc = [&number, before, &[0; 2], after].iter().fold(seed, |crc, part| crc32c(crc, part));
    if le16(descriptor, 0x1E).map(u32::from) == Some(crc & 0xFFFF) {
        Ok(())
    } else {
        Err(damaged(format!("the checksum of group {group} is wrong")))
    }
}
