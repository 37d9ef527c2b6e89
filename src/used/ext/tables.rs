//! The unused ends of inode tables: ext4 layout, "Lazy Block Group Initialization".
//!
//! `mke2fs` and the kernel leave the end of a table that no inode was ever in as it is, until the kernel zeroes it. The descriptor
//! says how many inodes that are (`bg_itable_unused`), and the kernel takes the same bytes for zeros when it initialises the
//! table; so zeros are right whether the flag `INODE_ZEROED` is set or not. Without checksums of descriptors the field means nothing.

use std::io;

use super::geometry::{Geometry, Group};
use super::{has_checksum, read_block};
use crate::outside::BlockRead;
use crate::used::map::Whole;

/// The inodes of the first group that the filesystem itself uses, and `lost+found`.
const RESERVED_INODES: u64 = 11;

/// How many inodes of the table of group `number`, from the first one on, are kept. `old` is what its descriptor was before the
/// journal is replayed.
pub(super) fn kept_inodes(
    view: &dyn BlockRead,
    geometry: &Geometry,
    number: u64,
    group: &Group,
    old: Option<&Result<Group, Whole>>,
) -> Result<u64, Whole> {
    let all = geometry.inodes_per_group;
    let in_doubt = |what: &str| Err(Whole::in_doubt(format!("group {number} {what}")));
    let Some(kept) = all.checked_sub(group.unused_inodes) else {
        return in_doubt("has more unused inodes than inodes");
    };
    if group.has_no_inodes && (number == 0 || group.free_inodes != all) {
        return in_doubt("has no inodes in use, and some that are not free");
    }
    if kept == all || (number == 0 && kept < RESERVED_INODES) {
        return Ok(all);
    }
    if !group.has_no_inodes {
        let bitmap = read_block(view, geometry, group.inode_bitmap)?;
        if !has_checksum(geometry, &bitmap, (all, group.inode_bitmap_checksum, group.bitmap_checksum_mask)) {
            return in_doubt("has an inode bitmap with a wrong checksum");
        }
        let (used, end) = used_inodes(&bitmap, all).ok_or_else(cut_off)?;
        if end > kept {
            return in_doubt("has inodes in use where its descriptor has unused ones");
        }
        if used + group.free_inodes != all {
            return in_doubt("has another number of free inodes in its bitmap than in its descriptor");
        }
    }
    Ok(match old {
        None => kept,
        // What is used before the journal is replayed is kept, too.
        Some(Ok(old)) if old.inode_table == group.inode_table => kept.max(all.saturating_sub(old.unused_inodes)),
        Some(_) => all,
    })
}

/// How many bits of the first `count` are set, and the number of the last one, from 1 on.
fn used_inodes(bitmap: &[u8], count: u64) -> Option<(u64, u64)> {
    let bitmap = bitmap.get(..usize::try_from(count.div_ceil(8)).ok()?)?;
    let mut used = (0, 0);
    for (at, byte) in (0..).step_by(8).zip(bitmap) {
        // The bits behind the last inode are set in each bitmap.
        let byte = if count - at < 8 { byte & ((1 << (count - at)) - 1) } else { *byte };
        if byte != 0 {
            used = (used.0 + u64::from(byte.count_ones()), at + 8 - u64::from(byte.leading_zeros()));
        }
    }
    Some(used)
}

fn cut_off() -> Whole {
    io::Error::other("a group has more inodes than its bitmap").into()
}

#[cfg(test)]
mod tests {
    use super::used_inodes;

    #[test]
    fn inodes_in_use_are_counted_up_to_the_last_one_of_the_group() {
        assert_eq!(used_inodes(&[0, 0], 16), Some((0, 0)));
        assert_eq!(used_inodes(&[0xFF, 0x07, 0], 24), Some((11, 11)));
        assert_eq!(used_inodes(&[0x01, 0, 0x80], 24), Some((2, 24)));
        assert_eq!(used_inodes(&[0x01, 0xF2], 12), Some((2, 10)));
        assert_eq!(used_inodes(&[0xFF], 12), None);
    }
}
