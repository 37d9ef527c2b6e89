//! One region of a backup, as a manifest of a source that is this region alone: what restores a whole disk then restores
//! the region into a logical volume, a partition or an image.

use std::collections::HashSet;

use super::raw_around::{above, raw_around};
use crate::layout::{Handling, HoldsKind, PreservedBytes, Region, Table};
use crate::manifest::Manifest;
use crate::shown;
use crate::units::Extent;

/// The most pieces that a region and what lies in it may have together.
const PIECES_MAX: usize = 1 << 20;

/// Why a region cannot be restored by itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OneRegionError {
    /// The backup has no region of that name.
    #[error("the backup has no region {name}; its regions are: {there}")]
    Unknown {
        /// The name, as messages show it.
        name: String,
        /// The names that it has, separated by commas.
        there: String,
    },
    /// Its bytes are in the raw image of another region.
    #[error("{name} is inside the raw image of {image}: restore that region")]
    InsideImage {
        /// The region.
        name: String,
        /// The region with the image.
        image: String,
    },
    /// An extended partition.
    #[error("{0} contains partitions and nothing else: restore one of these")]
    OnlyPartitions(String),
    /// A logical volume, or the group's metadata, is not in this region alone.
    #[error("{part} is only partly in {name}: restore the whole disk")]
    Elsewhere {
        /// The region.
        name: String,
        /// What is not in it.
        part: String,
    },
}

/// The manifest of the region `name` alone, which then starts at byte 0 and has no partition table.
pub(super) fn one_region(manifest: &Manifest, name: &str) -> Result<Manifest, OneRegionError> {
    let regions = &manifest.layout.regions;
    let Some(wanted) = regions.iter().find(|region| region.name == name) else {
        let there: Vec<String> = regions.iter().take(64).map(|region| shown::text(&region.name)).collect();
        return Err(OneRegionError::Unknown { name: shown::text(name), there: there.join(", ") });
    };
    let shown = || shown::text(&wanted.name);
    if let Some(image) = raw_around(&manifest.layout, wanted, |region| handling(manifest, region)) {
        return Err(OneRegionError::InsideImage { name: shown(), image: shown::text(&image.name) });
    }
    let is_made_of_partitions = wanted.handling == Handling::Container && wanted.holds.kind == HoldsKind::Unknown;
    if is_made_of_partitions {
        return Err(OneRegionError::OnlyPartitions(shown()));
    }
    let place = Place::of(wanted);
    let mut within = Vec::new();
    for region in regions.iter().filter(|region| is_at_or_below(regions, region, wanted)) {
        let elsewhere = || OneRegionError::Elsewhere { name: shown(), part: shown::text(&region.name) };
        let extents = place.within(&region.extents).ok_or_else(elsewhere)?;
        let start_bytes = extents.first().map_or(0, |extent| extent.source_offset);
        let mut moved = Region { number: 0, start_bytes, extents, ..region.clone() };
        if region.name == wanted.name {
            // It is the whole of its source now: what the table said of it does not apply.
            moved = Region {
                name: moved.name,
                start_bytes: 0,
                size_bytes: moved.size_bytes,
                extents: vec![Extent { source_offset: 0, length: moved.size_bytes }],
                holds: moved.holds,
                handling: moved.handling,
                ..Region::default()
            };
        }
        within.push(moved);
    }
    let kept = |bytes: &PreservedBytes| {
        let range = [Extent { source_offset: bytes.start_bytes, length: bytes.size_bytes }];
        let start_bytes = place.within(&range)?.first()?.source_offset;
        Some(PreservedBytes { start_bytes, ..bytes.clone() })
    };
    let mut alone = manifest.clone();
    alone.layout.outside = manifest.layout.outside.iter().filter_map(kept).collect();
    alone.layout.table = Table::default();
    alone.layout.source.size_bytes = wanted.size_bytes;
    let names: HashSet<&str> = within.iter().map(|region| region.name.as_str()).collect();
    let used = manifest.regions.iter().filter(|record| names.contains(record.name.as_str()));
    let used_bytes = used.fold(0_u64, |sum, record| sum.saturating_add(record.used_bytes.unwrap_or(u64::MAX)));
    alone.counts.data_bytes = alone.counts.data_bytes.min(used_bytes);
    alone.layout.regions = within;
    Ok(alone)
}

