//! Checks the whole block map of a file once: are its blocks inside the filesystem and used by no other file, and
//! do the file's size and block count agree with the map?

use std::io;

use super::error::{cut_off, damaged};
use super::inode::{Inode, Type};
use super::map::{DIRECT_BLOCKS, ENTRY_BYTES, MAX_DEPTH, MAX_WRITTEN_BLOCKS, check, entries, first_of, node_depth};
use super::orphans::is_orphan;
use super::remark::Remark;
use super::volume::Volume;
use crate::events::Severity;
use crate::field::{le16, le32};

/// What was found in a map.
#[derive(Default)]
struct Map {
    /// Blocks of data and of the map itself.
    blocks: u64,
    /// One past the last mapped block of the file, and one past the last written block.
    end: u64,
    written_end: u64,
    /// The first block that another file also maps, and the number of such blocks.
    shared: Option<(u64, u64)>,
}

impl Map {
    fn add(&mut self, volume: &Volume, first: u64, len: u64, start: u64, is_written: bool) -> io::Result<()> {
        let superblock = &volume.superblock;
        let end = start.checked_add(len).filter(|end| *end <= superblock.blocks);
        if start < superblock.first_data_block || end.is_none() {
            return Err(damaged(format!("its blocks {start} and after lie outside the filesystem")));
        }
        self.blocks += len;
        self.end = self.end.max(first + len);
        if is_written {
            self.written_end = self.written_end.max(first + len);
        }
        self.share(volume.checks.map(start, len));
        Ok(())
    }

    fn share(&mut self, shared: Option<(u64, u64)>) {
        if let Some((block, count)) = shared {
            let (first, before) = self.shared.unwrap_or((block, 0));
            self.shared = Some((first, before + count));
        }
    }

    /// Adds a block of the map itself.
    fn add_node(&mut self, volume: &Volume, block: u64) -> io::Result<()> {
        self.blocks += 1;
        if block < volume.superblock.first_data_block || block >= volume.superblock.blocks {
            return Err(damaged(format!("block {block} of its map lies outside the filesystem")));
        }
        if !volume.checks.map_node(block) {
            self.share(Some((block, 1)));
        }
        if volume.checks.has_no_end() { Err(damaged("its map forms a loop")) } else { Ok(()) }
    }
}

/// Whether the whole map is in the inode.
pub(super) fn is_short(inode: &Inode) -> bool {
    if inode.has_extents() {
        return node_depth(&inode.map).is_ok_and(|depth| depth == 0) || le16(&inode.map, 0) != Some(0xF30A);
    }
    (0..3).all(|tree| le32(&inode.map, 48 + 4 * tree) == Some(0))
}

