//! ext2, ext3 and ext4: the block bitmaps of all groups. The kernel's `Documentation/filesystems/ext4/` is "ext4 layout".
//!
//! A filesystem whose journal is to be replayed is read as it is after that, and what its bitmaps had before counts as used,
//! too. Each bitmap must agree with its checksum and its group's count of free clusters, and what the inodes map must be
//! in it.

mod geometry;
mod inodes;

use std::io;
use std::sync::Arc;

use self::geometry::{Geometry, Group};
use super::map::{RunSet, UsedMap, Whole};
use crate::field::crc32c;
use crate::outside::{BlockRead, Cancel};
use crate::reader::ext4::Replayed;
use crate::units::ByteRange;

/// The boot block and the superblock behind it.
const FIRST_BYTES: u64 = 2048;

/// The map of the filesystem in `blocks`.
pub(super) fn map(blocks: &Arc<dyn BlockRead>, cancel: &Cancel) -> Result<UsedMap, Whole> {
    let raw = Geometry::read(blocks.as_ref())?;
    if !raw.needs_replay {
        if !raw.is_clean {
            return Err(Whole::in_doubt(
                "it is not marked as clean and has no journal: its bitmaps may be out of date",
            ));
        }
        return of_view(blocks.as_ref(), &raw, None, cancel);
    }
    let replayed = Replayed::open(Arc::clone(blocks))
        .map_err(|why| Whole::in_doubt(format!("its journal is to be replayed and cannot be read: {why}")))?;
    let geometry = Geometry::read(&replayed)?;
    if !geometry.has_same_shape(&raw) {
        return Err(Whole::in_doubt("its journal changes its size"));
    }
    of_view(&replayed, &geometry, Some(blocks.as_ref()), cancel)
}

/// The map by the bitmaps in `view`, and those in `before` besides.
fn of_view(
    view: &dyn BlockRead,
    geometry: &Geometry,
    before: Option<&dyn BlockRead>,
    cancel: &Cancel,
) -> Result<UsedMap, Whole> {
    if geometry.has_errors {
        return Err(Whole::in_doubt("its own system has recorded errors in it"));
    }
    let len = view.len_bytes();
    let mut runs = RunSet::new(len);
    let mut must_be_used = Vec::new();
    runs.add(ByteRange::new(0, FIRST_BYTES));
    let content_end = geometry.blocks * geometry.block_bytes;
    runs.add(ByteRange::new(content_end, len.saturating_sub(content_end)));
    let mut descriptors = geometry.descriptors(view);
    let mut descriptors_before = before.map(|before| geometry.descriptors(before));
    let mut tables = Vec::new();
    for number in 0..geometry.groups {
        if cancel.is_cancelled() {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        let group = descriptors.group(number)?;
        must_be_used.extend(geometry.metadata_of(number, &group)?);
        geometry.copies_of(number).into_iter().for_each(|copy| add_blocks(&mut runs, geometry, copy));
        if !group.is_uninitialised {
            let free = add_bitmap(&mut runs, view, geometry, number, group.block_bitmap, Some(&group))?;
            if free != group.free_clusters {
                return Err(Whole::in_doubt(format!(
                    "the bitmap of group {number} has {free} free clusters, its descriptor says {}",
                    group.free_clusters
                )));
            }
        }
        if let (Some(descriptors), Some(before)) = (&mut descriptors_before, before) {
            // Before the journal is replayed a descriptor may be half of an older one: what it says is only added.
            if let Ok(old) = descriptors.group(number)
                && !old.is_uninitialised
                && old.block_bitmap == group.block_bitmap
            {
                add_bitmap(&mut runs, before, geometry, number, old.block_bitmap, None)?;
            }
        }
        if group.inodes_to_read > 0 {
            tables.push((number, group.inode_table, group.inodes_to_read));
        }
    }
    let by_bitmaps = runs.finish();
    let uninitialised_metadata = |block: &(u64, u64, bool)| block.2;
    if let Some((first, _, _)) = must_be_used
        .iter()
        .filter(|block| !uninitialised_metadata(block))
        .find(|(first, count, _)| !by_bitmaps.covers(geometry.bytes_of(*first, *count)))
    {
        return Err(Whole::in_doubt(format!("block {first}, of the filesystem's own metadata, is free in its bitmap")));
    }
    // Bitmaps and inodes of groups whose own bitmap was never written are used, too.
    let mut runs = RunSet::new(len);
    by_bitmaps.runs().iter().for_each(|run| runs.add(*run));
    for (first, count, _) in &must_be_used {
        add_blocks(&mut runs, geometry, (*first, *count));
    }
    let map = runs.finish();
    inodes::check(view, geometry, &map, &tables, cancel)?;
    Ok(map)
}

fn add_blocks(runs: &mut RunSet, geometry: &Geometry, (first, count): (u64, u64)) {
    runs.add(geometry.bytes_of(first, count));
}

/// Adds what one group's bitmap has as used, and gives how many of its clusters are free. With `check` its checksum must be
/// right.
fn add_bitmap(
    runs: &mut RunSet,
    view: &dyn BlockRead,
    geometry: &Geometry,
    number: u64,
    bitmap: u64,
    check: Option<&Group>,
) -> Result<u64, Whole> {
    // A block is at most 64 KiB.
    let mut bytes = vec![0; usize::try_from(geometry.block_bytes).unwrap_or(0)];
    view.read_at(geometry.bytes_of(bitmap, 1).start, &mut bytes)?;
    let covered = usize::try_from(geometry.clusters_per_group / 8).unwrap_or(usize::MAX);
    if let (Some(seed), Some(group)) = (geometry.checksum_seed, check)
        && bytes.get(..covered).map(|covered| crc32c(seed, covered) & group.bitmap_checksum_mask)
            != Some(group.bitmap_checksum)
    {
        return Err(Whole::in_doubt(format!("the checksum of the bitmap of group {number} is wrong")));
    }
    let clusters = geometry.clusters_of(number);
    if (bytes.len() as u64) < clusters.count.div_ceil(8) {
        return Err(Whole::in_doubt("a group has more clusters than its bitmap"));
    }
    Ok(clusters.count - clusters.add_used(runs, 0, &bytes))
}
