//! The borders of members: at ends of entries, in large files at places of the file, and in raw images at places of their
//! region.

use sha2::{Digest, Sha256};

use crate::archive::codec::{FineMembers, MAX_MEMBER_DATA, SharedMembers};
use crate::archive::index::IndexedKind;
use crate::archive::pax::SparseArea;
use crate::archive::placed::MemberPlace;
use crate::units::ByteRange;

/// Entries from this length have their own members.
const TARGET_MEMBER_BYTES: u64 = 512 * 1024;

/// The largest distance of the borders in a region at which the members of its raw image end.
const MAX_DISTANCE_BYTES: u64 = MAX_MEMBER_DATA as u64;
/// The smallest distance. A change of a small file costs this much at least, and smaller members compress worse.
const MIN_IMAGE_MEMBER_BYTES: u64 = 64 << 10;
/// The number of members of a region up to which the distance is not larger. The next backup remembers all of them.
const MAX_REGION_MEMBERS: u64 = 1 << 20;
/// Files with at least this much data are cut at borders: what is smaller would have few members.
const MIN_CUT_DATA_BYTES: u64 = MAX_MEMBER_DATA as u64;

/// Where members end in raw images and in large files.
pub(in crate::archive) struct CutRule {
    /// The least distance of the borders in a file.
    least: u64,
    /// The size of the region that the current filesystem is in.
    region_bytes: u64,
}

impl CutRule {
    pub(super) fn new(least: u64) -> Self {
        Self { least, region_bytes: 0 }
    }

    pub(super) fn start_filesystem(&mut self) {
        self.region_bytes = 0;
    }

    pub(in crate::archive) fn set_region(&mut self, region_bytes: u64) {
        self.region_bytes = region_bytes;
    }

    /// The distance of the borders at which the members of an entry's data end; `None` if it is not cut.
    pub(super) fn distance(&self, kind: IndexedKind, area: SparseArea) -> Option<u64> {
        if kind == IndexedKind::RawImage {
            return Some(image_member_bytes(area.size()));
        }
        let is_cut = area.data_bytes() >= MIN_CUT_DATA_BYTES;
        is_cut.then(|| file_member_bytes(self.least, self.region_bytes, area))
    }
}

/// The distance of the borders in the raw image of a region of this size, a power of two.
fn image_member_bytes(size: u64) -> u64 {
    distance(MIN_IMAGE_MEMBER_BYTES, size)
}

/// The distance of the borders in a large file, a power of two. `least`: the distance in a file without holes in a small
/// region. In a file with holes before its last data it grows with their share, so that the members hold as much.
fn file_member_bytes(least: u64, region_bytes: u64, area: SparseArea) -> u64 {
    // Not by the size: preallocated space is a hole at the end.
    let spread = area.data_end() / area.data_bytes().max(1);
    distance(least, region_bytes).saturating_mul(1 << spread.max(1).ilog2())
}

fn distance(least: u64, region_bytes: u64) -> u64 {
    region_bytes.div_ceil(MAX_REGION_MEMBERS).min(MAX_DISTANCE_BYTES).next_power_of_two().max(least)
}

/// The part of a run before the next border.
pub(super) fn before_border(run: ByteRange, distance: u64) -> ByteRange {
    ByteRange::new(run.start, run.len.min(distance - run.start % distance))
}

/// Whether an entry of this length has members of its own.
pub(super) fn has_members_of_its_own(entry_bytes: u64) -> bool {
    entry_bytes >= TARGET_MEMBER_BYTES
}

impl SharedMembers {
    /// Whether the member, with `member_bytes` of data, ends before an entry that is added.
    pub(super) fn end_before(self, entry_bytes: u64, member_bytes: usize) -> bool {
        let is_apart = |fine: FineMembers| entry_bytes >= fine.apart_bytes && member_bytes >= fine.least_bytes;
        has_members_of_its_own(entry_bytes)
            || member_bytes as u64 + entry_bytes > MAX_MEMBER_DATA as u64
            || self.fine.is_some_and(is_apart)
    }

    /// Whether the member may end before an entry of another one, which is copied.
    pub(super) fn may_end_before(self, entry_bytes: Option<u64>, member_bytes: usize) -> bool {
        let least_bytes = self.fine.map_or(self.min_bytes, |fine| fine.least_bytes);
        member_bytes == 0 || member_bytes >= least_bytes || entry_bytes.is_some_and(has_members_of_its_own)
    }
}