/// How a region was archived.
fn handling(manifest: &Manifest, region: &Region) -> Handling {
    let record = manifest.regions.iter().find(|record| record.name == region.name);
    record.map_or(region.handling, |record| record.handling)
}

fn is_at_or_below(regions: &[Region], region: &Region, wanted: &Region) -> bool {
    region.name == wanted.name || above(regions, region).any(|parent| parent.name == wanted.name)
}

/// Where a region's bytes are on the source, in ascending order there.
struct Place {
    /// First byte on the source, length, first byte in the region.
    pieces: Vec<(u64, u64, u64)>,
}

impl Place {
    fn of(region: &Region) -> Self {
        let mut at = 0_u64;
        let mut pieces = Vec::with_capacity(region.extents.len());
        for extent in &region.extents {
            pieces.push((extent.source_offset, extent.length, at));
            at = at.saturating_add(extent.length);
        }
        pieces.sort_unstable();
        Self { pieces }
    }

    /// The same bytes, counted from the start of the region. `None` if one of them lies outside of it.
    fn within(&self, extents: &[Extent]) -> Option<Vec<Extent>> {
        let mut found: Vec<Extent> = Vec::with_capacity(extents.len());
        for extent in extents {
            let (mut from, mut left) = (extent.source_offset, extent.length);
            while left > 0 {
                let next = self.pieces.partition_point(|(start, _, _)| *start <= from).checked_sub(1)?;
                let (start, length, at) = *self.pieces.get(next)?;
                let skipped = from - start;
                let length = length.checked_sub(skipped).filter(|length| *length > 0)?.min(left);
                let source_offset = at.checked_add(skipped)?;
                match found.last_mut().filter(|last| last.source_offset.checked_add(last.length) == Some(source_offset))
                {
                    Some(last) => last.length += length,
                    None => found.push(Extent { source_offset, length }),
                }
                if found.len() > PIECES_MAX {
                    return None;
                }
                from = from.checked_add(length)?;
                left -= length;
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{OneRegionError, one_region};
    use crate::layout::{Handling, Holds, HoldsKind, NestedLv, PreservedBytes, Region, TableKind};
    use crate::manifest::{Manifest, RegionRecord, blank};
    use crate::units::Extent;

    const MIB: u64 = 1 << 20;

    fn extents(pieces: &[(u64, u64)]) -> Vec<Extent> {
        pieces.iter().map(|(start, len)| Extent { source_offset: start * MIB, length: len * MIB }).collect()
    }

    fn region(name: &str, parent: Option<&str>, pieces: &[(u64, u64)], handling: Handling) -> Region {
        Region {
            name: name.to_owned(),
            number: 2,
            parent: parent.map(str::to_owned),
            start_bytes: pieces[0].0 * MIB,
            size_bytes: pieces.iter().map(|(_, len)| len * MIB).sum(),
            extents: extents(pieces),
            type_id: "0x83".to_owned(),
            handling,
            ..Region::default()
        }
    }

    /// p1 holds files; p2 is a PV with the volumes a, in two pieces, and b; p3 is an extended partition with p5.
    fn disk() -> Manifest {
        let mut manifest = blank();
        manifest.layout.source.size_bytes = 100 * MIB;
        manifest.layout.table.kind = TableKind::Mbr;
        let pv = Holds { kind: HoldsKind::Lvm2Pv, ..Holds::default() };
        let lv = |name: &str, pieces| Region {
            lv: Some(NestedLv { vg: "vg".to_owned(), lv: name.to_owned() }),
            ..region(&format!("p2.vg-{name}"), Some("p2"), pieces, Handling::Files)
        };
        manifest.layout.regions = vec![
            region("p1", None, &[(1, 10)], Handling::Files),
            Region { holds: pv, ..region("p2", None, &[(20, 30)], Handling::Container) },
            lv("a", &[(30, 5), (21, 5)]),
            lv("b", &[(40, 5)]),
            region("p3", None, &[(60, 40)], Handling::Container),
            region("p5", Some("p3"), &[(61, 10)], Handling::RawImage),
            region("p5.x", Some("p5"), &[(62, 3)], Handling::Files),
        ];
        let record = |region: &Region| RegionRecord {
            name: region.name.clone(),
            handling: region.handling,
            ..RegionRecord::default()
        };
        manifest.regions = manifest.layout.regions.iter().map(record).collect();
        let kept = |what: &str, start| PreservedBytes {
            what: what.to_owned(),
            start_bytes: start,
            size_bytes: 512,
            encoding: "gzip+base64".to_owned(),
            data: String::new(),
        };
        manifest.layout.outside =
            vec![kept("boot sector", 0), kept("boot block of p1", MIB), kept("LVM2 metadata of p2", 20 * MIB + 4096)];
        manifest
    }

    #[test]
    fn a_region_becomes_a_source_of_its_own() {
        let alone = one_region(&disk(), "p1").unwrap();
        assert_eq!((alone.layout.source.size_bytes, alone.layout.table.kind), (10 * MIB, TableKind::None));
        let [one] = alone.layout.regions.as_slice() else { panic!("{:?}", alone.layout.regions) };
        assert_eq!((one.start_bytes, one.number, &one.extents), (0, 0, &extents(&[(0, 10)])));
        assert_eq!(one.type_id, "");
        let [kept] = alone.layout.outside.as_slice() else { panic!() };
        assert_eq!((kept.what.as_str(), kept.start_bytes), ("boot block of p1", 0));
        // Of every region, so that an image is known as one.
        assert_eq!(alone.regions.len(), 7);
    }

    #[test]
    fn a_physical_volume_comes_with_its_volumes_and_a_volume_alone() {
        let alone = one_region(&disk(), "p2").unwrap();
        let found: Vec<_> =
            alone.layout.regions.iter().map(|region| (region.name.as_str(), region.extents.clone())).collect();
        let expected =
            [("p2", extents(&[(0, 30)])), ("p2.vg-a", extents(&[(10, 5), (1, 5)])), ("p2.vg-b", extents(&[(20, 5)]))];
        assert_eq!(found, expected);
        assert_eq!(alone.layout.regions[1].start_bytes, 10 * MIB);
        assert_eq!(alone.layout.outside[0].start_bytes, 4096);
        let alone = one_region(&disk(), "p2.vg-a").unwrap();
        let [one] = alone.layout.regions.as_slice() else { panic!() };
        assert_eq!(
            (one.size_bytes, &one.extents, &one.lv, &one.parent),
            (10 * MIB, &extents(&[(0, 10)]), &None, &None)
        );
    }

    #[test]
    fn a_region_that_is_not_restorable_alone_is_refused() {
        let mut disk = disk();
        let refused = |disk: &Manifest, name| one_region(disk, name).unwrap_err();
        assert!(refused(&disk, "p9").to_string().ends_with("p1, p2, p2.vg-a, p2.vg-b, p3, p5, p5.x"));
        assert_eq!(refused(&disk, "p3"), OneRegionError::OnlyPartitions("p3".to_owned()));
        assert!(matches!(refused(&disk, "p5.x"), OneRegionError::InsideImage { image, .. } if image == "p5"));
        disk.layout.regions[2].extents = extents(&[(30, 5), (1, 5)]);
        assert!(matches!(refused(&disk, "p2"), OneRegionError::Elsewhere { part, .. } if part == "p2.vg-a"));
        // A manifest in which regions lie in each other.
        disk.layout.regions[0].parent = Some("p1".to_owned());
        assert!(one_region(&disk, "p1").is_ok());
    }
}
