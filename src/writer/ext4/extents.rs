//! The map from a file's blocks to the disk's: ext4 layout, "Extent Tree".

use super::bytes::{low16, low32, middle16, put};
use super::error::WriteError;
use super::output::Output;
use super::volume::Volume;
use crate::field::{crc32c, le16, le32};

/// `EXT4_EXT_MAGIC`.
const MAGIC: u16 = 0xF30A;
const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 12;
/// Entries in an inode.
const IN_INODE: usize = 4;
/// `EXT_INIT_MAX_LEN`: the maximum length of an extent in blocks.
const LEN_MAX: u32 = 1 << 15;
/// `EXT4_MAX_EXTENT_DEPTH`.
const DEPTH_MAX: u16 = 5;
/// The maximum number of extents of a file, which are in memory: 64 MiB.
const COUNT_MAX: usize = 1 << 22;

/// The length of `i_block`.
pub(super) const MAP_BYTES: usize = 60;

/// A run of a file's blocks that are adjacent on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first block's number in the file.
    pub(super) logical: u32,
    pub(super) len: u32,
    /// The first block's number on the disk.
    pub(super) physical: u64,
}

/// Appends a run, as few extents as possible.
pub(super) fn add(
    extents: &mut Vec<Extent>,
    mut logical: u64,
    mut physical: u64,
    mut len: u64,
) -> Result<(), WriteError> {
    while len > 0 {
        let number = u32::try_from(logical).map_err(|_| WriteError::Refused(rustix::io::Errno::FBIG))?;
        let room = match extents.last_mut() {
            Some(last)
                if last.physical + u64::from(last.len) == physical
                    && u64::from(last.logical) + u64::from(last.len) == logical =>
            {
                let more = u64::from(LEN_MAX - last.len).min(len);
                last.len += u32::try_from(more).unwrap_or(0);
                more
            }
            _ => 0,
        };
        if room == 0 {
            if extents.len() >= COUNT_MAX {
                return Err(WriteError::left(format!("a file has more than {COUNT_MAX} extents")));
            }
            extents.push(Extent { logical: number, len: 0, physical });
            continue;
        }
        (logical, physical, len) = (logical + room, physical + room, len - room);
    }
    Ok(())
}

fn in_block(volume: &Volume) -> usize {
    (volume.block_bytes - HEADER_BYTES) / ENTRY_BYTES
}

/// The number of blocks of the tree of so many extents.
pub(super) fn tree_blocks(extents: usize, volume: &Volume) -> usize {
    let (mut nodes, mut all) = (extents, 0);
    while nodes > IN_INODE {
        nodes = nodes.div_ceil(in_block(volume));
        all += nodes;
    }
    all
}

/// The map for an inode, and the tree's blocks, which take the places in `blocks`. `seed` is the inode's.
pub(super) fn encode(
    extents: &[Extent],
    blocks: &[u64],
    seed: Option<u32>,
    volume: &Volume,
) -> ([u8; MAP_BYTES], Vec<(u64, Vec<u8>)>) {
    let leaf = |extent: &Extent| {
        let mut entry = [0; ENTRY_BYTES];
        put(&mut entry, 0, extent.logical.to_le_bytes());
        put(&mut entry, 4, low16(extent.len));
        put(&mut entry, 6, middle16(extent.physical));
        put(&mut entry, 8, low32(extent.physical));
        entry
    };
    let mut level: Vec<[u8; ENTRY_BYTES]> = extents.iter().map(leaf).collect();
    let mut places = blocks.iter();
    let mut tree = Vec::new();
    let mut depth = 0;
    while level.len() > IN_INODE {
        let mut above = Vec::new();
        for entries in level.chunks(in_block(volume)) {
            let place = places.next().copied().unwrap_or(0);
            let mut block = vec![0; volume.block_bytes];
            fill(&mut block, entries, in_block(volume), depth);
            if let Some(seed) = seed {
                let end = HEADER_BYTES + in_block(volume) * ENTRY_BYTES;
                let checksum = crc32c(seed, &block[..end]);
                put(&mut block, end, checksum.to_le_bytes());
            }
            tree.push((place, block));
            let mut entry = [0; ENTRY_BYTES];
            let first: [u8; 4] = *entries.first().and_then(|entry| entry.first_chunk()).unwrap_or(&[0; 4]);
            put(&mut entry, 0, first);
            put(&mut entry, 4, low32(place));
            put(&mut entry, 8, middle16(place));
            above.push(entry);
        }
        level = above;
        depth += 1;
    }
    let mut map = [0; MAP_BYTES];
    fill(&mut map, &level, IN_INODE, depth);
    (map, tree)
}

fn fill(node: &mut [u8], entries: &[[u8; ENTRY_BYTES]], most: usize, depth: u16) {
    let count = |count: usize| u16::try_from(count).unwrap_or(0).to_le_bytes();
    put(node, 0, MAGIC.to_le_bytes());
    put(node, 2, count(entries.len()));
    put(node, 4, count(most));
    put(node, 6, depth.to_le_bytes());
    for (place, entry) in node[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES).zip(entries) {
        place.copy_from_slice(entry);
    }
}

/// The extents of a map that this writer or mkfs has made, and the blocks of its tree.
pub(super) fn decode(map: &[u8], volume: &Volume, output: &mut Output) -> Result<(Vec<Extent>, Vec<u64>), WriteError> {
    let (mut extents, mut blocks) = (Vec::new(), Vec::new());
    read(map, DEPTH_MAX, volume, output, &mut extents, &mut blocks)?;
    Ok((extents, blocks))
}

fn read(
    node: &[u8],
    depth_most: u16,
    volume: &Volume,
    output: &mut Output,
    extents: &mut Vec<Extent>,
    blocks: &mut Vec<u64>,
) -> Result<(), WriteError> {
    let wrong = || WriteError::left("an extent tree makes no sense");
    let half = |at| le16(node, at).ok_or_else(wrong);
    let depth = half(6)?;
    if half(0)? != MAGIC || depth > depth_most {
        return Err(wrong());
    }
    for index in 0..usize::from(half(2)?) {
        let entry = node.get(HEADER_BYTES + index * ENTRY_BYTES..).and_then(|rest| rest.get(..ENTRY_BYTES));
        let entry = entry.ok_or_else(wrong)?;
        let half = |at| le16(entry, at).map(u64::from).ok_or_else(wrong);
        let word = |at| le32(entry, at).ok_or_else(wrong);
        if depth == 0 {
            let len = u32::from(le16(entry, 4).ok_or_else(wrong)?);
            let extent = Extent { logical: word(0)?, len, physical: half(6)? << 32 | u64::from(word(8)?) };
            if len == 0 || len > LEN_MAX || extents.len() >= COUNT_MAX {
                return Err(wrong());
            }
            extents.push(extent);
            continue;
        }
        let block = half(8)? << 32 | u64::from(word(4)?);
        let mut child = vec![0; volume.block_bytes];
        output.read(volume.byte_of(block), &mut child)?;
        blocks.push(block);
        read(&child, depth - 1, volume, output, extents, blocks)?;
    }
    Ok(())
}
