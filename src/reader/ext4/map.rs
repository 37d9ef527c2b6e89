//! The block map of a file: ext4 layout, "The Contents of inode.i_block".

use std::io;

use super::error::{cut_off, damaged};
use super::inode::Inode;
use super::volume::{Block, Volume};
use crate::field::{crc32c, le16, le32};

const EXTENT_MAGIC: u16 = 0xF30A;
/// The length of an extent header and of each entry.
pub(super) const ENTRY_BYTES: usize = 12;
/// The maximum depth that Linux creates.
pub(super) const MAX_DEPTH: u16 = 5;
/// A longer `ee_len` marks an unwritten extent; this much is subtracted from its length.
pub(super) const MAX_WRITTEN_BLOCKS: u16 = 32768;
/// The number of direct blocks in `i_block`; indirect blocks follow.
pub(super) const DIRECT_BLOCKS: u64 = 12;
/// The maximum number of blocks in a file: logical block numbers have 32 bits.
const MAX_BLOCKS: u64 = 1 << 32;

/// Consecutive blocks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first block, counted in the file.
    pub(super) first: u64,
    /// The number of blocks; at least one.
    pub(super) blocks: u64,
    /// The first block, counted in the filesystem; `None` for a hole or unwritten extent.
    pub(super) start: Option<u64>,
}

impl Run {
    fn hole(first: u64, end: u64) -> Self {
        Self { first, blocks: end - first, start: None }
    }
}

/// The run that starts at block `at` of the file: all blocks that follow without a gap, or as much of the hole as
/// one lookup shows.
pub(super) fn run_at(volume: &Volume, inode: &Inode, at: u64) -> io::Result<Run> {
    if at >= MAX_BLOCKS {
        return Ok(Run { first: at, blocks: u64::MAX - at, start: None });
    }
    let run = if inode.has_extents() { in_extents(volume, inode, at)? } else { in_block_numbers(volume, inode, at)? };
    if let Some(start) = run.start
        && start.checked_add(run.blocks).is_none_or(|end| end > volume.superblock.blocks)
    {
        return Err(damaged(format!("block {at} of the file lies behind the filesystem's end")));
    }
    Ok(run)
}

fn in_extents(volume: &Volume, inode: &Inode, at: u64) -> io::Result<Run> {
    let mut depth = node_depth(&inode.map)?;
    if depth > MAX_DEPTH {
        return Err(damaged("its extent tree is too deep"));
    }
    // Start of the next subtree after this one.
    let mut next = MAX_BLOCKS;
    let mut block: Option<Block> = None;
    while depth > 0 {
        let found = match &block {
            None => child_of(&inode.map, at, &mut next)?,
            Some(block) => child_of(block, at, &mut next)?,
        };
        let Some((first, child)) = found else { return Ok(Run::hole(at, next)) };
        let read = volume.block(child)?;
        check(inode, &read)?;
        depth -= 1;
        if node_depth(&read)? != depth {
            return Err(damaged("a node of its extent tree is at the wrong depth"));
        }
        if entries(&read)?.next().is_some_and(|entry| first_of(entry) != first) {
            return Err(damaged("a node of its extent tree begins elsewhere than the one above it says"));
        }
        block = Some(read);
    }
    match &block {
        None => in_leaf(&inode.map, at, next),
        Some(block) => in_leaf(block, at, next),
    }
}

/// The depth in a node's header; an error if it is not a node.
pub(super) fn node_depth(node: &[u8]) -> io::Result<u16> {
    if le16(node, 0) != Some(EXTENT_MAGIC) {
        return Err(damaged("a node of its extent tree is invalid"));
    }
    le16(node, 6).ok_or_else(cut_off)
}

/// A node's entries of [`ENTRY_BYTES`] each. The first blocks must be in ascending order.
pub(super) fn entries(node: &[u8]) -> io::Result<impl DoubleEndedIterator<Item = &[u8]> + Clone> {
    let count = usize::from(le16(node, 2).ok_or_else(cut_off)?);
    let room = usize::from(le16(node, 4).ok_or_else(cut_off)?);
    if count > room || room > (node.len() - ENTRY_BYTES) / ENTRY_BYTES {
        return Err(damaged("a node of its extent tree has more entries than room"));
    }
    let all = node.get(ENTRY_BYTES..ENTRY_BYTES + count * ENTRY_BYTES).ok_or_else(cut_off)?;
    let entries = all.chunks_exact(ENTRY_BYTES);
    if !entries.clone().map(first_of).is_sorted_by(|a, b| a < b) {
        return Err(damaged("a node of its extent tree is out of order"));
    }
    Ok(entries)
}

/// The first block of the file that an entry covers.
pub(super) fn first_of(entry: &[u8]) -> u64 {
    le32(entry, 0).map_or(0, u64::from)
}

