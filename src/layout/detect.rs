//! Builds a [`Layout`] from a source's bytes: selects the table, makes the regions, finds their content, and keeps
//! what lies outside. Where tools disagree, `docs/layout-choices.md` gives the reasons.

use std::io;
use std::rc::Rc;

use crate::events::{Problem, Severity};
use crate::layout::budget::Budget;
use crate::layout::choice::{Choice, ChosenTable};
use crate::layout::gaps;
use crate::layout::lvm2::Texts;
use crate::layout::mbr::BOOT_RECORD_BYTES;
use crate::layout::nested::{Means, look_into};
use crate::layout::partitions::{Build, whole_region};
use crate::layout::probe::{Signature, probe_all};
use crate::layout::problems::Problems;
use crate::layout::scan::{SCAN_BYTES, Scanner};
use crate::layout::window::Window;
use crate::layout::{Handling, Layout, Region, SourceFacts, TableKind};
use crate::outside::BlockRead;
use crate::units::ByteRange;

/// Why a source has no layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Neither the first sector, where every table starts, nor others can be read.
    #[error("the first sector cannot be read")]
    Io(#[source] io::Error),
}

/// Detects the layout of `blocks`. `source_path` is only copied into the layout. `sector_size_hint` is the device's
/// logical sector size. Both 512 and 4096 are tried, the hinted one first.
///
/// The only error is a source that cannot be read at all: neither its first sector, nor others. All other findings are in the layout's problems, and regions that
/// were not understood have the handling `raw_image`.
pub fn detect(blocks: &dyn BlockRead, source_path: &str, sector_size_hint: Option<u32>) -> Result<Layout, LayoutError> {
    detect_within(blocks, source_path, sector_size_hint, SCAN_BYTES).map(|(layout, _)| layout)
}

/// Like [`detect`], but reads at most `scan_bytes` to distinguish zeros from data. Also returns the names of
/// regions without a signature that were not read to the end and had only zeros up to there.
pub fn detect_within(
    blocks: &dyn BlockRead,
    source_path: &str,
    sector_size_hint: Option<u32>,
    scan_bytes: u64,
) -> Result<(Layout, Vec<String>), LayoutError> {
    let sector_sizes = if sector_size_hint == Some(4096) { [4096, 512] } else { [512, 4096] };
    let mut first_sector = vec![0; BOOT_RECORD_BYTES.min(usize::try_from(blocks.len_bytes()).unwrap_or(usize::MAX))];
    let mut problems = Problems::default();
    if let Err(error) = blocks.read_at(0, &mut first_sector) {
        if !is_readable_elsewhere(blocks) {
            return Err(LayoutError::Io(error));
        }
        first_sector.fill(0);
        let what = format!("its first sector cannot be read, and a partition table in it is not seen: {error}");
        problems.push(Problem::new(Severity::Error, "disk", what));
    }
    let texts: Rc<Texts> = Rc::default();
    let mut budget = Budget::new();
    let whole = probe_all(&Window::within(blocks, None, &texts));
    let mut scanner = Scanner::with_budget(scan_bytes);
    let chosen =
        Choice { blocks, sector_sizes, whole: &whole, texts: &texts, problems: &mut problems }.table(&first_sector);

    let sector_size = match &chosen {
        ChosenTable::Gpt(_, sector_size) | ChosenTable::Mbr(_, sector_size) => *sector_size,
        ChosenTable::Whole => sector_sizes[0],
    };
    let source = SourceFacts { path: source_path.to_owned(), size_bytes: blocks.len_bytes(), sector_size };
    let mut build = Build { blocks, sector_size, problems: &mut problems, regions: Vec::new(), areas: Vec::new() };
    let table = match chosen {
        ChosenTable::Gpt(gpt, _) => build.gpt(*gpt),
        ChosenTable::Mbr(mbr, _) => build.mbr(&mbr),
        ChosenTable::Whole => build.whole(),
    };
    let Build { mut regions, areas, .. } = build;

    let has_table = table.kind != TableKind::None;
    let taken: Vec<ByteRange> = regions
        .iter()
        .filter(|region| region.handling != Handling::Container)
        .map(|region| ByteRange::new(region.start_bytes, region.size_bytes))
        .collect();
    let shadow = if has_table { whole_source_signature(&whole, &taken, &areas) } else { None };
    if let Some(found) = &shadow {
        let fs = found.holds.fs.as_deref().unwrap_or_default();
        let what = format!(
            "{fs} lies on the whole source beside a partition table: it is unclear which one is in use; \
             the whole source is kept as a raw image as well"
        );
        problems.push(Problem::new(Severity::Warning, "disk", what));
    }

    // The tables take their share of the budget first, so that preserved bytes of regions cannot crowd them out.
    let reserved = gaps::reserve(&areas).min(budget.preserved_bytes);
    budget.preserved_bytes -= reserved;
    let means = Means { blocks, scanner: &mut scanner, problems: &mut problems, texts: &texts, budget: &mut budget };
    let looked = look_into(means, std::mem::take(&mut regions));
    budget.preserved_bytes += reserved;
    let mut regions = looked.regions;
    let mut not_looked_at = looked.not_looked_at;
    let mut preserved = Vec::new();
    if let Some(found) = shadow {
        let disk = Region { holds: found.holds.clone(), ..whole_region(blocks) };
        regions.insert(0, disk);
    }
    if has_table {
        // If the whole source is archived as an image, the manifest needs only the tables.
        let all = [ByteRange::new(0, blocks.len_bytes())];
        let kept = if shadow.is_some() { &all[..] } else { &taken[..] };
        let outside = gaps::keep(blocks, &areas, kept, &mut scanner, &mut budget);
        preserved = outside.preserved;
        for (place, why) in outside.failures {
            problems.push(Problem::new(Severity::Error, place, why.to_string()));
        }
        for gap in &outside.gaps {
            let (severity, what) = if outside.not_looked_at.contains(&gap.name) {
                (Severity::Notice, "not searched for data, which takes too long; it is kept as a raw image")
            } else {
                (Severity::Warning, "data lie outside every partition; they are kept as a raw image")
            };
            problems.push(Problem::new(severity, &gap.name, what));
        }
        regions.extend(outside.gaps);
        not_looked_at.extend(outside.not_looked_at);
    }
    preserved.extend(looked.preserved);
    let layout = Layout { source, table, regions, outside: preserved, problems: problems.into_list() };
    Ok((layout, not_looked_at))
}

