//! Directories: ext4 layout, "Linear Directories". The names of open ones are in memory.

use std::collections::HashMap;

use super::entries::{DIRECTORY_TYPE, ENTRY_BYTES, Leaf, Named, entry_bytes, room};
use super::error::WriteError;
use super::extents::{self, Extent};
use super::hash_tree;
use super::inode::Attributes;
use super::volume::Volume;
use crate::field::{le16, le32};

/// An open directory.
pub(crate) struct Directory {
    pub(crate) inode: u32,
    pub(super) parent: u32,
    /// The inode on the disk; `None` for a new one.
    pub(super) raw: Option<Vec<u8>>,
    /// What it gets when it is closed; otherwise an older one keeps its own.
    pub(super) attributes: Option<Attributes>,
    pub(super) names: HashMap<Box<[u8]>, Named>,
    /// The length of all entries.
    pub(super) entry_bytes: usize,
    /// The length of the longest one so far.
    pub(super) longest: usize,
    pub(super) subdirectories: u64,
    /// The blocks that it has.
    pub(super) extents: Vec<Extent>,
    pub(super) tree: Vec<u64>,
    pub(super) is_changed: bool,
    /// Blocks that are kept free for it.
    pub(super) reserved: u64,
}

impl Directory {
    pub(super) fn new(inode: u32, parent: u32) -> Self {
        Self {
            inode,
            parent,
            raw: None,
            attributes: None,
            names: HashMap::new(),
            entry_bytes: 0,
            longest: 0,
            subdirectories: 0,
            extents: Vec::new(),
            tree: Vec::new(),
            is_changed: true,
            reserved: 0,
        }
    }

    /// What a name leads to.
    pub(crate) fn find(&self, name: &[u8]) -> Option<Named> {
        self.names.get(name).copied()
    }

    /// Adds a name for which the writer has reserved space.
    pub(crate) fn add_name(&mut self, name: &[u8], named: Named) {
        self.entry_bytes += entry_bytes(name);
        self.longest = self.longest.max(entry_bytes(name));
        self.subdirectories += u64::from(named.is_directory());
        self.names.insert(name.into(), named);
        self.is_changed = true;
    }

    pub(super) fn blocks(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.len)).sum()
    }

    /// The memory that its names take, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.names.len() * 64 + self.entry_bytes
    }
}

/// The largest number of blocks that entries of this length take, with index and extent tree. `longest` is the length of
/// the longest of them.
pub(super) fn most_blocks(entries: usize, longest: usize, volume: &Volume) -> u64 {
    let (room, entries) = (room(volume), entries + 2 * entry_bytes(b".."));
    if entries <= room {
        return 1;
    }
    // Each block but the last has so much in it that the next entry does not fit, or is filled as far as an index
    // fills it.
    let without_next = room.saturating_sub(longest) + 4;
    let filled = if volume.hash.is_some() { without_next.min(hash_tree::fill_of(room)) } else { without_next };
    let leaves = entries / filled + 1;
    let nodes = if volume.hash.is_some() { hash_tree::most_nodes(leaves, volume) } else { 0 };
    // If no two blocks are adjacent.
    (leaves + nodes + extents::tree_blocks(leaves + nodes, volume)) as u64
}

/// The blocks of a directory, and whether it is indexed. `seed` is its inode's, `at_least` the number of blocks that
/// it has.
pub(super) fn encode(
    directory: &Directory,
    seed: Option<u32>,
    at_least: usize,
    volume: &Volume,
) -> (Vec<Vec<u8>>, bool) {
    let dots = [(&b"."[..], directory.inode), (b"..", directory.parent)];
    let mut names: Vec<(&[u8], Named)> = directory.names.iter().map(|(name, named)| (&**name, *named)).collect();
    let room = room(volume);
    let is_long = directory.entry_bytes + 2 * entry_bytes(b"..") > room;
    if let (Some(hash), true) = (&volume.hash, is_long)
        && let Some(blocks) = hash_tree::encode(&dots, &names, *hash, seed, volume)
    {
        return (blocks, true);
    }
    names.sort_unstable_by_key(|(name, named)| (named.inode, *name));
    let as_directory = |(name, inode): (_, u32)| (name, Named { inode, file_type: DIRECTORY_TYPE });
    let mut blocks = Vec::new();
    let mut block = Leaf::new(volume);
    for (name, named) in dots.into_iter().map(as_directory).chain(names) {
        if !block.has_room(name) {
            blocks.push(std::mem::replace(&mut block, Leaf::new(volume)).finish(seed));
        }
        block.add(name, named);
    }
    blocks.push(block.finish(seed));
    while blocks.len() < at_least {
        blocks.push(Leaf::new(volume).finish(seed));
    }
    (blocks, false)
}

/// Reads the entries of a block that this writer or mkfs has made.
pub(super) fn read_block(block: &[u8], volume: &Volume, directory: &mut Directory) -> Result<(), WriteError> {
    let wrong = || WriteError::left("a directory makes no sense");
    let mut at = 0;
    while at < room(volume) {
        let entry = block.get(at..).ok_or_else(wrong)?;
        let (inode, len) = (le32(entry, 0).ok_or_else(wrong)?, usize::from(le16(entry, 4).ok_or_else(wrong)?));
        let name_len = usize::from(*entry.get(6).ok_or_else(wrong)?);
        let file_type = *entry.get(7).ok_or_else(wrong)?;
        if len < ENTRY_BYTES || !len.is_multiple_of(4) {
            return Err(wrong());
        }
        let name = entry.get(ENTRY_BYTES..ENTRY_BYTES + name_len).ok_or_else(wrong)?;
        match name {
            _ if inode == 0 => {}
            b"." => {}
            b".." => directory.parent = inode,
            name => {
                let named = Named { inode, file_type };
                directory.entry_bytes += entry_bytes(name);
                directory.longest = directory.longest.max(entry_bytes(name));
                directory.subdirectories += u64::from(named.is_directory());
                directory.names.insert(name.into(), named);
            }
        }
        at += len;
    }
    Ok(())
}