/// The child of `node` that covers block `at`: its first block of the file, and the block that holds it. Lowers
/// `next` to the start of the sibling that follows.
fn child_of(node: &[u8], at: u64, next: &mut u64) -> io::Result<Option<(u64, u64)>> {
    let entries = entries(node)?;
    if entries.clone().next().is_none() {
        return Err(damaged("a node of its extent tree leads nowhere"));
    }
    if let Some(after) = entries.clone().map(first_of).find(|first| *first > at) {
        *next = after.min(*next);
    }
    let Some(entry) = entries.rev().find(|entry| first_of(entry) <= at) else { return Ok(None) };
    let (low, high) = (le32(entry, 4).ok_or_else(cut_off)?, le16(entry, 8).ok_or_else(cut_off)?);
    Ok(Some((first_of(entry), u64::from(high) << 32 | u64::from(low))))
}

fn in_leaf(node: &[u8], at: u64, next: u64) -> io::Result<Run> {
    let entries = entries(node)?;
    let next = entries.clone().map(first_of).find(|first| *first > at).map_or(next, |first| first.min(next));
    let Some(entry) = entries.rev().find(|entry| first_of(entry) <= at) else { return Ok(Run::hole(at, next)) };
    let first = first_of(entry);
    let len = le16(entry, 4).filter(|len| *len > 0).ok_or_else(|| damaged("an extent is empty"))?;
    let is_written = len <= MAX_WRITTEN_BLOCKS;
    let len = u64::from(if is_written { len } else { len - MAX_WRITTEN_BLOCKS });
    if at >= first + len {
        return Ok(Run::hole(at, next));
    }
    if first + len > next {
        return Err(damaged("two extents are for the same block"));
    }
    let (high, low) = (le16(entry, 6).ok_or_else(cut_off)?, le32(entry, 8).ok_or_else(cut_off)?);
    let start = (u64::from(high) << 32 | u64::from(low)) + (at - first);
    Ok(Run { first: at, blocks: first + len - at, start: is_written.then_some(start) })
}

/// Verifies the checksum of a node in its own block. It follows the space for entries.
pub(super) fn check(inode: &Inode, node: &[u8]) -> io::Result<()> {
    let Some(seed) = inode.checksum_seed() else { return Ok(()) };
    let room = usize::from(le16(node, 4).ok_or_else(cut_off)?);
    let end = ENTRY_BYTES + room * ENTRY_BYTES;
    let covered = node.get(..end).ok_or_else(cut_off)?;
    if le32(node, end) == Some(crc32c(seed, covered)) {
        Ok(())
    } else {
        Err(damaged("the checksum of a node of its extent tree is wrong"))
    }
}

fn in_block_numbers(volume: &Volume, inode: &Inode, at: u64) -> io::Result<Run> {
    let in_block = volume.superblock.block_bytes / 4;
    if at < DIRECT_BLOCKS {
        return run_of(&inode.map[..48], at, at);
    }
    // The first block of the file that each indirect tree covers.
    let mut tree_first = DIRECT_BLOCKS;
    let mut tree_blocks = in_block;
    for depth in 1..=3_usize {
        if at < tree_first + tree_blocks {
            let root = le32(&inode.map, 44 + 4 * depth).ok_or_else(cut_off)?;
            return in_tree(volume, root, tree_blocks, tree_first, at);
        }
        tree_first += tree_blocks;
        tree_blocks *= in_block;
    }
    Ok(Run::hole(at, MAX_BLOCKS.max(at + 1)))
}

/// Looks up block `at` of the file in the tree of block numbers below `node`, which covers `blocks` blocks from
/// `first`.
fn in_tree(volume: &Volume, node: u32, blocks: u64, first: u64, at: u64) -> io::Result<Run> {
    let (mut node, mut blocks, mut first) = (node, blocks, first);
    let in_block = volume.superblock.block_bytes / 4;
    loop {
        if node == 0 {
            return Ok(Run::hole(at, first + blocks));
        }
        let numbers = volume.block(u64::from(node))?;
        if blocks == in_block {
            return run_of(&numbers, at, at - first);
        }
        blocks /= in_block;
        let index = (at - first) / blocks;
        first += index * blocks;
        // Below the number of entries in a block.
        node = usize::try_from(index).ok().and_then(|index| le32(&numbers, index * 4)).ok_or_else(cut_off)?;
    }
}

