//! The borders of members: at ends of entries, and in raw images at places of their region.

use sha2::{Digest, Sha256};

use crate::archive::codec::{MAX_MEMBER_DATA, SharedMembers};
use crate::units::ByteRange;

/// Entries from this length have their own members.
const TARGET_MEMBER_BYTES: u64 = 512 * 1024;

/// The largest distance of the borders in a region at which the members of its raw image end; each is one of these, too.
pub(super) const IMAGE_PIECE_BYTES: u64 = MAX_MEMBER_DATA as u64;
/// The smallest distance. A change of a small file costs this much at least, and smaller members compress worse.
const MIN_IMAGE_MEMBER_BYTES: u64 = 64 << 10;
/// The number of members of an image up to which the distance is not larger. The next backup remembers all of them.
const MAX_IMAGE_MEMBERS: u64 = 1 << 20;

/// The distance of the borders for a region of this size, a power of two.
pub(super) fn image_member_bytes(size: u64) -> u64 {
    let least = size.div_ceil(MAX_IMAGE_MEMBERS).min(IMAGE_PIECE_BYTES).next_power_of_two();
    least.max(MIN_IMAGE_MEMBER_BYTES)
}

/// The part of a run before the next border.
pub(super) fn before_border(run: ByteRange, distance: u64) -> ByteRange {
    ByteRange::new(run.start, run.len.min(distance - run.start % distance))
}

/// Whether an entry of this length has members of its own.
pub(super) fn has_members_of_its_own(entry_bytes: u64) -> bool {
    entry_bytes >= TARGET_MEMBER_BYTES
}

/// Whether the member ends after this entry. Only the entry itself decides, so that a change elsewhere does not
/// move borders here. On average one member ends per [`SharedMembers::mean_bytes`], and per
/// [`SharedMembers::mean_entries`].
pub(super) fn ends_member(shared: SharedMembers, path: &[u8], entry_bytes: u64, member_bytes: usize) -> bool {
    if has_members_of_its_own(entry_bytes) {
        return true;
    }
    if member_bytes < shared.min_bytes {
        return false;
    }
    let digest: [u8; 32] = Sha256::digest(path).into();
    let fraction =
        u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]);
    let share = entry_bytes.max(shared.mean_bytes / shared.mean_entries);
    fraction < share.saturating_mul(u64::MAX / shared.mean_bytes)
}

#[cfg(test)]
mod tests {
    use super::{before_border, image_member_bytes};
    use crate::units::ByteRange;

    #[test]
    fn borders_of_images_depend_on_the_size_of_the_region_alone() {
        for (size, bytes) in [(0, 64 << 10), (512, 64 << 10), (64 << 30, 64 << 10), ((64 << 30) + 1, 128 << 10)] {
            assert_eq!(image_member_bytes(size), bytes, "{size}");
        }
        assert_eq!((image_member_bytes(1 << 40), image_member_bytes(u64::MAX)), (1 << 20, 1 << 20));
        assert_eq!(before_border(ByteRange::new(1000, 70_000), 65_536), ByteRange::new(1000, 64_536));
        assert_eq!(before_border(ByteRange::new(65_536, 512), 65_536), ByteRange::new(65_536, 512));
    }
}
