//! The journal of ext3 and ext4: its inode (Linux, Documentation/filesystems/ext4/super.rst), and its superblock
//! (journal.rst).

use crate::field::ext::incompat;
use crate::field::{array, be32, le16, le32};
use crate::layout::window::Window;

const EXTENTS_MAGIC: u16 = 0xf30a;
/// `EXT4_MAX_EXTENT_DEPTH`.
const DEPTH_MAX: u16 = 5;
/// `JBD2_MAGIC_NUMBER`, and the type of a superblock with features.
const JOURNAL_MAGIC: u32 = 0xc03b_3998;
const SUPERBLOCK_V2: u32 = 4;

/// An internal journal.
pub(super) struct Journal {
    /// Its length in blocks.
    pub(super) blocks: u64,
    /// The first of them.
    first: Option<u64>,
}

impl Journal {
    /// From its inode, or from the superblock's copy of that. `None` for an external journal.
    pub(super) fn find(window: &Window<'_>, sb: &[u8], block_bytes: u32, inode_bytes: u32) -> Option<Self> {
        let number = le32(sb, 0xe0)?.checked_sub(1)?;
        let length = |bytes: &[u8], low: usize, high: usize| -> Option<u64> {
            Some(u64::from(le32(bytes, high)?) << 32 | u64::from(le32(bytes, low)?))
        };
        let is_possible =
            |(bytes, _): &(u64, [u8; 60])| *bytes >= 1024 * u64::from(block_bytes) && *bytes <= window.len();
        let in_table = || {
            // The first group's descriptor follows the superblock's block; the inode is in that group's table.
            let descriptor = window.read((u64::from(le32(sb, 0x14)?) + 1) * u64::from(block_bytes), 64)?;
            let is_long = le32(sb, 0x60)? & incompat::HAS_64BIT != 0 && le16(sb, 0xfe)? >= 64;
            let high = if is_long { le32(&descriptor, 0x28)? } else { 0 };
            let table = u64::from(high) << 32 | u64::from(le32(&descriptor, 0x8)?);
            if number >= le32(sb, 0x28)? {
                return None;
            }
            let at = u64::from(number).checked_mul(inode_bytes.into())?;
            let inode = window.read(table.checked_mul(block_bytes.into())?.checked_add(at)?, 128)?;
            let is_file = le16(&inode, 0)? & 0xf000 == 0x8000;
            length(&inode, 0x4, 0x6c).filter(|_| is_file).zip(array(&inode, 0x28))
        };
        // s_jnl_backup_type 1: s_jnl_blocks holds i_block and i_size of the inode.
        let in_copy = || length(sb, 0x14c, 0x148).filter(|_| array::<1>(sb, 0xfd) == Some([1])).zip(array(sb, 0x10c));
        let (bytes, map) = in_table().filter(is_possible).or_else(|| in_copy().filter(is_possible))?;
        Some(Self { blocks: bytes / u64::from(block_bytes), first: first_block(window, &map, block_bytes) })
    }

    /// The length of its area for fast commits in blocks, which is the last part of it: s_num_fc_blks.
    pub(super) fn fast_commit_blocks(&self, window: &Window<'_>, block_bytes: u32) -> Option<u64> {
        let sb = window.read(self.first?.checked_mul(block_bytes.into())?, 0x58)?;
        let is_superblock = be32(&sb, 0)? == JOURNAL_MAGIC && be32(&sb, 4)? == SUPERBLOCK_V2;
        be32(&sb, 0x54).map(u64::from).filter(|blocks| is_superblock && *blocks > 0 && *blocks < self.blocks)
    }
}

/// The first block of a file, from its i_block.
fn first_block(window: &Window<'_>, map: &[u8; 60], block_bytes: u32) -> Option<u64> {
    if le16(map, 0)? != EXTENTS_MAGIC {
        return Some(u64::from(le32(map, 0)?)).filter(|block| *block > 0);
    }
    let mut node = map.to_vec();
    for _ in 0..=DEPTH_MAX {
        if le16(&node, 0)? != EXTENTS_MAGIC || le16(&node, 2)? == 0 || le32(&node, 12)? != 0 {
            return None;
        }
        if le16(&node, 6)? == 0 {
            return Some(u64::from(le16(&node, 18)?) << 32 | u64::from(le32(&node, 20)?));
        }
        let leaf = u64::from(le16(&node, 20)?) << 32 | u64::from(le32(&node, 16)?);
        node = window.read(leaf.checked_mul(block_bytes.into())?, block_bytes as usize)?;
    }
    None
}
