//! The hash index of a directory: ext4 layout, "Hash Tree Directories".
//!
//! The walk reads directory blocks in sequence and does not need the index. The index shows damage: it says which
//! hashes each block may hold, so a name in the wrong block was changed after it was written, or cannot be found by
//! the kernel.

use std::collections::BTreeMap;
use std::io;

use super::error::{cut_off, damaged};
use super::inode::Inode;
use super::map::run_at;
use super::name_hash::{Kind, NameHash};
use super::remark::Remark;
use super::superblock::Superblock;
use super::volume::{Block, Volume};
use crate::events::Severity;
use crate::field::{crc32c, le16, le32};
use crate::shown;

/// Offset of the first index entry: in the root node after `.`, `..` and `struct dx_root_info`; in other nodes
/// after one unused directory entry.
const ROOT_ENTRIES_AT: usize = 0x20;
const NODE_ENTRIES_AT: usize = 0x8;
const ENTRY_BYTES: usize = 8;
/// The upper bits of a block number are reserved.
const BLOCK_MASK: u32 = 0x0FFF_FFFF;
/// With `large_dir`; without it, one level less.
const MAX_LEVELS: u8 = 2;
/// The maximum number of names in a message.
const NAMED: usize = 3;
/// If more than this many of four names are in the wrong block, the index itself is damaged.
const WRONG_OF_FOUR: u64 = 1;

/// A directory's index, and how the names agree with it.
pub(super) struct DirIndex {
    hash: NameHash,
    /// For each leaf, by its block number in the directory: the lowest and the highest hash it may hold.
    leaves: BTreeMap<u64, (u32, u32)>,
    /// The range of the block whose names come next.
    current: Option<(u32, u32)>,
    names: u64,
    misplaced: u64,
    first: Vec<String>,
    blocks_without: u64,
    damage: Option<String>,
}

impl DirIndex {
    /// Reads a directory's index; `None` if it has none or the kernel does not use it.
    pub(super) fn read(volume: &Volume, directory: &Inode) -> Option<Self> {
        let superblock = &volume.superblock;
        if !superblock.has_indexes || !directory.is_indexed() || directory.is_encrypted() {
            return None;
        }
        let hash = NameHash { kind: Kind::HalfMd4, seed: superblock.hash_seed, is_signed: superblock.hash_is_signed };
        let mut index = Self {
            hash,
            leaves: BTreeMap::new(),
            current: None,
            names: 0,
            misplaced: 0,
            first: Vec::new(),
            blocks_without: 0,
            damage: None,
        };
        if let Err(why) = index.read_root(volume, directory) {
            index.damage = Some(why.to_string());
        }
        Some(index)
    }

    fn read_root(&mut self, volume: &Volume, directory: &Inode) -> io::Result<()> {
        let root = block_of(volume, directory, 0)?;
        let byte = |at: usize| root.get(at).copied().ok_or_else(cut_off);
        self.hash.kind = match byte(0x1C)? {
            0 => Kind::Legacy,
            1 => Kind::HalfMd4,
            2 => Kind::Tea,
            other => return Err(damaged(format!("its hash {other} is not known"))),
        };
        let levels = byte(0x1E)?;
        let most = MAX_LEVELS - u8::from(!volume.superblock.has_large_directories);
        if byte(0x1D)? != 8 || levels > most || byte(0x1F)? & 1 != 0 || le32(&root, 0x18) != Some(0) {
            return Err(damaged("its root makes no sense"));
        }
        self.read_node(volume, directory, (0, &root), levels, (0, u32::MAX))
    }