/// Whether one bad sector is the reason that the first one cannot be read, or the whole source.
fn is_readable_elsewhere(blocks: &dyn BlockRead) -> bool {
    let (len, mut block) = (blocks.len_bytes(), [0; 4096]);
    let places = [1 << 20, len / 8192 * 4096, len.saturating_sub(4096)];
    places.into_iter().any(|at| at > 0 && blocks.read_at(at, &mut block).is_ok())
}

/// A sound signature on the whole source although there is a table. Its magic is neither in a partition nor in the
/// table.
fn whole_source_signature<'a>(
    whole: &'a [Signature],
    taken: &[ByteRange],
    areas: &[(String, ByteRange)],
) -> Option<&'a Signature> {
    let tables = areas.iter().map(|(_, area)| area).filter(|area| area.start > 0);
    let elsewhere: Vec<&ByteRange> = taken.iter().chain(tables).collect();
    whole.iter().find(|found| {
        let magic = ByteRange::new(found.magic_at, 1);
        found.doubts.is_empty() && !elsewhere.iter().any(|range| range.overlaps(magic))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{LayoutError, Severity, detect};
    use crate::layout::{Handling, HoldsKind, TableKind};
    use crate::outside::BlockRead;

    /// Two partitions of 1 MiB in an MBR; reads that touch `bad` fail.
    struct Disk {
        bytes: Vec<u8>,
        bad: std::ops::Range<u64>,
    }

    impl Disk {
        fn new(bad: std::ops::Range<u64>) -> Self {
            let mut bytes = vec![0; 4 << 20];
            for (slot, start) in [(0, 2048_u32), (1, 4096)] {
                let record = &mut bytes[0x1be + slot * 16..0x1ce + slot * 16];
                record[4] = 0x83;
                record[8..12].copy_from_slice(&start.to_le_bytes());
                record[12..16].copy_from_slice(&2048_u32.to_le_bytes());
            }
            bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
            bytes[(1 << 20) + 5000] = 1;
            Self { bytes, bad }
        }
    }

    impl BlockRead for Disk {
        fn len_bytes(&self) -> u64 {
            self.bytes.len_bytes()
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            if offset < self.bad.end && self.bad.start < offset + buf.len() as u64 {
                return Err(io::Error::other("medium error"));
            }
            self.bytes.read_at(offset, buf)
        }
    }

    #[test]
    fn a_read_error_in_one_region_leaves_the_others() {
        let layout = detect(&Disk::new((2 << 20)..(2 << 20) + 4096), "disk", None).expect("the table can be read");
        assert_eq!(layout.table.kind, TableKind::Mbr);
        let [first, second] = layout.regions.as_slice() else { panic!("{:?}", layout.regions) };
        assert_eq!((first.holds.kind, first.handling), (HoldsKind::Unknown, Handling::RawImage));
        assert_eq!((second.holds.kind, second.handling), (HoldsKind::Unknown, Handling::RawImage));
        let errors: Vec<_> = layout.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].location, "p2");
    }

    #[test]
    fn a_bad_first_sector_leaves_the_rest() {
        let layout = detect(&Disk::new(0..512), "disk", None).expect("the rest can be read");
        assert_eq!((layout.table.kind, layout.regions.len()), (TableKind::None, 1));
        assert_eq!((layout.regions[0].handling, layout.regions[0].size_bytes), (Handling::RawImage, 4 << 20));
        assert_eq!((layout.problems[0].severity, layout.problems[0].location.as_str()), (Severity::Error, "disk"));
        assert!(layout.problems[0].what.starts_with("its first sector cannot be read"), "{:?}", layout.problems);
    }

    /// A filesystem of 64 KiB, an XFS of version 4, at the start of a longer disk.
    fn filesystem_on(len: usize) -> Vec<u8> {
        let mut disk = vec![0; len];
        disk[..4].copy_from_slice(b"XFSB");
        for (at, byte) in [(6, 16), (15, 16), (55, 4), (87, 16), (91, 1), (101, 4), (102, 2), (120, 12)] {
            disk[at] = byte;
        }
        disk
    }

    #[test]
    fn data_after_a_filesystem_is_kept() {
        let (small, large) = (200 << 10, 4 << 20);
        for (len, data_at, severity) in [
            (large, None, Some(Severity::Notice)),
            (large, Some(large - 1), Some(Severity::Warning)),
            (large, Some(64 << 10), Some(Severity::Warning)),
            (small, None, None),
            (small, Some(small - 1), Some(Severity::Notice)),
        ] {
            let mut disk = filesystem_on(len);
            if let Some(at) = data_at {
                disk[at] = 1;
            }
            let layout = detect(&disk, "disk", None).expect("memory can be read");
            assert_eq!(layout.regions[0].handling, Handling::Files, "{:?}", layout.problems);
            let tail = layout.regions.get(1).map(|tail| (tail.name.as_str(), tail.handling, tail.start_bytes));
            assert_eq!(tail, data_at.map(|_| ("disk.tail", Handling::RawImage, 64 << 10)));
            assert_eq!(
                layout.regions.iter().skip(1).map(|tail| tail.size_bytes + (64 << 10)).sum::<u64>(),
                data_at.map_or(0, |_| len as u64)
            );
            assert_eq!(layout.problems.first().map(|problem| problem.severity), severity, "{:?}", layout.problems);
        }
    }

    #[test]
    fn unreadable_data_after_a_filesystem_is_kept() {
        let disk = Disk { bytes: filesystem_on(4 << 20), bad: 3 << 20..(3 << 20) + 512 };
        let layout = detect(&disk, "disk", None).expect("the start can be read");
        assert_eq!(layout.regions.len(), 2);
        assert!(layout.problems.iter().any(|problem| problem.what.contains("medium error")), "{:?}", layout.problems);
    }

    #[test]
    fn a_read_error_outside_the_regions_is_reported() {
        let layout = detect(&Disk::new(100 << 10..101 << 10), "disk", None).expect("the table can be read");
        let told = layout.problems.iter().filter(|problem| problem.what.contains("medium error")).count();
        assert_eq!(told, 1, "{:?}", layout.problems);
        assert!(layout.regions.iter().any(|region| region.name == "gap1"));
        assert_eq!(layout.regions.iter().filter(|region| region.number > 0).count(), 2);
    }

    #[test]
    fn only_a_source_that_cannot_be_read_is_an_error() {
        let LayoutError::Io(error) = detect(&Disk::new(0..4 << 20), "disk", None).expect_err("nothing");
        assert_eq!(error.to_string(), "medium error");
    }
}
