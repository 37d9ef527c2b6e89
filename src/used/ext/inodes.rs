//! Whether all that the inodes map is used: ext4 layout, "Index Nodes", "Extent Tree" and "Direct/Indirect Block Addressing".

use std::io;

use super::geometry::Geometry;
use crate::field::{le16, le32};
use crate::outside::{BlockRead, Cancel};
use crate::used::map::{UsedMap, Whole};

/// The number of bytes of an inode table that are read at once.
const TABLE_BYTES: u64 = 1 << 20;
/// More blocks of maps than this are not read, nor more than the filesystem has: 16 TiB in indirect blocks, far more in extents.
const MAX_NODES: u64 = 1 << 22;
/// The deepest tree of extents that the kernel makes.
const MAX_DEPTH: u16 = 5;
const EXTENT_MAGIC: u16 = 0xF30A;
const NODE_HEADER_BYTES: usize = 12;
const NODE_ENTRY_BYTES: usize = 12;
/// More blocks than this in one extent are not written yet, and used all the same.
const MAX_WRITTEN_BLOCKS: u64 = 1 << 15;

const TYPE_DIRECTORY: u16 = 0x4000;
const TYPE_FILE: u16 = 0x8000;
const TYPE_SYMLINK: u16 = 0xA000;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;

/// Reads the inodes in use, `tables` has where they are: group, first block, and how many may be in use.
pub(super) fn check(
    view: &dyn BlockRead,
    geometry: &Geometry,
    map: &UsedMap,
    tables: &[(u64, u64, u64)],
    cancel: &Cancel,
) -> Result<(), Whole> {
    let mut check =
        Check { view, geometry, map, nodes_left: MAX_NODES.min(geometry.blocks), mapped_left: geometry.blocks, cancel };
    let mut buf = Vec::new();
    // An inode is at most a block, 64 KiB.
    let inode_len = usize::try_from(geometry.inode_bytes).unwrap_or(usize::MAX);
    for (group, table, inodes) in tables {
        let start = geometry.bytes_of(*table, 1).start;
        let len = inodes * geometry.inode_bytes;
        let mut at = 0;
        while at < len {
            let piece = TABLE_BYTES.min(len - at);
            buf.resize(usize::try_from(piece).unwrap_or(0), 0);
            view.read_at(start + at, &mut buf)?;
            for (index, inode) in (at / geometry.inode_bytes..).zip(buf.chunks_exact(inode_len)) {
                let number = group * geometry.inodes_per_group + index + 1;
                check.inode(inode).map_err(|why| {
                    Whole::in_doubt(match why {
                        Wrong::Free(block) => format!("block {block} of inode {number} is free in its bitmap"),
                        Wrong::Map => format!("the map of inode {number} is damaged"),
                        Wrong::TooManyNodes => "its inodes have more blocks of maps than are read".to_owned(),
                        Wrong::TooManyBlocks => "its inodes map more blocks than it has".to_owned(),
                        Wrong::Io(error) => format!("the map of inode {number} cannot be read: {error}"),
                    })
                })?;
            }
            at += piece;
        }
    }
    Ok(())
}

enum Wrong {
    /// This block is mapped and free.
    Free(u64),
    Map,
    TooManyNodes,
    TooManyBlocks,
    Io(io::Error),
}

struct Check<'a> {
    view: &'a dyn BlockRead,
    geometry: &'a Geometry,
    map: &'a UsedMap,
    nodes_left: u64,
    /// Blocks of data that may still be mapped: each belongs to one inode.
    mapped_left: u64,
    cancel: &'a Cancel,
}