/// Everything wrong with the map of a file, directory or long symbolic link, and with the inode's fields that
/// depend on it. Call it once per map: it marks the map's blocks as used.
pub(super) fn audit(volume: &Volume, inode: &Inode) -> Vec<Remark> {
    if let Some((start, len)) = only_extent(volume, inode) {
        let shared = volume.checks.map(start, len);
        return shared.map(|shared| (Severity::Error, shared_blocks(shared))).into_iter().collect();
    }
    let mut remarks = Vec::new();
    let mut error = |what: String| remarks.push((Severity::Error, what));
    let mut map = Map::default();
    let superblock = &volume.superblock;
    let walked = if inode.has_extents() {
        if !superblock.has_extents {
            error("it is mapped by extents, which this filesystem does not have".to_owned());
        }
        extents(volume, inode, &inode.map, None, &mut map, 0).map(|_| ())
    } else {
        let looks_like_extents =
            superblock.has_extents && le16(&inode.map, 0) == Some(0xF30A) && le16(&inode.map, 4) == Some(4);
        if looks_like_extents {
            error("its map has extents, but its flags say otherwise".to_owned());
        }
        block_numbers(volume, inode, &mut map)
    };
    if let Some(shared) = map.shared {
        error(shared_blocks(shared));
    }
    let is_walked = match walked {
        Ok(()) => true,
        Err(why) => {
            error(format!("its map is damaged: {why}"));
            false
        }
    };
    if !is_walked || volume.checks.has_no_end() {
        return remarks;
    }
    let block_bytes = superblock.block_bytes;
    let is_orphan = || is_orphan(volume, inode.number);
    let size_is_wrong = match inode.file_type() {
        // Preallocated blocks may lie past the end of the file; written ones may not.
        Some(Type::File) => {
            map.written_end > 0
                && inode.size < (map.written_end - 1).saturating_mul(block_bytes)
                && !inode.is_verity()
                && !is_orphan()
        }
        Some(Type::Directory) => !inode.size.is_multiple_of(block_bytes) || inode.size / block_bytes < map.end,
        _ => false,
    };
    if size_is_wrong {
        let (size, end) = (inode.size, map.written_end.saturating_mul(block_bytes));
        remarks
            .push((Severity::Error, format!("its size is {size}, and its blocks reach to {end}: data may be missing")));
    }
    // With bigalloc, `i_blocks` counts whole clusters, which files may share.
    if superblock.cluster_blocks == 1 {
        let attributes = u64::from(inode.attribute_block != 0);
        let expected = (map.blocks + attributes).saturating_mul(block_bytes / 512);
        if inode.sectors != expected && !is_orphan() {
            let what = format!("it counts {} sectors, and has {expected}", inode.sectors);
            remarks.push((Severity::Warning, what));
        }
    }
    remarks
}

fn shared_blocks((block, count): (u64, u64)) -> String {
    format!(
        "{count} of its blocks, {block} the first, belong to another file or to the filesystem itself, too: either may \
         have the other's data"
    )
}

/// The first block and the length of the only extent of a file or directory, if that extent is the whole map and
/// passes all checks of [`audit`]. This fast path covers most files of a typical tree.
fn only_extent(volume: &Volume, inode: &Inode) -> Option<(u64, u64)> {
    let superblock = &volume.superblock;
    let is_usual = inode.has_extents() && superblock.has_extents && superblock.cluster_blocks == 1;
    // Header of a leaf with 1 of 4 entries in use.
    if !is_usual || inode.map[..8] != [0x0A, 0xF3, 1, 0, 4, 0, 0, 0] || volume.checks.has_no_end() {
        return None;
    }
    let entry = inode.map.get(ENTRY_BYTES..2 * ENTRY_BYTES)?;
    let (first, len) = (first_of(entry), le16(entry, 4).filter(|len| (1..=MAX_WRITTEN_BLOCKS).contains(len))?);
    let (start, len) = (u64::from(le16(entry, 6)?) << 32 | u64::from(le32(entry, 8)?), u64::from(len));
    // Cannot overflow: at most 2^32 blocks of up to 64 KiB.
    let (end, block_bytes) = (first + len, superblock.block_bytes);
    let is_size_right = match inode.file_type() {
        Some(Type::File) => inode.size >= (end - 1) * block_bytes,
        Some(Type::Directory) => inode.size.is_multiple_of(block_bytes) && inode.size / block_bytes >= end,
        _ => false,
    };
    let blocks = len + u64::from(inode.attribute_block != 0);
    let is_right = is_size_right
        && start >= superblock.first_data_block
        && start + len <= superblock.blocks
        && inode.sectors == blocks * (block_bytes / 512);
    is_right.then_some((start, len))
}

