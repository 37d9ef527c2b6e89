//! Whether the first cluster of each file and directory is used. A file of one cluster is read by its directory entry alone, so
//! that nothing in the allocation table leads to it ("FAT32 File System Specification", "FAT Directory Structure").

use std::collections::HashSet;

use super::Fat;
use crate::field::{le16, le32};
use crate::outside::{BlockRead, Cancel};
use crate::used::map::{UsedMap, Whole};

const ENTRY_BYTES: usize = 32;
const DELETED: u8 = 0xE5;
/// `ATTR_VOLUME_ID`, which parts of long names have, too, and `ATTR_DIRECTORY`.
const VOLUME_ID: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
/// A directory has at most 65,536 entries.
const DIRECTORY_BYTES_MAX: u64 = 2 << 20;
/// More directories than this are not gone through.
const DIRECTORIES_MAX: usize = 1 << 20;

pub(super) fn check(fat: &Fat, blocks: &dyn BlockRead, map: &UsedMap, cancel: &Cancel) -> Result<(), Whole> {
    let mut seen = HashSet::new();
    let mut waiting = Vec::new();
    let mut bytes = Vec::new();
    if let Some(root) = fat.root {
        waiting.push(root);
        seen.insert(root);
    } else {
        let root = fat.fixed_root();
        bytes.resize(usize::try_from(root.len).unwrap_or(0), 0);
        blocks.read_at(root.start, &mut bytes)?;
        check_entries(fat, map, &bytes, &mut seen, &mut waiting)?;
    }
    let most = DIRECTORY_BYTES_MAX.div_ceil(fat.clusters.bytes);
    // No cluster belongs to two directories.
    let mut left = fat.clusters.count;
    bytes.resize(usize::try_from(fat.clusters.bytes).unwrap_or(0), 0);
    while let Some(first) = waiting.pop() {
        let mut cluster = first;
        for _ in 0..most {
            if cancel.is_cancelled() {
                return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
            }
            let too_many = || Whole::in_doubt("its directories have more clusters than it has");
            left = left.checked_sub(1).ok_or_else(too_many)?;
            blocks.read_at(fat.range_of(cluster).start, &mut bytes)?;
            check_entries(fat, map, &bytes, &mut seen, &mut waiting)?;
            let next = fat.entry_of(blocks, cluster)?;
            // Where a chain leads was checked before.
            if next < 2 || next >= fat.clusters.count + 2 {
                break;
            }
            cluster = next;
        }
    }
    Ok(())
}

/// Checks one piece of a directory, and adds the directories in it that were not met before. What follows the end mark is
/// looked at, too, as Linux does.
fn check_entries(
    fat: &Fat,
    map: &UsedMap,
    bytes: &[u8],
    seen: &mut HashSet<u64>,
    waiting: &mut Vec<u64>,
) -> Result<(), Whole> {
    for entry in bytes.chunks_exact(ENTRY_BYTES) {
        let attributes = entry[11];
        if matches!(entry[0], 0 | DELETED | b'.') || attributes & VOLUME_ID != 0 {
            continue;
        }
        let half = |at: usize| le16(entry, at).map_or(0, u64::from);
        // Only FAT32 has the upper half.
        let high = if fat.root.is_some() { half(20) << 16 } else { 0 };
        let first = high | half(26);
        let is_directory = attributes & DIRECTORY != 0;
        // An empty file has no cluster.
        if first == 0 && !is_directory && le32(entry, 28) == Some(0) {
            continue;
        }
        if first < 2 || first >= fat.clusters.count + 2 || !map.covers(fat.range_of(first)) {
            return Err(Whole::in_doubt(format!(
                "cluster {first}, in which a file or directory begins, is free in its allocation table"
            )));
        }
        if is_directory && seen.insert(first) {
            if seen.len() > DIRECTORIES_MAX {
                return Err(Whole::in_doubt("it has more directories than are gone through"));
            }
            waiting.push(first);
        }
    }
    Ok(())
}
