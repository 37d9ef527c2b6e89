//! Bytes outside every partition: tables and boot code go into the manifest, longer runs of data become regions.

use std::collections::HashSet;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libdeflater::{CompressionError, CompressionLvl, Compressor};

use crate::layout::budget::Budget;
use crate::layout::scan::{Scanned, Scanner};
use crate::layout::{Handling, PreservedBytes, Region};
use crate::outside::{BlockRead, memory};
use crate::units::ByteRange;
use crate::units::Extent;

/// The encoding of `PreservedBytes::data`.
const ENCODING: &str = "gzip+base64";
/// Boot loaders keep their later stages below this offset.
const BOOT_AREA_END: u64 = 2 << 20;
/// A gap up to this length goes into the manifest, as long as all gaps together stay below `SMALL_GAPS_BYTES_MAX`.
const SMALL_GAP_BYTES: u64 = 2 << 20;
const SMALL_GAPS_BYTES_MAX: u64 = 4 << 20;
/// The maximum total length of tables and boot records. Each is small, and their number is bounded elsewhere.
const AREAS_BYTES_MAX: u64 = 24 << 20;
/// The maximum number of gaps that become regions; the last region holds all further gaps.
const GAP_REGIONS_MAX: usize = 64;

/// The bytes outside the partitions.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// For the manifest.
    pub(super) preserved: Vec<PreservedBytes>,
    /// Runs to be archived as raw images.
    pub(super) gaps: Vec<Region>,
    /// The names of those `gaps` that were not scanned.
    pub(super) not_looked_at: Vec<String>,
    /// Bytes that could not be read or kept: the place and the reason.
    pub(super) failures: Vec<(String, NotKept)>,
}

/// Why bytes are not in the manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum NotKept {
    #[error("nothing was read")]
    Nothing,
    #[error("cannot be read: {0}")]
    Gap(io::Error),
    #[error("{range} cannot be read: {error}")]
    Unreadable { range: ByteRange, error: io::Error },
    #[error("cannot be compressed: {0}")]
    NoMemory(io::Error),
    #[error("cannot be compressed: {0}")]
    Compression(CompressionError),
}

/// The bytes of the manifest that these areas need.
pub(super) fn reserve(areas: &[(String, ByteRange)]) -> u64 {
    areas.iter().fold(0, |sum: u64, (_, area)| sum.saturating_add(area.len)).min(AREAS_BYTES_MAX)
}

/// Keeps `areas` as they are, and all data that neither `areas` nor `taken` cover. All ranges are inside the
/// source; they may overlap.
pub(super) fn keep(
    blocks: &dyn BlockRead,
    areas: &[(String, ByteRange)],
    taken: &[ByteRange],
    scanner: &mut Scanner,
    budget: &mut Budget,
) -> Outside {
    let mut keeper = Keeper { blocks, outside: Outside::default(), compressor: None };
    let mut areas_left = AREAS_BYTES_MAX;
    let mut kept = HashSet::new();
    let mut covered: Vec<ByteRange> = taken.to_vec();
    for (what, area) in areas {
        let is_new = !kept.contains(area);
        if is_new && (area.len > areas_left || !budget.preserve(area.len)) {
            // The range is not covered, so it is found again as a gap.
            continue;
        }
        covered.push(*area);
        if is_new {
            kept.insert(*area);
            areas_left -= area.len;
            keeper.preserve(what, *area);
        }
    }
    let first_taken = taken.iter().map(|range| range.start).min().unwrap_or(u64::MAX);
    let mut small_left = SMALL_GAPS_BYTES_MAX;
    let mut large = Vec::new();
    for gap in uncovered(covered, blocks.len_bytes()) {
        for (piece, is_boot_area) in split_boot_area(gap, first_taken) {
            let (is_known, from) = match scanner.scan(blocks, piece) {
                Scanned::Zero => continue,
                Scanned::DataAt(at) => (true, at),
                Scanned::NotLookedAt => (false, piece.start),
                Scanned::Failed(error) => {
                    // As a region, its readable part is kept; in the manifest it would be all or nothing.
                    keeper.outside.failures.push((format!("{piece}"), NotKept::Gap(error)));
                    large.push((piece, true));
                    continue;
                }
            };
            if is_known && piece.len <= SMALL_GAP_BYTES && piece.len <= small_left && budget.preserve(piece.len) {
                small_left -= piece.len;
                let what = if is_boot_area { "gap before the first partition" } else { "gap between partitions" };
                let end = piece.start + piece.len;
                keeper.preserve_data(what, ByteRange::new(from, end.saturating_sub(from)));
            } else {
                large.push((piece, is_known));
            }
        }
    }
    keeper.gaps(&large);
    keeper.outside
}