/// Walks an extent tree node whose extents start at block `first` of the file or later. Returns one past its last
/// extent.
fn extents(
    volume: &Volume,
    inode: &Inode,
    node: &[u8],
    expected: Option<(u16, u64)>,
    map: &mut Map,
    after: u64,
) -> io::Result<u64> {
    let depth = node_depth(node)?;
    let most = u64::try_from((node.len() - ENTRY_BYTES) / ENTRY_BYTES).unwrap_or(0);
    let room = u64::from(le16(node, 4).ok_or_else(cut_off)?);
    if depth > MAX_DEPTH || room > most || room + 2 < most {
        return Err(damaged("a node of its extent tree has an invalid header"));
    }
    let mut after = after;
    let mut is_first = true;
    for entry in entries(node)? {
        let first = first_of(entry);
        let is_first = std::mem::take(&mut is_first);
        if expected.is_some_and(|(right_depth, right_first)| depth != right_depth || is_first && first != right_first) {
            return Err(damaged("a node of its extent tree does not fit to the one above it"));
        }
        if first < after {
            return Err(damaged("two extents are for the same block"));
        }
        if depth == 0 {
            let len = le16(entry, 4).filter(|len| *len > 0).ok_or_else(|| damaged("an extent is empty"))?;
            let is_written = len <= MAX_WRITTEN_BLOCKS;
            let len = u64::from(if is_written { len } else { len - MAX_WRITTEN_BLOCKS });
            let (high, low) = (le16(entry, 6).ok_or_else(cut_off)?, le32(entry, 8).ok_or_else(cut_off)?);
            map.add(volume, first, len, u64::from(high) << 32 | u64::from(low), is_written)?;
            after = first + len;
        } else {
            let (low, high) = (le32(entry, 4).ok_or_else(cut_off)?, le16(entry, 8).ok_or_else(cut_off)?);
            let block = u64::from(high) << 32 | u64::from(low);
            map.add_node(volume, block)?;
            let child = volume.block(block)?;
            check(inode, &child)?;
            after = extents(volume, inode, &child, Some((depth - 1, first)), map, after)?;
        }
    }
    Ok(after)
}

fn block_numbers(volume: &Volume, inode: &Inode, map: &mut Map) -> io::Result<()> {
    leaf(volume, &inode.map[..48], 0, map)?;
    let in_block = volume.superblock.block_bytes / 4;
    let (mut first, mut blocks) = (DIRECT_BLOCKS, 1);
    for tree in 0..3_u32 {
        let at = 48 + 4 * usize::try_from(tree).unwrap_or(0);
        let root = le32(&inode.map, at).ok_or_else(cut_off)?;
        tree_of_numbers(volume, root, tree, first, blocks, map)?;
        blocks *= in_block;
        first += blocks;
    }
    Ok(())
}

/// Walks a tree of block numbers, `depth` levels below `node`. Each number in it covers `blocks` blocks of the
/// file.
fn tree_of_numbers(volume: &Volume, node: u32, depth: u32, first: u64, blocks: u64, map: &mut Map) -> io::Result<()> {
    if node == 0 {
        return Ok(());
    }
    map.add_node(volume, node.into())?;
    let numbers = volume.block(node.into())?;
    if depth == 0 {
        return leaf(volume, &numbers, first, map);
    }
    let below = blocks / (volume.superblock.block_bytes / 4);
    for (index, number) in (0..).zip(numbers.chunks_exact(4)) {
        let number = le32(number, 0).unwrap_or(0);
        tree_of_numbers(volume, number, depth - 1, first + index * blocks, below, map)?;
    }
    Ok(())
}

/// Adds the block numbers of a leaf. Consecutive numbers are added as one run.
fn leaf(volume: &Volume, numbers: &[u8], first: u64, map: &mut Map) -> io::Result<()> {
    let mut run: Option<(u64, u64, u64)> = None;
    for (index, number) in (0..).zip(numbers.chunks_exact(4)) {
        let number = u64::from(le32(number, 0).unwrap_or(0));
        match &mut run {
            Some((_, len, start)) if number != 0 && *start + *len == number => *len += 1,
            run => {
                if let Some((first, len, start)) = run.take() {
                    map.add(volume, first, len, start, true)?;
                }
                *run = (number != 0).then_some((first + index, 1, number));
            }
        }
    }
    run.map_or(Ok(()), |(first, len, start)| map.add(volume, first, len, start, true))
}
