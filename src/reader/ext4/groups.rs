//! The group descriptors: ext4 layout, "Block Group Descriptors".

use std::io;

use super::error::{crc32c_without, cut_off, damaged};
use super::superblock::Superblock;
use super::volume::Volume;
use crate::field::ext::START;
use crate::field::{crc32c, le16, le32};

/// The decoded descriptors.
#[derive(Default)]
pub(super) struct Groups {
    /// The first block of each group's inode table.
    pub(super) inode_tables: Vec<u64>,
    /// Free blocks of all groups together.
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    /// Runs of blocks that belong to the filesystem itself: first block and length.
    pub(super) own_blocks: Vec<(u64, u64)>,
    /// The first group whose bitmaps or inode table lie outside the places allowed, and the number of such groups.
    pub(super) misplaced: Option<(u64, u64)>,
}

/// Reads all descriptors and verifies their checksums. Before the journal is replayed, checksums may be wrong and
/// only the inode tables are of use.
pub(super) fn read(volume: &Volume, is_replayed: bool) -> io::Result<Groups> {
    let superblock = &volume.superblock;
    let len = superblock.descriptor_bytes;
    let in_block = superblock.block_bytes / len as u64;
    // The descriptors follow the superblock.
    let first = START / superblock.block_bytes + 1;
    let mut groups = Groups::default();
    // The superblock, all descriptors, and the blocks reserved for more.
    let copy_blocks = 1 + superblock.groups.div_ceil(in_block) + superblock.reserved_descriptor_blocks;
    for group in 0..superblock.groups {
        let block = volume.block(first + group / in_block)?;
        // Fits: below a block's length, at most 64 KiB.
        let at = usize::try_from(group % in_block).unwrap_or(0) * len;
        let descriptor = block.get(at..at + len).ok_or_else(cut_off)?;
        if is_replayed {
            check(superblock, group, descriptor)?;
        }
        let low_half = |at: usize| le16(descriptor, at).map(u64::from).ok_or_else(cut_off);
        let high_half = |at: usize| if len >= 64 { low_half(at) } else { Ok(0) };
        let high = if len >= 64 { le32(descriptor, 0x28) } else { Some(0) };
        let table = high.zip(le32(descriptor, 0x8)).map(|(high, low)| u64::from(high) << 32 | u64::from(low));
        let table = table.ok_or_else(cut_off)?;
        let table_bytes = u64::from(superblock.inodes_per_group) * superblock.inode_bytes as u64;
        if table.saturating_add(table_bytes.div_ceil(superblock.block_bytes)) > superblock.blocks {
            return Err(damaged(format!("the inodes of group {group} lie behind the filesystem's end")));
        }
        groups.inode_tables.push(table);
        if is_replayed {
            if superblock.has_copy(group) {
                let start = superblock.first_data_block + group * superblock.blocks_per_group;
                groups.own_blocks.push((start, copy_blocks));
            }
            let table_blocks = table_bytes.div_ceil(superblock.block_bytes);
            groups.own_blocks.push((table, table_blocks));
            let mut is_right = superblock.may_hold(group, table, table_blocks);
            for (low_at, high_at) in [(0x0, 0x20), (0x4, 0x24)] {
                let high = if len >= 64 { le32(descriptor, high_at) } else { Some(0) };
                let bitmap = high.zip(le32(descriptor, low_at)).ok_or_else(cut_off)?;
                let bitmap = u64::from(bitmap.0) << 32 | u64::from(bitmap.1);
                groups.own_blocks.push((bitmap, 1));
                is_right &= superblock.may_hold(group, bitmap, 1);
            }
            if !is_right {
                let (first, count) = groups.misplaced.unwrap_or((group, 0));
                groups.misplaced = Some((first, count + 1));
            }
        }
        let free_clusters = high_half(0x2C)? << 16 | low_half(0xC)?;
        groups.free_blocks = groups.free_blocks.saturating_add(free_clusters * superblock.cluster_blocks);
        groups.free_inodes += high_half(0x2E)? << 16 | low_half(0xE)?;
    }
    Ok(groups)
}

/// Checks a descriptor's checksum.
fn check(superblock: &Superblock, group: u64, descriptor: &[u8]) -> io::Result<()> {
    let kind = match (superblock.checksum_seed, superblock.group_checksum_uuid) {
        (Some(seed), _) => DescriptorChecksum::Crc32c(seed),
        (None, Some(uuid)) => DescriptorChecksum::Crc16 { uuid, has_64_bits: superblock.has_64_bits },
        (None, None) => DescriptorChecksum::None,
    };
    if kind.is_right(group, descriptor)? {
        Ok(())
    } else {
        Err(damaged(format!("the checksum of group {group} is wrong")))
    }
}

/// Which checksum a filesystem's group descriptors have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DescriptorChecksum {
    None,
    /// `metadata_csum`: what it begins with.
    Crc32c(u32),
    /// `uninit_bg`.
    Crc16 {
        uuid: [u8; 16],
        has_64_bits: bool,
    },
}

impl DescriptorChecksum {
    /// Verifies `bg_checksum` (0x1E). With `metadata_csum` it covers the group number and the descriptor with its checksum
    /// field zeroed, with `gdt_csum` the UUID, the group number, and the descriptor without that field.
    pub(crate) fn is_right(self, group: u64, descriptor: &[u8]) -> io::Result<bool> {
        let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
        let right = match self {
            Self::Crc32c(seed) => crc32c_without(crc32c(seed, &number), descriptor, 0x1E..0x20)? & 0xFFFF,
            Self::Crc16 { uuid, has_64_bits } => {
                let before = descriptor.get(..0x1E).ok_or_else(cut_off)?;
                let after = descriptor.get(0x20..).ok_or_else(cut_off)?;
                let after = if has_64_bits { after } else { &[] };
                u32::from([&uuid[..], &number, before, after].iter().fold(!0, |crc, part| crc16(crc, part)))
            }
            Self::None => return Ok(true),
        };
        Ok(le16(descriptor, 0x1E).map(u32::from) == Some(right))
    }
}

/// CRC-16 as in Linux' `crc16`: polynomial 0x8005, lowest bit first.
fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::crc16;

    #[test]
    fn crc16_gives_its_check_values() {
        // CRC-16/ARC and CRC-16/MODBUS in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
        assert_eq!(crc16(0xFFFF, b"123456789"), 0x4B37);
    }
}
