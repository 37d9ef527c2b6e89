//! Orphans: inodes that wait to be deleted or truncated. A guest that is in use usually has some.

use std::collections::HashSet;
use std::io;

use super::data::read_at;
use super::inode::{Inode, Type, raw_links_and_next};
use super::volume::Volume;
use crate::field::le32;

/// The maximum number of orphans to collect.
const MAX_ORPHANS: usize = 1 << 16;

/// Whether an inode is an orphan.
pub(super) fn is_orphan(volume: &Volume, number: u32) -> bool {
    of(volume).contains(&number)
}

/// How many orphans have no name any more.
pub(super) fn unnamed(volume: &Volume) -> u64 {
    let is_unnamed = |number: &&u32| raw_links_and_next(volume, **number).is_ok_and(|(links, _)| links == 0);
    of(volume).iter().filter(is_unnamed).count() as u64
}

fn of(volume: &Volume) -> &HashSet<u32> {
    volume.checks.orphans(|| find(volume))
}

/// Collects the orphans from `s_last_orphan` and the orphan file: ext4 layout, "Orphan file".
fn find(volume: &Volume) -> HashSet<u32> {
    let mut found = HashSet::new();
    let mut next = volume.superblock.last_orphan;
    while next != 0 && found.len() < MAX_ORPHANS && found.insert(next) {
        let Ok((_, after)) = raw_links_and_next(volume, next) else { break };
        next = after;
    }
    // Unreadable blocks of the orphan file yield no orphans.
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
        // Each block ends with 8 bytes of magic and checksum.
        let numbers = block[..len.saturating_sub(8)].chunks_exact(4).filter_map(|word| le32(word, 0));
        found.extend(numbers.filter(|number| *number != 0));
        offset += len as u64;
    }
    Ok(())
}