impl Check<'_> {
    fn inode(&mut self, inode: &[u8]) -> Result<(), Wrong> {
        let mode = le16(inode, 0).ok_or(Wrong::Map)?;
        let links = le16(inode, 0x1A).ok_or(Wrong::Map)?;
        if mode == 0 || links == 0 {
            return Ok(());
        }
        let high = le16(inode, 0x76).map(u64::from).ok_or(Wrong::Map)?;
        let attributes = high << 32 | u64::from(le32(inode, 0x68).ok_or(Wrong::Map)?);
        if attributes != 0 {
            self.blocks(attributes, 1)?;
        }
        let flags = le32(inode, 0x20).ok_or(Wrong::Map)?;
        let size = le32(inode, 0x4).ok_or(Wrong::Map)?;
        let in_inode = inode.get(0x28..0x64).ok_or(Wrong::Map)?;
        let kind = mode & 0xF000;
        let has_map = matches!(kind, TYPE_DIRECTORY | TYPE_FILE | TYPE_SYMLINK);
        if !has_map || flags & FLAG_INLINE_DATA != 0 {
            return Ok(());
        }
        if flags & FLAG_EXTENTS != 0 {
            return self.extents(in_inode, None);
        }
        // A short one is in the inode itself.
        if kind == TYPE_SYMLINK && size < 60 {
            return Ok(());
        }
        self.numbers(&in_inode[..48], 0)?;
        (1..).zip(in_inode[48..].chunks_exact(4)).try_for_each(|(depth, number)| self.numbers(number, depth))
    }

    fn blocks(&self, first: u64, count: u64) -> Result<(), Wrong> {
        if first.checked_add(count).is_none_or(|end| end > self.geometry.blocks) {
            return Err(Wrong::Map);
        }
        if self.map.covers(self.geometry.bytes_of(first, count)) { Ok(()) } else { Err(Wrong::Free(first)) }
    }

    /// Blocks that hold data of an inode.
    fn data(&mut self, first: u64, count: u64) -> Result<(), Wrong> {
        self.mapped_left = self.mapped_left.checked_sub(count).ok_or(Wrong::TooManyBlocks)?;
        self.blocks(first, count)
    }

    /// A block of a map, which must be used itself.
    fn node(&mut self, block: u64) -> Result<Vec<u8>, Wrong> {
        self.blocks(block, 1)?;
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or(Wrong::TooManyNodes)?;
        if self.cancel.is_cancelled() {
            return Err(Wrong::Io(io::ErrorKind::Interrupted.into()));
        }
        let mut bytes = vec![0; usize::try_from(self.geometry.block_bytes).unwrap_or(0)];
        self.view.read_at(self.geometry.bytes_of(block, 1).start, &mut bytes).map_err(Wrong::Io)?;
        Ok(bytes)
    }

    /// A node of a tree of extents, of the depth that its parent expects.
    fn extents(&mut self, node: &[u8], expected: Option<u16>) -> Result<(), Wrong> {
        let half = |at: usize| le16(node, at).ok_or(Wrong::Map);
        let (magic, entries, depth) = (half(0)?, usize::from(half(2)?), half(6)?);
        if magic != EXTENT_MAGIC || depth > MAX_DEPTH || expected.is_some_and(|expected| expected != depth) {
            return Err(Wrong::Map);
        }
        let entries = node.get(NODE_HEADER_BYTES..NODE_HEADER_BYTES + entries * NODE_ENTRY_BYTES).ok_or(Wrong::Map)?;
        for entry in entries.chunks_exact(NODE_ENTRY_BYTES) {
            let half = |at: usize| le16(entry, at).map(u64::from).ok_or(Wrong::Map);
            let word = |at: usize| le32(entry, at).map(u64::from).ok_or(Wrong::Map);
            if depth == 0 {
                let count = half(4)?;
                let count = if count > MAX_WRITTEN_BLOCKS { count - MAX_WRITTEN_BLOCKS } else { count };
                self.data(half(6)? << 32 | word(8)?, count)?;
            } else {
                let child = self.node(half(8)? << 32 | word(4)?)?;
                self.extents(&child, Some(depth - 1))?;
            }
        }
        Ok(())
    }

    /// Block numbers; those of depth 1 and above lead to blocks of further numbers.
    fn numbers(&mut self, numbers: &[u8], depth: u32) -> Result<(), Wrong> {
        for number in numbers.chunks_exact(4) {
            let block = u64::from(le32(number, 0).ok_or(Wrong::Map)?);
            if block == 0 {
                continue;
            }
            if depth == 0 {
                self.data(block, 1)?;
            } else {
                let node = self.node(block)?;
                self.numbers(&node, depth - 1)?;
            }
        }
        Ok(())
    }
}
