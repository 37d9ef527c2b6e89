//! The space that the archive's files need, per filesystem. It may be far more than was in use at the backup: btrfs
//! counts after compression, and files may share data there and on XFS. After a restore, each file has its own
//! data.

use std::collections::{BTreeMap, VecDeque};

use crate::archive::index::{EntryLine, IndexedKind, Line, MemberLine};
use crate::archive::read::index_file::{IndexError, IndexReader};
use crate::layout::Handling;
use crate::manifest::{Manifest, RegionRecord};
use crate::run::restore::part_of_region::part_of_record;
use crate::run::restore::select::Selection;

/// The allocation unit of file data.
const BLOCK_BYTES: u64 = 4096;
/// The maximum that btrfs stores inline in a file's metadata (`max_inline` in btrfs(5)).
const INLINE_BYTES_MAX: u64 = 2048;
/// Further members of one long file are counted together.
const MEMBERS_MAX: usize = 1024;

/// The minimum space for the files of one filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The length of their data without holes, in whole blocks.
    pub data_bytes: u64,
    /// The part of `data_bytes` in files of at most 2 KiB.
    pub small_bytes: u64,
    /// Their compressed length in the archive; a member's length is divided among its entries.
    pub packed_bytes: u64,
    /// The number of entries.
    pub entries: u64,
}

/// Sums up an index by region.
pub fn stored_by_region(manifest: &Manifest, mut index: IndexReader) -> Result<BTreeMap<String, Stored>, IndexError> {
    let with_files = manifest.regions.iter().filter(|record| record.handling == Handling::Files);
    let selection = |record: &RegionRecord| {
        Some((record.name.clone(), Selection::default().within(&part_of_record(manifest, record)?)))
    };
    let selections: Vec<(String, Selection)> = with_files.filter_map(selection).collect();
    let mut all: BTreeMap<String, Stored> =
        selections.iter().map(|(name, _)| (name.clone(), Stored::default())).collect();
    let mut members = VecDeque::new();
    while let Some(line) = index.next_line()? {
        match line {
            Line::Member(member) => add_member(&mut members, &member),
            Line::Entry(entry) => {
                let packed_bytes = packed(&mut members, &entry);
                let of = selections.iter().find(|(_, selection)| selection.wants(&entry.path, false));
                if let Some(stored) = of.and_then(|(name, _)| all.get_mut(name)) {
                    stored.add(&entry, packed_bytes);
                }
            }
            Line::End(_) => {}
        }
    }
    Ok(all)
}

/// Members not divided yet: offset and length in the tar stream, length in the archive.
type Members = VecDeque<(u64, u64, u64)>;

fn add_member(members: &mut Members, member: &MemberLine) {
    let are_many = members.len() >= MEMBERS_MAX;
    match members.back_mut().filter(|_| are_many) {
        Some((_, tar_length, length)) => {
            *tar_length = tar_length.saturating_add(member.tar_length);
            *length = length.saturating_add(member.length);
        }
        None => members.push_back((member.tar_offset, member.tar_length, member.length)),
    }
}

fn packed(members: &mut Members, entry: &EntryLine) -> u64 {
    let end = entry.tar_offset.saturating_add(entry.tar_length);
    let mut sum = 0_u64;
    while let Some((start, tar_length, length)) = members.front().copied() {
        let member_end = start.saturating_add(tar_length);
        let shared = end.min(member_end).saturating_sub(entry.tar_offset.max(start));
        let part = u128::from(length) * u128::from(shared) / u128::from(tar_length.max(1));
        // At most `length`.
        sum = sum.saturating_add(u64::try_from(part).unwrap_or(length));
        if member_end > end {
            break;
        }
        members.pop_front();
    }
    sum
}

/// Whether the files fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// They fit.
    Enough,
    /// They need more than was in use, so the filesystem compressed them, and must do so again.
    Compressed,
    /// They do not fit: needed and available bytes.
    TooLittle(u64, u64),
}

impl Stored {
    fn add(&mut self, entry: &EntryLine, packed_bytes: u64) {
        let data_bytes = match entry.kind {
            IndexedKind::File => entry.size,
            // At least one block is a header.
            IndexedKind::SparseFile => entry.size.min(entry.tar_length.saturating_sub(512)),
            _ => 0,
        };
        let blocks = data_bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        self.data_bytes = self.data_bytes.saturating_add(blocks);
        if data_bytes <= INLINE_BYTES_MAX {
            self.small_bytes = self.small_bytes.saturating_add(blocks);
        }
        self.packed_bytes = self.packed_bytes.saturating_add(packed_bytes);
        self.entries += 1;
    }

