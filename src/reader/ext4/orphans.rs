//! Inodes on the way to be deleted or cut, as a guest that is in use has some.

use std::collections::HashSet;
use std::io;

use super::data::read_at;
use super::inode::{Inode, Type, raw_links_and_next};
use super::volume::Volume;
use crate::field::le32;

/// They are looked for up to this many.
const MAX_ORPHANS: usize = 1 << 16;

/// Whether an inode is one of them.
pub(super) fn is_orphan(volume: &Volume, number: u32) -> bool {
    of(volume).contains(&number)
}

/// How many of them have no name any more.
pub(super) fn unnamed(volume: &Volume) -> u64 {
    let is_unnamed = |number: &&u32| raw_links_and_next(volume, **number).is_ok_and(|(links, _)| links == 0);
    of(volume).iter().filter(is_unnamed).count() as u64
}

fn of(volume: &Volume) -> &HashSet<u32> {
    volume.checks.orphans(|| find(volume))
}

/// ext4 layout, "Orphan file" and `s_last_orphan`: the inodes on the way to be deleted or cut.
fn find(volume: &Volume) -> HashSet<u32> {
    let mut found = HashSet::new();
    let mut next = volume.superblock.last_orphan;
    while next != 0 && found.len() < MAX_ORPHANS && found.insert(next) {
        let Ok((_, after)) = raw_links_and_next(volume, next) else { break };
        next = after;
    }
    // What cannot be read of it has no inodes that are known.
    let _ = add_orphan_file(volume, &mut found);
    found
}

fn add_orphan_file(volume: &Volume, found: &mut HashSet<u32>) -> io::Result<()> {
    let number = volume.superblock.orphan_file;
    if number == 0 {
        return Ok(());
    }
    let inode = Inode::read_own(volume, number)?;
    if inode.file_type() != Some(Type::File) {
        return Ok(());
    }
    let mut block = vec![0; volume.superblock.block_len()];
    let mut offset = 0;
    while offset < inode.size && found.len() < MAX_ORPHANS {
        let len = read_at(volume, &inode, offset, &mut block)?;
        if len == 0 {
            break;
        }
        // Behind the numbers of each block are 8 bytes: magic and checksum.
        let numbers = block[..len.saturating_sub(8)].chunks_exact(4).filter_map(|word| le32(word, 0));
        found.extend(numbers.filter(|number| *number != 0));
        offset += len as u64;
    }
    Ok(())
}