/// The run that starts at entry `index` of `numbers`, which maps block `at` of the file.
fn run_of(numbers: &[u8], at: u64, index: u64) -> io::Result<Run> {
    let skipped = usize::try_from(index).map_err(|_| cut_off())?;
    let mut rest = numbers.chunks_exact(4).skip(skipped).map(|number| le32(number, 0).map_or(0, u64::from));
    let start = rest.next().ok_or_else(cut_off)?;
    let goes_on = |(number, after): (u64, u64)| if start == 0 { number == 0 } else { number == start + after };
    let more = rest.zip(1..).take_while(|pair| goes_on(*pair)).count() as u64;
    Ok(Run { first: at, blocks: 1 + more, start: (start != 0).then_some(start) })
}

#[cfg(test)]
mod tests {
    use super::{ENTRY_BYTES, Run, child_of, in_leaf, run_of};

    /// A node with these entries: the first block, and the eight bytes after it.
    fn node(depth: u16, entries: &[(u32, [u8; 8])]) -> Vec<u8> {
        let count = u16::try_from(entries.len()).unwrap();
        let mut node = [0xF30A, count, count, depth, 0, 0].map(u16::to_le_bytes).concat();
        assert_eq!(node.len(), ENTRY_BYTES);
        for (first, rest) in entries {
            node.extend_from_slice(&first.to_le_bytes());
            node.extend_from_slice(rest);
        }
        node
    }

    fn extent(first: u32, len: u16, start: u32) -> (u32, [u8; 8]) {
        let [a, b, c, d] = start.to_le_bytes();
        let [low, high] = len.to_le_bytes();
        (first, [low, high, 0, 0, a, b, c, d])
    }

    #[test]
    fn holes_reach_to_the_next_extent_and_unwritten_ones_are_holes() {
        let leaf = node(0, &[extent(2, 3, 100), extent(8, 32768 + 4, 200), extent(20, 1, 300)]);
        let run = |at| in_leaf(&leaf, at, 50).unwrap();
        assert_eq!(run(0), Run { first: 0, blocks: 2, start: None });
        assert_eq!(run(3), Run { first: 3, blocks: 2, start: Some(101) });
        assert_eq!(run(5), Run { first: 5, blocks: 3, start: None });
        assert_eq!(run(9), Run { first: 9, blocks: 3, start: None });
        assert_eq!(run(20), Run { first: 20, blocks: 1, start: Some(300) });
        assert_eq!(run(21), Run { first: 21, blocks: 29, start: None });
    }

    #[test]
    fn extents_that_contradict_each_other_are_an_error() {
        let overlapping = node(0, &[extent(0, 3, 100), extent(2, 1, 200)]);
        assert!(in_leaf(&overlapping, 0, 50).is_err());
        let disordered = node(0, &[extent(5, 1, 100), extent(2, 1, 200)]);
        assert!(in_leaf(&disordered, 5, 50).is_err());
        let beyond_what_the_index_says = node(0, &[extent(5, 10, 100)]);
        assert!(in_leaf(&beyond_what_the_index_says, 5, 9).is_err());
        assert!(in_leaf(&node(0, &[extent(0, 0, 100)]), 0, 50).is_err());
        let mut too_many = node(0, &[extent(0, 1, 100), extent(4, 1, 200)]);
        too_many[4] = 1;
        assert!(in_leaf(&too_many, 0, 50).is_err());
        assert!(child_of(&node(1, &[]), 0, &mut 50).is_err());
        let cut = node(0, &[extent(0, 1, 100)]);
        assert!(in_leaf(&cut[..20], 0, 50).is_err());
    }

    #[test]
    fn an_index_leads_to_the_last_child_that_begins_before() {
        let child = |first: u32, block: u32| {
            let [a, b, c, d] = block.to_le_bytes();
            (first, [a, b, c, d, 1, 0, 0, 0])
        };
        let index = node(1, &[child(10, 7), child(20, 8)]);
        let mut next = 99;
        assert_eq!(child_of(&index, 5, &mut next).unwrap(), None);
        assert_eq!(next, 10);
        next = 99;
        assert_eq!(child_of(&index, 15, &mut next).unwrap(), Some((10, (1 << 32) + 7)));
        assert_eq!(next, 20);
        next = 99;
        assert_eq!(child_of(&index, 20, &mut next).unwrap(), Some((20, (1 << 32) + 8)));
        assert_eq!(next, 99);
    }

    #[test]
    fn block_numbers_that_follow_each_other_are_one_run() {
        let numbers: Vec<u8> = [0_u32, 0, 7, 8, 9, 20].iter().flat_map(|number| number.to_le_bytes()).collect();
        let run = |index| run_of(&numbers, 100 + index, index).unwrap();
        assert_eq!(run(0), Run { first: 100, blocks: 2, start: None });
        assert_eq!(run(3), Run { first: 103, blocks: 2, start: Some(8) });
        assert_eq!(run(5), Run { first: 105, blocks: 1, start: Some(20) });
    }
}
