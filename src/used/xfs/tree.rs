//! The B+trees of an allocation group: blocks of records, and above them blocks of keys and children.

use super::checksum::has_right_checksum;
use super::log::Replayed;
use super::superblock::Superblock;
use crate::field::{array, be16, be32};
use crate::outside::BlockRead;
use crate::used::map::Whole;

const HEADER_BYTES: usize = 16;
const HEADER_BYTES_V5: usize = 56;
const NO_SIBLING: u32 = 0xFFFF_FFFF;
/// `XFS_BTREE_MAXLEVELS`.
const LEVELS_MAX: u32 = 9;

/// A kind of tree.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// What its blocks begin with, before version 5 and since.
    pub(super) magics: [&'static [u8; 4]; 2],
    pub(super) record_bytes: usize,
    pub(super) key_bytes: usize,
}

/// One tree: its group, its root's block in the group, and how many levels it has.
pub(super) struct Tree<'a> {
    pub(super) blocks: &'a Replayed<'a>,
    pub(super) xfs: &'a Superblock,
    pub(super) group: u32,
    pub(super) kind: &'a Kind,
    pub(super) root: u32,
    pub(super) levels: u32,
}

impl Tree<'_> {
    /// Calls `with` with each record, from the first to the last; gives the blocks of the first of each level and all leaves.
    pub(super) fn for_each(&self, mut with: impl FnMut(&[u8]) -> Result<(), Whole>) -> Result<Vec<u64>, Whole> {
        if !(1..=LEVELS_MAX).contains(&self.levels) {
            return Err(self.damaged());
        }
        let mut seen = Vec::new();
        let (mut at, mut level) = (self.root, self.levels - 1);
        let mut block = self.block(at, level)?;
        seen.push(u64::from(at));
        while level > 0 {
            let children_at = self.header_bytes() + self.most_children() * self.kind.key_bytes;
            if self.count(&block)? == 0 {
                return Err(self.damaged());
            }
            at = be32(&block, children_at).ok_or_else(|| self.damaged())?;
            level -= 1;
            block = self.block(at, level)?;
            seen.push(u64::from(at));
        }
        // Each leaf is a block of the group, so that no longer row of them is right.
        let mut left = self.xfs.blocks_in(self.group);
        loop {
            let records = block.get(self.header_bytes()..).ok_or_else(|| self.damaged())?;
            let count = self.count(&block)?;
            let records = records.get(..count * self.kind.record_bytes).ok_or_else(|| self.damaged())?;
            records.chunks_exact(self.kind.record_bytes).try_for_each(&mut with)?;
            let next = be32(&block, 12).ok_or_else(|| self.damaged())?;
            if next == NO_SIBLING {
                return Ok(seen);
            }
            left = left.checked_sub(1).filter(|_| count > 0).ok_or_else(|| self.damaged())?;
            block = self.block(next, 0)?;
            seen.push(u64::from(next));
        }
    }

    pub(super) fn damaged(&self) -> Whole {
        Whole::in_doubt(format!("the tree of {} of group {} is damaged", self.kind.name, self.group))
    }

    fn header_bytes(&self) -> usize {
        if self.xfs.is_v5 { HEADER_BYTES_V5 } else { HEADER_BYTES }
    }

    fn block_len(&self) -> usize {
        // At most 64 KiB.
        usize::try_from(self.xfs.block_bytes).unwrap_or(0)
    }

    fn most_children(&self) -> usize {
        self.block_len().saturating_sub(self.header_bytes()) / (self.kind.key_bytes + 4)
    }

    fn count(&self, block: &[u8]) -> Result<usize, Whole> {
        be16(block, 6).map(usize::from).ok_or_else(|| self.damaged())
    }

    fn block(&self, number: u32, level: u32) -> Result<Vec<u8>, Whole> {
        let xfs = self.xfs;
        if u64::from(number) >= xfs.blocks_in(self.group) {
            return Err(self.damaged());
        }
        let mut block = vec![0; self.block_len()];
        let on_disk = u64::from(self.group) * xfs.group_blocks + u64::from(number);
        let at = xfs.bytes_of(on_disk, 1).start;
        self.blocks.read_at(at, &mut block)?;
        let is_logged = self.blocks.has_logged(at, block.len());
        let magic = self.kind.magics[usize::from(xfs.is_v5)];
        let is_right = block.starts_with(magic)
            && be16(&block, 4).map(u32::from) == Some(level)
            && (!xfs.is_v5 || self.is_own_v5(&block, is_logged));
        if is_right { Ok(block) } else { Err(self.damaged()) }
    }

    /// Version 5: the checksum, which the log's changes do not have yet, the filesystem's UUID and the group.
    fn is_own_v5(&self, block: &[u8], is_logged: bool) -> bool {
        (is_logged || has_right_checksum(block, 52))
            && array(block, 32) == Some(self.xfs.metadata_uuid)
            && be32(block, 48) == Some(self.group)
    }
}