    fn read_node(
        &mut self,
        volume: &Volume,
        directory: &Inode,
        (number, bytes): (u64, &[u8]),
        levels: u8,
        (low, high): (u32, u32),
    ) -> io::Result<()> {
        let entries_at = if number == 0 { ROOT_ENTRIES_AT } else { NODE_ENTRIES_AT };
        let wrong = |what: &str| Err(damaged(format!("block {number} of it: {what}")));
        let (limit, count) = (le16(bytes, entries_at), le16(bytes, entries_at + 2));
        let (limit, count) = (limit.ok_or_else(cut_off)?, count.ok_or_else(cut_off)?);
        // The last entry's space holds the checksum.
        let room = (bytes.len() - entries_at) / ENTRY_BYTES - usize::from(volume.superblock.checksum_seed.is_some());
        if usize::from(limit) != room || count == 0 || count > limit {
            return wrong("its count of entries makes no sense");
        }
        let entries = bytes.get(entries_at..entries_at + usize::from(count) * ENTRY_BYTES).ok_or_else(cut_off)?;
        if let Some(seed) = directory.checksum_seed() {
            let tail_at = entries_at + usize::from(limit) * ENTRY_BYTES;
            let tail = bytes.get(tail_at..tail_at + ENTRY_BYTES).ok_or_else(cut_off)?;
            let covered = bytes.get(..entries_at + entries.len()).ok_or_else(cut_off)?;
            let right = [covered, &tail[..4], &[0; 4]].iter().fold(seed, |crc, part| crc32c(crc, part));
            if le32(tail, 4) != Some(right) {
                return wrong("its checksum is wrong");
            }
        }
        let blocks = directory.size.div_ceil(volume.superblock.block_bytes);
        // The first entry has limit and count in place of a hash, so its range starts where the node's does. The
        // lowest bit marks a hash that continues from the block before.
        let hash_at = |index: usize| le32(entries, index * ENTRY_BYTES).map(|hash| hash & !1);
        let mut start = low;
        for index in 0..usize::from(count) {
            let end = if index + 1 < usize::from(count) { hash_at(index + 1).ok_or_else(cut_off)? } else { high };
            if end < start || end > high {
                return wrong("its hashes are not in order");
            }
            let child = le32(entries, index * ENTRY_BYTES + 4).ok_or_else(cut_off)? & BLOCK_MASK;
            let child = u64::from(child);
            if child == 0 || child >= blocks {
                return wrong("it leads to a block that the directory does not have");
            }
            // An index node counts as a leaf without names, so that no second path leads to it.
            let range = if levels == 0 { (start, end) } else { (1, 0) };
            if self.leaves.insert(child, range).is_some() {
                return wrong("it leads to a block to which another entry leads");
            }
            if levels > 0 {
                let node = block_of(volume, directory, child)?;
                self.read_node(volume, directory, (child, &node), levels - 1, (start, end))?;
            }
            start = end;
        }
        Ok(())
    }

    /// Names noted after this call are in block `number` of the directory.
    pub(super) fn enter(&mut self, number: u64) {
        self.current = self.leaves.get(&number).copied();
    }

    /// Notes a name of the current block.
    pub(super) fn note(&mut self, name: &[u8]) {
        if self.damage.is_some() {
            return;
        }
        self.names += 1;
        let Some((low, high)) = self.current else {
            self.blocks_without += 1;
            return;
        };
        let is_right = (low..=high).contains(&self.hash.of(name));
        if !is_right {
            self.misplaced += 1;
            if self.first.len() < NAMED {
                self.first.push(shown::path(name));
            }
        }
    }

    /// What is wrong with the index, once all names were noted.
    pub(super) fn remark(&self) -> Option<Remark> {
        if let Some(why) = &self.damage {
            return Some((
                Severity::Warning,
                format!("its index is damaged, the kernel may not find its names: {why}"),
            ));
        }
        if self.blocks_without > 0 {
            let what = format!("its index leads past {} of its {} names", self.blocks_without, self.names);
            return Some((Severity::Warning, format!("{what}: the kernel does not find them")));
        }
        if self.misplaced == 0 {
            return None;
        }
        let (misplaced, names) = (self.misplaced, self.names);
        if misplaced.saturating_mul(4) > names.saturating_mul(WRONG_OF_FOUR) {
            let what = format!("its index fits {} of its {names} names", names - misplaced);
            return Some((Severity::Warning, format!("{what}: the kernel does not find the others")));
        }
        let first = self.first.join(", ");
        Some((
            Severity::Error,
            format!("{misplaced} of its names are in the wrong block by its index, and may have been changed: {first}"),
        ))
    }
}

fn block_of(volume: &Volume, directory: &Inode, number: u64) -> io::Result<Block> {
    let start = run_at(volume, directory, number)?.start.ok_or_else(|| damaged("a block of it is missing"))?;
    let superblock: &Superblock = &volume.superblock;
    superblock.offset_of(start)?;
    volume.block(start)
}
