//! The map of a whole source: what its regions use, and all that lies outside of them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::map::{FreeRuns, UsedMap, Whole};
use super::region::{content_map, used_map};
use crate::events::Problem;
use crate::layout::lvm2::compose;
use crate::layout::{Handling, Layout, Region, RegionBlocks, TableKind};
use crate::outside::{BlockRead, Cancel};
use crate::units::{ByteRange, Extent};

/// A map of a source, with the notices and warnings about it.
#[derive(Clone, Debug)]
pub struct DiskMap {
    /// The used bytes of the source.
    pub map: UsedMap,
    /// The regions that count as used in full, each with the reason.
    pub problems: Vec<Problem>,
}

/// The map of the whole source on which `layout` was found.
///
/// A byte is free when it lies in a region whose content has it as free, and in no other one, or in a physical volume's
/// extents that no volume has. Partition tables, boot code, gaps and the ends of regions behind their content are used.
/// Holes of the source are not used. The only error is that of a cancelled run, `Interrupted`.
pub fn used_map_of_disk(layout: &Layout, blocks: &Arc<dyn BlockRead>, cancel: &Cancel) -> io::Result<DiskMap> {
    let mut problems = Vec::new();
    let len = blocks.len_bytes();
    let mut free = FreeRuns::default();
    let contested = contested(&layout.regions);
    let kept_whole = inside_of_whole(&layout.regions);
    for region in &layout.regions {
        let say = |why: &Whole| {
            Problem::new(why.severity, region.name.clone(), format!("{}; all of it is kept", why.because))
        };
        if is_tail(region) || kept_whole.contains(region.name.as_str()) {
            continue;
        }
        if is_whole_source(layout, region) || contested.contains(region.name.as_str()) {
            problems.push(say(&Whole::in_doubt("it shares bytes with another region")));
            continue;
        }
        let own: Arc<dyn BlockRead> = Arc::new(RegionBlocks::shared(Arc::clone(blocks), &region.extents));
        if region.handling == Handling::Container {
            continue;
        }
        let map = content_map(region, &own, cancel)?;
        if let Some(why) = map.whole_because() {
            problems.push(say(why));
            continue;
        }
        for hole in holes(&map) {
            for extent in compose(&region.extents, hole).unwrap_or_default() {
                free.add(ByteRange::new(extent.source_offset, extent.length));
            }
        }
    }
    let map = free.into_used(len);
    Ok(DiskMap { map: map.without_holes(blocks.as_ref(), cancel)?, problems })
}

/// The map of one region of `layout`, whose own bytes `blocks` are: as [`used_map`], and all of it where it shares bytes with
/// another region, whose data may be where this one has nothing.
pub fn used_map_within(
    layout: &Layout,
    region: &Region,
    blocks: &Arc<dyn BlockRead>,
    cancel: &Cancel,
) -> io::Result<UsedMap> {
    if is_whole_source(layout, region) || contested(&layout.regions).contains(region.name.as_str()) {
        let whole = UsedMap::whole(blocks.len_bytes(), Whole::in_doubt("it shares bytes with another region"));
        return whole.without_holes(blocks.as_ref(), cancel);
    }
    used_map(region, blocks, cancel)
}

/// Whether it is the whole source, kept as it is beside a partition table.
fn is_whole_source(layout: &Layout, region: &Region) -> bool {
    layout.table.kind != TableKind::None && region.number == 0 && region.size_bytes >= layout.source.size_bytes
}

/// Whether the region is the space behind another region's content, which that region's map has as used.
fn is_tail(region: &Region) -> bool {
    region.parent.is_some() && region.type_name == "behind the content"
}

/// The free runs of a map.
fn holes(map: &UsedMap) -> Vec<ByteRange> {
    let mut at = 0;
    let mut found = Vec::new();
    for run in map.runs() {
        if run.start > at {
            found.push(ByteRange::new(at, run.start - at));
        }
        at = run.start + run.len;
    }
    if at < map.len_bytes() {
        found.push(ByteRange::new(at, map.len_bytes() - at));
    }
    found
}

/// The regions inside of one that is kept whole although it holds others: a physical volume of which not every volume is
/// mapped.
fn inside_of_whole(regions: &[Region]) -> HashSet<&str> {
    let by_name: HashMap<&str, &Region> = regions.iter().map(|region| (region.name.as_str(), region)).collect();
    let is_inside = |region: &Region| {
        let mut parent = region.parent.as_deref();
        // Regions are nested a few levels deep; a foreign manifest could have a cycle.
        for _ in 0..8 {
            let Some(above) = parent.and_then(|name| by_name.get(name)) else { return false };
            if above.handling != Handling::Container {
                return true;
            }
            parent = above.parent.as_deref();
        }
        true
    };
    regions.iter().filter(|region| is_inside(region)).map(|region| region.name.as_str()).collect()
}

/// The regions that share bytes with another one which neither holds them nor lies in them.
fn contested(regions: &[Region]) -> HashSet<&str> {
    // A region that others lie in is compared by those.
    let mut pieces: Vec<(Extent, &str)> = regions
        .iter()
        .filter(|region| region.handling != Handling::Container && !is_tail(region))
        .flat_map(|region| region.extents.iter().map(move |extent| (*extent, region.name.as_str())))
        .filter(|(extent, _)| extent.length > 0)
        .collect();
    pieces.sort_unstable_by_key(|(extent, _)| (extent.source_offset, extent.length));
    let mut found = HashSet::new();
    // The piece that reaches furthest of those before.
    let mut furthest: Option<(u64, &str)> = None;
    for (extent, name) in pieces {
        if let Some((end, other)) = furthest
            && extent.source_offset < end
        {
            found.insert(name);
            found.insert(other);
        }
        let end = extent.source_offset.saturating_add(extent.length);
        if furthest.is_none_or(|(before, _)| end > before) {
            furthest = Some((end, name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::used_map_of_disk;
    use crate::layout::detect;
    use crate::outside::remembered::Remembered;
    use crate::outside::remembered::tests::Counting;
    use crate::outside::{BlockRead, Cancel};

    /// Looking for tables, signatures and maps reads each byte once, and no hole.
    #[test]
    fn detection_reads_each_byte_once() {
        let len = 64 << 20;
        let mut bytes = vec![0; len];
        bytes[1 << 20] = 1;
        for data_until in [len as u64, 2 << 20] {
            let counting = Counting::new(bytes.clone(), data_until, 0..0);
            let remembered: Arc<dyn BlockRead> =
                Arc::new(Remembered::new(Arc::<Counting>::clone(&counting) as Arc<dyn BlockRead>));
            let layout = detect(&*remembered, "disk", None).unwrap();
            let map = used_map_of_disk(&layout, &remembered, &Cancel::default()).unwrap();
            assert_eq!(map.map.used_bytes(), data_until.min(len as u64));
            let (once, again) = counting.counts();
            assert!(again == 0 && once < 2 << 20, "{once} bytes were read, {again} of them again");
        }
    }
}
