//! ext2, ext3 and ext4: the block bitmaps of all groups. The kernel's `Documentation/filesystems/ext4/` is "ext4 layout".
//!
//! A filesystem whose journal is to be replayed is read as it is after that, and what its bitmaps had before counts as used,
//! too. Each bitmap must agree with its checksum and its group's count of free clusters, and what the inodes map must be
//! in it. The unused ends of inode tables are free, although the bitmaps have them as used.

mod geometry;
mod inodes;
mod tables;

use std::io;
use std::sync::Arc;

use self::geometry::{Geometry, Group, Metadata};
use super::map::{FreeRuns, RunSet, UsedMap, Whole};
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
    let mut copies = Vec::new();
    let mut unused = FreeRuns::default();
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
        let old = descriptors_before.as_mut().map(|descriptors| descriptors.group(number));
        let kept_inodes = tables::kept_inodes(view, geometry, number, &group, old.as_ref())?;
        for metadata in geometry.metadata_of(number, &group, kept_inodes)? {
            let end = metadata.count - metadata.kept;
            unused.add(geometry.bytes_of(metadata.first + metadata.kept, end));
            must_be_used.push(metadata);
        }
        copies.extend(geometry.copies_of(number));
        if !group.is_uninitialised {
            let free = add_bitmap(&mut runs, view, geometry, number, group.block_bitmap, Some(&group))?;
            if free != group.free_clusters {
                return Err(Whole::in_doubt(format!(
                    "the bitmap of group {number} has {free} free clusters, its descriptor says {}",
                    group.free_clusters
                )));
            }
        }
        if let (Some(Ok(old)), Some(before)) = (&old, before) {
            // Before the journal is replayed a descriptor may be half of an older one: what it says is only added.
            if !old.is_uninitialised && old.block_bitmap == group.block_bitmap {
                add_bitmap(&mut runs, before, geometry, number, old.block_bitmap, None)?;
            }
        }
        let inodes = group.inodes_to_read(geometry);
        if inodes > 0 {
            tables.push((number, group.inode_table, inodes));
        }
    }
    for copy in &copies {
        add_blocks(&mut runs, geometry, *copy);
    }
    let by_bitmaps = runs.finish();
    if let Some(Metadata { first, .. }) = must_be_used
        .iter()
        .filter(|metadata| !metadata.is_unlisted)
        .find(|metadata| !by_bitmaps.covers(geometry.bytes_of(metadata.first, metadata.count)))
    {
        return Err(Whole::in_doubt(format!("block {first}, of the filesystem's own metadata, is free in its bitmap")));
    }
    let mut runs = RunSet::new(len);
    by_bitmaps.intersection(&unused.into_used(len)).runs().iter().for_each(|run| runs.add(*run));
    // Bitmaps and inodes of groups whose own bitmap was never written are used, too; and so is metadata that lies in what
    // another group has as the unused end of its table.
    for copy in &copies {
        add_blocks(&mut runs, geometry, *copy);
    }
    for Metadata { first, kept, .. } in &must_be_used {
        add_blocks(&mut runs, geometry, (*first, *kept));
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
    let bytes = read_block(view, geometry, bitmap)?;
    let checksum = check.map(|group| (geometry.clusters_per_group, group.bitmap_checksum, group.bitmap_checksum_mask));
    if checksum.is_some_and(|expected| !has_checksum(geometry, &bytes, expected)) {
        return Err(Whole::in_doubt(format!("the checksum of the bitmap of group {number} is wrong")));
    }
    let clusters = geometry.clusters_of(number);
    if (bytes.len() as u64) < clusters.count.div_ceil(8) {
        return Err(Whole::in_doubt("a group has more clusters than its bitmap"));
    }
    Ok(clusters.count - clusters.add_used(runs, 0, &bytes))
}

fn read_block(view: &dyn BlockRead, geometry: &Geometry, block: u64) -> io::Result<Vec<u8>> {
    // A block is at most 64 KiB.
    let mut bytes = vec![0; usize::try_from(geometry.block_bytes).unwrap_or(0)];
    view.read_at(geometry.bytes_of(block, 1).start, &mut bytes)?;
    Ok(bytes)
}

/// Whether the first `bits` of a bitmap have this checksum under this mask; true for a filesystem without checksums of bitmaps.
fn has_checksum(geometry: &Geometry, bitmap: &[u8], (bits, checksum, mask): (u64, u32, u32)) -> bool {
    let covered = usize::try_from(bits / 8).unwrap_or(usize::MAX);
    geometry
        .checksum_seed
        .is_none_or(|seed| bitmap.get(..covered).map(|covered| crc32c(seed, covered) & mask) == Some(checksum))
}
