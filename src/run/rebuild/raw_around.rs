//! Regions inside the raw image of another region.

use crate::layout::{Handling, Layout, Region, TableKind};

/// The maximum depth of nested regions.
const DEPTH_MAX: usize = 16;

/// The region whose raw image contains all of `region`; `handling` says how a region was archived.
pub(super) fn raw_around<'a>(
    layout: &'a Layout,
    region: &'a Region,
    handling: impl Fn(&Region) -> Handling,
) -> Option<&'a Region> {
    let is_raw = |other: &&Region| handling(other) == Handling::RawImage;
    let is_whole = |other: &&Region| {
        layout.table.kind != TableKind::None
            && other.name != region.name
            && other.size_bytes == layout.source.size_bytes
    };
    let whole = layout.regions.iter().filter(is_whole).find(is_raw);
    whole.or_else(|| above(&layout.regions, region).find(is_raw))
}

/// The regions that contain `region`, from the innermost to the outermost.
pub(super) fn above<'a>(regions: &'a [Region], region: &'a Region) -> impl Iterator<Item = &'a Region> {
    let parent_of = |region: &Region| regions.iter().find(|other| region.parent.as_deref() == Some(&other.name));
    std::iter::successors(parent_of(region), move |region| parent_of(region)).take(DEPTH_MAX)
}
