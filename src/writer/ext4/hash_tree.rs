//! The hash index of a large directory: ext4 layout, "Hash Tree Directories".

use super::bytes::put;
use super::entries::{ENTRY_BYTES, Leaf, Named, length, put_entry, room};
use super::volume::Volume;
use crate::field::crc32c;
use crate::reader::ext4::{Kind, NameHash};

/// Where the entries of the root and of other nodes begin, and the length of one.
const ROOT_AT: usize = 0x20;
const NODE_AT: usize = 0x8;
const INDEX_BYTES: usize = 8;
/// `struct dx_tail`.
const TAIL_BYTES: usize = 8;

/// How far blocks are filled: the guest's next names need not split them.
pub(super) fn fill_of(room: usize) -> usize {
    room / 8 * 7
}

/// A block with names, from this hash on.
struct Hashed {
    hash: u32,
    leaf: Leaf,
}

/// The blocks of an indexed directory; `None` if there are more names than an index of two levels has room for.
pub(super) fn encode(
    dots: &[(&[u8], u32); 2],
    names: &[(&[u8], Named)],
    hash: NameHash,
    seed: Option<u32>,
    volume: &Volume,
) -> Option<Vec<Vec<u8>>> {
    let mut sorted: Vec<(u32, &[u8], Named)> =
        names.iter().map(|(name, named)| (hash.of(name), *name, *named)).collect();
    sorted.sort_unstable_by_key(|(hash, name, _)| (*hash, *name));
    let mut leaves: Vec<Hashed> = Vec::new();
    let mut before = None;
    for (hash, name, named) in sorted {
        let fits = |leaf: &Leaf| leaf.has_room(name) && leaf.used() < fill_of(room(volume));
        if leaves.last().is_none_or(|last| !fits(&last.leaf)) {
            // The lowest bit: the block before ends with the same hash.
            let continues = u32::from(before == Some(hash));
            leaves.push(Hashed { hash: hash | continues, leaf: Leaf::new(volume) });
        }
        if let Some(last) = leaves.last_mut() {
            last.leaf.add(name, named);
        }
        before = Some(hash);
    }
    let hashes: Vec<u32> = leaves.iter().map(|leaf| leaf.hash).collect();
    let (in_root, in_node) = entries_in(volume);
    let mut blocks = Vec::new();
    let (top, nodes) = if hashes.len() <= in_root {
        (numbered(&hashes, 1), Vec::new())
    } else {
        let nodes = hashes.len().div_ceil(in_node);
        if nodes > in_root {
            return None;
        }
        let entries = numbered(&hashes, 1 + nodes);
        let chunks: Vec<Vec<(u32, usize)>> = entries.chunks(hashes.len().div_ceil(nodes)).map(<[_]>::to_vec).collect();
        // Fewer chunks than nodes would leave a block without use.
        if chunks.len() != nodes {
            return None;
        }
        let firsts: Vec<u32> = chunks.iter().filter_map(|chunk| Some(chunk.first()?.0)).collect();
        (numbered(&firsts, 1), chunks)
    };
    blocks.push(root(dots, &top, hash.kind, u8::from(!nodes.is_empty()), seed, volume));
    for entries in &nodes {
        let mut block = vec![0; volume.block_bytes];
        put(&mut block, 4, length(volume.block_bytes));
        put_index(&mut block, NODE_AT, entries, seed);
        blocks.push(block);
    }
    blocks.extend(leaves.into_iter().map(|leaf| leaf.leaf.finish(seed)));
    Some(blocks)
}

/// The number of entries for which the root has room, and another node.
fn entries_in(volume: &Volume) -> (usize, usize) {
    let space = volume.block_bytes - if volume.seed.is_some() { TAIL_BYTES } else { 0 };
    ((space - ROOT_AT) / INDEX_BYTES, (space - NODE_AT) / INDEX_BYTES)
}

/// The largest number of blocks that an index of so many blocks of names takes.
pub(super) fn most_nodes(leaves: usize, volume: &Volume) -> usize {
    let (in_root, in_node) = entries_in(volume);
    if leaves <= in_root { 1 } else { 1 + leaves.div_ceil(in_node) }
}

/// Each hash with the number of its block in the directory.
fn numbered(hashes: &[u32], first: usize) -> Vec<(u32, usize)> {
    hashes.iter().enumerate().map(|(index, hash)| (*hash, first + index)).collect()
}

fn root(
    dots: &[(&[u8], u32); 2],
    entries: &[(u32, usize)],
    kind: Kind,
    levels: u8,
    seed: Option<u32>,
    volume: &Volume,
) -> Vec<u8> {
    let mut block = vec![0; volume.block_bytes];
    let dot_bytes = ENTRY_BYTES + 4;
    for (at, (name, inode)) in [0, dot_bytes].into_iter().zip(dots) {
        let len = if at == 0 { dot_bytes } else { volume.block_bytes - at };
        put_entry(&mut block[at..], name, Named { inode: *inode, file_type: 2 }, len);
    }
    // `struct dx_root_info`: hash_version, info_length, indirect_levels.
    let version = match kind {
        Kind::Legacy => 0,
        Kind::HalfMd4 => 1,
        Kind::Tea => 2,
    };
    put(&mut block, 0x1C, [version, 8, levels]);
    put_index(&mut block, ROOT_AT, entries, seed);
    block
}

/// Entries; in place of the first one's hash are the most that fit and the number that is there.
fn put_index(block: &mut [u8], at: usize, entries: &[(u32, usize)], seed: Option<u32>) {
    let tail = if seed.is_some() { TAIL_BYTES } else { 0 };
    let limit = (block.len() - at - tail) / INDEX_BYTES;
    for (index, (hash, number)) in entries.iter().enumerate() {
        let place = at + index * INDEX_BYTES;
        put(block, place, hash.to_le_bytes());
        put(block, place + 4, u32::try_from(*number).unwrap_or(0).to_le_bytes());
    }
    put(block, at, length(limit));
    put(block, at + 2, length(entries.len()));
    if let Some(seed) = seed {
        let end = at + entries.len() * INDEX_BYTES;
        let tail = at + limit * INDEX_BYTES;
        // dt_reserved, and the checksum's own place, are zero.
        let checksum = crc32c(crc32c(seed, &block[..end]), &[0; 8]);
        put(block, tail + 4, checksum.to_le_bytes());
    }
}
