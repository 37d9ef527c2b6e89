//! XFS: the trees of free extents of all allocation groups (XFS Algorithms & Data Structures, 3rd edition, "AG Free Space
//! Management"). Both trees of a group must hold the same extents and as many blocks as its header counts; what the trees of
//! inodes lead to must be used. A log that is to be replayed
//! is, in memory: docs/decisions/0046 says how, and what counts as used then.

mod checksum;
mod group;
mod log;
mod superblock;
mod tree;

use self::superblock::Superblock;
use super::map::{MapBuilder, RunSet, UsedMap, Whole};
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

/// The map of the filesystem in `blocks`.
pub(super) fn map(blocks: &dyn BlockRead, cancel: &Cancel) -> Result<UsedMap, Whole> {
    let xfs = Superblock::read(blocks)?;
    let replayed = log::replay(blocks, &xfs, cancel)?;
    if replayed.touched().is_some() && Superblock::read(&replayed)? != xfs {
        return Err(Whole::out_of_date("it was in use, and its log changes its superblock"));
    }
    let len = blocks.len_bytes();
    let mut builder = MapBuilder::new(len);
    for number in 0..xfs.groups {
        if cancel.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let group = group::read(&replayed, &xfs, number)?;
        let start = u64::from(number) * xfs.group_blocks;
        let mut at = 0;
        for (first, count) in &group.free {
            builder.add(xfs.bytes_of(start + at, first - at));
            at = first + count;
        }
        builder.add(xfs.bytes_of(start + at, group.blocks - at));
    }
    let content_end = xfs.blocks * xfs.block_bytes;
    builder.add(ByteRange::new(content_end, len.saturating_sub(content_end)));
    let mut map = builder.finish();
    if let Some(touched) = replayed.touched() {
        let mut both = RunSet::new(len);
        map.runs().iter().chain(touched.runs()).for_each(|run| both.add(*run));
        map = both.finish();
    }
    for (first, count) in [xfs.root_inode_blocks(), (xfs.block_of(xfs.log_start), xfs.log_blocks)] {
        if !map.covers(xfs.bytes_of(first, count)) {
            return Err(Whole::in_doubt(format!("block {first}, of its root directory or its log, is free")));
        }
    }
    Ok(map)
}