/// Compresses a range for the manifest.
pub(super) fn preserve(blocks: &dyn BlockRead, what: &str, range: ByteRange) -> Result<PreservedBytes, NotKept> {
    let mut keeper = Keeper { blocks, outside: Outside::default(), compressor: None };
    keeper.preserve(what, range);
    let failure = keeper.outside.failures.pop().map(|(_, failure)| failure);
    keeper.outside.preserved.pop().ok_or_else(|| failure.unwrap_or(NotKept::Nothing))
}

struct Keeper<'a> {
    blocks: &'a dyn BlockRead,
    outside: Outside,
    compressor: Option<Compressor>,
}

impl Keeper<'_> {
    fn read(&mut self, what: &str, range: ByteRange) -> Option<Vec<u8>> {
        // Callers bound ranges by AREAS_BYTES_MAX.
        let mut bytes = vec![0; usize::try_from(range.len).ok()?];
        match self.blocks.read_at(range.start, &mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                self.outside.failures.push((what.to_owned(), NotKept::Unreadable { range, error }));
                None
            }
        }
    }

    fn preserve(&mut self, what: &str, range: ByteRange) {
        if let Some(bytes) = self.read(what, range) {
            self.push(what, range.start, &bytes);
        }
    }

    /// Like `preserve`, without trailing zeros.
    fn preserve_data(&mut self, what: &str, range: ByteRange) {
        if let Some(mut bytes) = self.read(what, range) {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last / 512 + 1) * 512);
            bytes.truncate(end);
            self.push(what, range.start, &bytes);
        }
    }

    fn push(&mut self, what: &str, start_bytes: u64, bytes: &[u8]) {
        let made = match self.compressor.take() {
            Some(compressor) => Ok(compressor),
            // libdeflater panics when an allocation fails.
            None => memory::made(2 << 20, || Compressor::new(CompressionLvl::default())),
        };
        let compressor = match made {
            Ok(compressor) => self.compressor.insert(compressor),
            Err(error) => {
                self.outside.failures.push((what.to_owned(), NotKept::NoMemory(error)));
                return;
            }
        };
        let mut packed = vec![0; compressor.gzip_compress_bound(bytes.len())];
        match compressor.gzip_compress(bytes, &mut packed) {
            Ok(len) => packed.truncate(len),
            Err(error) => {
                self.outside.failures.push((what.to_owned(), NotKept::Compression(error)));
                return;
            }
        }
        self.outside.preserved.push(PreservedBytes {
            what: what.to_owned(),
            start_bytes,
            size_bytes: bytes.len() as u64,
            encoding: ENCODING.to_owned(),
            data: STANDARD.encode(&packed),
        });
    }

    fn gaps(&mut self, large: &[(ByteRange, bool)]) {
        let own = if large.len() > GAP_REGIONS_MAX { GAP_REGIONS_MAX - 1 } else { large.len() };
        let (single, rest) = large.split_at(own);
        let mut groups: Vec<&[(ByteRange, bool)]> = single.chunks(1).collect();
        if !rest.is_empty() {
            groups.push(rest);
        }
        for (number, group) in (1..).zip(groups) {
            let name = format!("gap{number}");
            let extents: Vec<Extent> =
                group.iter().map(|(range, _)| Extent { source_offset: range.start, length: range.len }).collect();
            if group.iter().any(|(_, is_known)| !is_known) {
                self.outside.not_looked_at.push(name.clone());
            }
            self.outside.gaps.push(Region {
                name,
                start_bytes: extents.first().map_or(0, |extent| extent.source_offset),
                // The extents do not overlap and are inside the source.
                size_bytes: extents.iter().map(|extent| extent.length).sum(),
                extents,
                type_name: "outside the partitions".to_owned(),
                handling: Handling::RawImage,
                ..Region::default()
            });
        }
    }
}

/// Splits off the boot area before the first partition, so that it goes into the manifest even if a long gap
/// follows.
fn split_boot_area(gap: ByteRange, first_taken: u64) -> Vec<(ByteRange, bool)> {
    let end = gap.start + gap.len;
    if gap.start >= BOOT_AREA_END || gap.start >= first_taken {
        return vec![(gap, false)];
    }
    if end <= BOOT_AREA_END {
        return vec![(gap, true)];
    }
    let boot = ByteRange::new(gap.start, BOOT_AREA_END - gap.start);
    vec![(boot, true), (ByteRange::new(BOOT_AREA_END, end - BOOT_AREA_END), false)]
}