    /// The minimum length of the data on this filesystem.
    pub(super) fn least_bytes(&self, fs: &str) -> u64 {
        match fs {
            "btrfs" => (self.data_bytes - self.small_bytes.min(self.data_bytes)).saturating_add(self.small_bytes / 8),
            _ => self.data_bytes,
        }
    }

    /// Whether they fit into a filesystem of this size that had `used_bytes` in use. If it had as much in use as
    /// they need, they fit.
    pub(super) fn room_on(&self, fs: &str, used_bytes: u64, size_bytes: u64) -> Room {
        let least = self.least_bytes(fs);
        if !matches!(fs, "xfs" | "btrfs") || least <= used_bytes {
            return Room::Enough;
        }
        let too_little = |needed: u64, has: u64| (needed > has).then_some(Room::TooLittle(needed, has));
        let inodes = self.entries.saturating_mul(512);
        // A share for allocation groups or chunks.
        let has = size_bytes - size_bytes / 64;
        if fs == "xfs" {
            // mkfs.xfs(8): the log takes 1/2048 of the filesystem, at least 64 MiB except on the smallest.
            let log =
                if size_bytes < 300 << 20 { size_bytes / 32 } else { (size_bytes / 2048).clamp(64 << 20, 2 << 30) };
            return too_little(least.saturating_add(inodes), has.saturating_sub(log)).unwrap_or(Room::Enough);
        }
        // Metadata exists twice. zstd compresses the data about as well as gzip, but in shorter pieces.
        let packed = self.packed_bytes.saturating_add(self.packed_bytes / 4);
        let needed = least.min(packed).saturating_add(2 * inodes);
        too_little(needed, has.saturating_sub(32 << 20)).unwrap_or(Room::Compressed)
    }

    /// The bytes that count as in use for a smaller filesystem.
    pub(super) fn used_on(&self, fs: &str) -> u64 {
        match fs {
            "btrfs" => self.least_bytes(fs).min(self.packed_bytes.saturating_add(self.packed_bytes / 4)),
            _ => self.least_bytes(fs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Room, Stored, add_member, packed};
    use crate::archive::index::{EntryLine, IndexedKind, MemberDigest, MemberLine};
    use crate::entry::Timestamp;

    #[test]
    fn files_that_take_more_than_was_in_use_are_compressed_or_refused() {
        let stored = Stored { data_bytes: 8 << 30, packed_bytes: 1 << 30, entries: 1000, ..Stored::default() };
        assert_eq!(stored.room_on("ext4", 1 << 30, 2 << 30), Room::Enough);
        assert_eq!(stored.room_on("xfs", 8 << 30, 2 << 30), Room::Enough);
        assert_eq!(stored.room_on("xfs", 1 << 30, 9 << 30), Room::Enough);
        assert!(matches!(stored.room_on("xfs", 1 << 30, 8 << 30), Room::TooLittle(..)));
        assert_eq!(stored.room_on("btrfs", 1 << 30, 2 << 30), Room::Compressed);
        assert!(matches!(stored.room_on("btrfs", 1 << 30, 1 << 30), Room::TooLittle(..)));
    }

    #[test]
    fn a_members_length_is_shared_out() {
        let member = |number: u64, length| MemberLine {
            number,
            offset: 0,
            length,
            tar_offset: number * 1024,
            tar_length: 1024,
            digest: MemberDigest::Blake3([0; 32]),
            heads: None,
            data: None,
        };
        let entry = |tar_offset, tar_length| EntryLine {
            kind: IndexedKind::File,
            damaged: false,
            tar_offset,
            tar_length,
            size: tar_length - 512,
            ino: 1,
            ctime: Timestamp { sec: 0, nsec: 0 },
            head: [0; 16],
            content: None,
            path: b"./x".to_vec(),
        };
        let mut members = std::collections::VecDeque::new();
        for member in [member(0, 100), member(1, 50), member(2, 10)] {
            add_member(&mut members, &member);
        }
        assert_eq!(packed(&mut members, &entry(0, 512)), 50);
        assert_eq!(packed(&mut members, &entry(512, 1024)), 75);
        assert_eq!(packed(&mut members, &entry(1536, 1536)), 35);
        assert!(members.is_empty());
    }
}