/// Whether the member ends after this entry. Only the entry itself decides, so that a change elsewhere does not
/// move borders here. On average one member ends per [`SharedMembers::mean_bytes`], and per
/// [`SharedMembers::mean_entries`]. Fine members end where they ended in the previous archive, until they have twice the
/// length.
pub(super) fn ends_member(
    shared: SharedMembers,
    path: &[u8],
    place: MemberPlace,
    entry_bytes: u64,
    member_bytes: usize,
) -> bool {
    if has_members_of_its_own(entry_bytes) {
        return true;
    }
    match (shared.fine, place) {
        (Some(fine), MemberPlace::Last) => return member_bytes >= fine.least_bytes,
        (Some(_), MemberPlace::Within) if member_bytes < 2 * shared.min_bytes => return false,
        _ => {}
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
    use super::{before_border, ends_member, file_member_bytes, image_member_bytes};
    use crate::archive::codec::{FineMembers, SharedMembers};
    use crate::archive::pax::SparseArea;
    use crate::archive::placed::MemberPlace;
    use crate::units::ByteRange;

    #[test]
    fn fine_members_end_where_they_ended_before() {
        const KIB: usize = 1 << 10;
        let plain = SharedMembers { min_bytes: 28 * KIB, mean_bytes: 28 << 10, mean_entries: 1, fine: None };
        let fine = FineMembers { least_bytes: 4 * KIB, apart_bytes: 12 << 10 };
        let fine = SharedMembers { fine: Some(fine), ..plain };
        let ends = |place, kib| ends_member(fine, b"./a", place, 1024, kib * KIB);
        assert_eq!([27, 28].map(|kib| ends(MemberPlace::Unknown, kib)), [false, true]);
        assert_eq!([28, 55, 56].map(|kib| ends(MemberPlace::Within, kib)), [false, false, true]);
        assert_eq!([3, 4, 28].map(|kib| ends(MemberPlace::Last, kib)), [false, true, true]);
        for place in [MemberPlace::Unknown, MemberPlace::Within, MemberPlace::Last] {
            assert_eq!([27, 28].map(|kib| ends_member(plain, b"./a", place, 1024, kib * KIB)), [false, true]);
            assert!(ends_member(fine, b"./a", place, 512 << 10, 512 * KIB));
        }
        let before = |kib: u64, behind_kib: usize| fine.end_before(kib << 10, behind_kib * KIB);
        assert_eq!([before(11, 100), before(12, 3), before(12, 4), before(1, 1023)], [false, false, true, false]);
        assert!(before(512, 0) && before(2, 1023) && !plain.end_before(12 << 10, 100 * KIB));
        let may = |shared: SharedMembers, kib: usize| shared.may_end_before(Some(1024), kib * KIB);
        assert_eq!([may(fine, 0), may(fine, 3), may(fine, 4), may(plain, 4)], [true, false, true, false]);
        assert!(plain.may_end_before(Some(512 << 10), KIB) && !plain.may_end_before(None, KIB));
    }

    #[test]
    fn borders_of_images_depend_on_the_size_of_the_region_alone() {
        for (size, bytes) in [(0, 64 << 10), (512, 64 << 10), (64 << 30, 64 << 10), ((64 << 30) + 1, 128 << 10)] {
            assert_eq!(image_member_bytes(size), bytes, "{size}");
        }
        assert_eq!((image_member_bytes(1 << 40), image_member_bytes(u64::MAX)), (1 << 20, 1 << 20));
        assert_eq!(before_border(ByteRange::new(1000, 70_000), 65_536), ByteRange::new(1000, 64_536));
        assert_eq!(before_border(ByteRange::new(65_536, 512), 65_536), ByteRange::new(65_536, 512));
    }

    #[test]
    fn borders_of_files_are_further_apart_in_large_regions_and_where_holes_are() {
        const KIB: u64 = 1 << 10;
        let area = |size: u64, data_bytes: u64| {
            let mut area = SparseArea::new(size);
            area.add(ByteRange::new(0, data_bytes - 1));
            area.add(ByteRange::new(size - 1, 1));
            area
        };
        for (region_bytes, kib) in
            [(0, 256), (256 << 30, 256), ((256 << 30) + 1, 512), (1 << 40, 1024), (1 << 50, 1024)]
        {
            assert_eq!(file_member_bytes(256 * KIB, region_bytes, area(1 << 30, 1 << 30)), kib * KIB, "{region_bytes}");
        }
        for (data_bytes, factor) in [(1 << 30, 1), ((1 << 29) + 1, 1), (1 << 29, 2), (1 << 25, 32), (1, 1 << 30)] {
            assert_eq!(file_member_bytes(256 * KIB, 0, area(1 << 30, data_bytes)), factor * 256 * KIB, "{data_bytes}");
        }
        let mut preallocated = SparseArea::new(1 << 40);
        preallocated.add(ByteRange::new(0, 1 << 30));
        assert_eq!(file_member_bytes(256 * KIB, 0, preallocated), 256 * KIB);
        // Nothing overflows, and no border is then in the file.
        assert!(file_member_bytes(1 << 20, u64::MAX, area(u64::MAX, 1)) >= 1 << 63);
    }
}