/// The runs of `0..len` that no range in `covered` touches, in order.
fn uncovered(mut covered: Vec<ByteRange>, len: u64) -> Vec<ByteRange> {
    covered.sort_by_key(|range| range.start);
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in covered {
        if range.len > 0 && range.start > at {
            gaps.push(ByteRange::new(at, range.start.min(len) - at));
        }
        at = at.max(range.start.saturating_add(range.len));
        if at >= len {
            return gaps;
        }
    }
    gaps.push(ByteRange::new(at, len - at));
    gaps
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::{BOOT_AREA_END, Budget, ByteRange, GAP_REGIONS_MAX, STANDARD, Scanner, keep, uncovered};
    use crate::layout::PreservedBytes;

    fn unpacked(kept: &PreservedBytes) -> Vec<u8> {
        let packed = STANDARD.decode(&kept.data).expect("base64");
        let mut bytes = vec![0; usize::try_from(kept.size_bytes).expect("small")];
        libdeflater::Decompressor::new().gzip_decompress(&packed, &mut bytes).expect("gzip");
        bytes
    }

    #[test]
    fn gaps_are_the_uncovered_ranges() {
        let run = ByteRange::new;
        assert_eq!(uncovered(vec![], 10), [run(0, 10)]);
        assert_eq!(uncovered(vec![run(4, 2), run(0, 1), run(5, 3)], 10), [run(1, 3), run(8, 2)]);
        assert_eq!(uncovered(vec![run(0, u64::MAX)], 10), []);
    }

    #[test]
    fn tables_and_boot_code_decode_to_the_original() {
        let mut disk = vec![0_u8; 8 << 20];
        disk[0] = 1;
        disk[600] = 2;
        disk[5000] = 3;
        let areas = [("boot sector".to_owned(), ByteRange::new(0, 512))];
        let outside = keep(&disk, &areas, &[ByteRange::new(1 << 20, 7 << 20)], &mut Scanner::new(), &mut Budget::new());
        let [sector, gap] = outside.preserved.as_slice() else { panic!("{:?}", outside.preserved) };
        assert_eq!(unpacked(sector), &disk[..512]);
        assert_eq!((gap.start_bytes, gap.size_bytes), (512, 4608));
        assert_eq!(unpacked(gap), &disk[512..5120]);
        assert!(outside.gaps.is_empty());
    }

    #[test]
    fn a_long_gap_with_data_is_a_region_and_one_of_zeros_is_nothing() {
        let mut disk = vec![0_u8; 16 << 20];
        disk[(6 << 20) + 5] = 9;
        let taken = [ByteRange::new(4 << 20, 1 << 20), ByteRange::new(12 << 20, 1 << 20)];
        let outside = keep(&disk, &[], &taken, &mut Scanner::new(), &mut Budget::new());
        assert!(outside.preserved.is_empty());
        let [gap] = outside.gaps.as_slice() else { panic!("{:?}", outside.gaps) };
        assert_eq!((gap.name.as_str(), gap.start_bytes, gap.size_bytes), ("gap1", 5 << 20, 7 << 20));
    }

    #[test]
    fn the_boot_area_is_kept_apart_from_a_long_gap() {
        let mut disk = vec![0_u8; 16 << 20];
        disk[1000] = 1;
        let outside = keep(&disk, &[], &[ByteRange::new(12 << 20, 4 << 20)], &mut Scanner::new(), &mut Budget::new());
        assert_eq!((outside.preserved.len(), outside.gaps.len()), (1, 0));
        disk[usize::try_from(BOOT_AREA_END).expect("small")] = 1;
        let outside = keep(&disk, &[], &[ByteRange::new(12 << 20, 4 << 20)], &mut Scanner::new(), &mut Budget::new());
        assert_eq!((outside.preserved.len(), outside.gaps.len()), (1, 1));
    }

    #[test]
    fn data_too_large_for_the_manifest_is_a_region() {
        let mut disk = vec![0_u8; 4 << 20];
        disk[1000] = 1;
        disk[600 << 10] = 1;
        let areas = [("boot sector".to_owned(), ByteRange::new(0, 512))];
        let taken = [ByteRange::new(512 << 10, 1 << 10), ByteRange::new(1 << 20, 3 << 20)];
        let mut budget = Budget { preserved_bytes: 512 << 10, ..Budget::new() };
        let outside = keep(&disk, &areas, &taken, &mut Scanner::new(), &mut budget);
        assert_eq!((outside.preserved.len(), outside.gaps.len()), (2, 1));
        assert_eq!(outside.gaps[0].start_bytes, 513 << 10);
    }

    #[test]
    fn more_gaps_than_regions_share_the_last_one() {
        let disk = vec![1_u8; 400 << 10];
        let taken: Vec<_> = (0..100).map(|index| ByteRange::new(index * 4096, 2048)).collect();
        let mut outside = keep(&disk, &[], &taken, &mut Scanner::new(), &mut Budget::new());
        assert_eq!((outside.preserved.len(), outside.gaps.len()), (100, 0));
        let mut keeper = super::Keeper { blocks: &disk, outside: super::Outside::default(), compressor: None };
        keeper.gaps(&taken.iter().map(|range| (*range, true)).collect::<Vec<_>>());
        std::mem::swap(&mut outside, &mut keeper.outside);
        assert_eq!(outside.gaps.len(), GAP_REGIONS_MAX);
        assert_eq!(outside.gaps.iter().map(|gap| gap.size_bytes).sum::<u64>(), 100 * 2048);
    }
}
