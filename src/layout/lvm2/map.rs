//! Maps a logical volume's segments to extents of the source, like device-mapper's linear and striped targets.

use std::collections::HashMap;

use super::group::{LogicalVolume, PvEntry, Segment, SegmentKind, VolumeGroup};
use crate::layout::budget::Budget;
use crate::units::ByteRange;
use crate::units::Extent;

const SECTOR_BYTES: u64 = 512;
/// The maximum number of extents of one logical volume. A finely striped one can have more and is not split off.
const EXTENTS_MAX: usize = 65_536;

/// Why a logical volume cannot be mapped to extents of the source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// It holds the exceptions of a thick snapshot.
    #[error("it holds a snapshot's exceptions")]
    CowStore,
    /// A snapshot needs what its filesystem has freed since.
    #[error("it is the origin of a snapshot, which needs its free blocks, too")]
    Origin,
    /// A segment does not start where the previous one ends.
    #[error("its segments do not follow one another")]
    NotConsecutive,
    /// Its length exceeds 64 bits.
    #[error("its length is impossible")]
    Length,
    /// It has a segment of a type other than `striped`.
    #[error("it is of type {0}, which is not read")]
    SegmentType(String),
    /// It is empty.
    #[error("it has no segments")]
    NoSegments,
    /// A segment's numbers contradict each other or those of its physical volume.
    #[error("its segments' numbers are impossible")]
    Numbers,
    /// A segment names a physical volume that the group does not have.
    #[error("it needs {0}, which is no physical volume")]
    NoSuchPv(String),
    /// A physical volume, given by UUID, is not on the source.
    #[error("it needs the physical volume {0}, which is not here")]
    PvElsewhere(String),
    /// A segment is longer than the region of its physical volume.
    #[error("it reaches past the end of its physical volume")]
    PastEnd,
    /// All volumes of the source together have more pieces than the budget allows to visit.
    #[error("the source's volumes are in too many pieces to take all of them apart")]
    SourceTooFine,
    /// It would have more extents than this.
    #[error("it is made of more than {0} pieces")]
    TooFine(usize),
    /// The volumes of the source together would exceed the bound on extents, of which this many were left.
    #[error("the source's volumes are made of too many pieces, and {0} were left for it")]
    TooFineForRest(usize),
}

/// The physical volumes of a group by name, each with its extents if it is on the source.
pub(in crate::layout) type Placed<'a> = HashMap<&'a str, (&'a PvEntry, Option<&'a [Extent]>)>;

/// Locates each physical volume of `group` by UUID with `area_of`.
pub(in crate::layout) fn place<'a>(
    group: &'a VolumeGroup,
    area_of: impl Fn(&str) -> Option<&'a [Extent]>,
) -> Placed<'a> {
    group.physical_volumes.iter().map(|entry| (entry.name.as_str(), (entry, area_of(&entry.id)))).collect()
}

/// The extents of `volume` on the source, in order, with adjacent ones merged, at most as many as the budget has
/// left. Spends the budget's steps, but not its extents.
pub(in crate::layout) fn extents_of(
    group: &VolumeGroup,
    volume: &LogicalVolume,
    placed: &Placed<'_>,
    budget: &mut Budget,
) -> Result<Vec<Extent>, MapError> {
    let mut segments: Vec<&Segment> = volume.segments.iter().collect();
    segments.sort_by_key(|segment| segment.start_extent);
    let mut extents = Vec::new();
    let mut next_extent = 0;
    for segment in segments {
        if segment.start_extent != next_extent || segment.extent_count == 0 {
            return Err(MapError::NotConsecutive);
        }
        next_extent = next_extent.checked_add(segment.extent_count).ok_or(MapError::Length)?;
        match &segment.kind {
            SegmentKind::Striped { stripe_size_sectors, stripes } => {
                striped(
                    group,
                    segment,
                    *stripe_size_sectors,
                    stripes,
                    placed,
                    &mut Mapped { extents: &mut extents, budget },
                )?;
            }
            SegmentKind::Other { segment_type, .. } => {
                return Err(MapError::SegmentType(segment_type.clone()));
            }
        }
    }
    if extents.is_empty() { Err(MapError::NoSegments) } else { Ok(extents) }
}

fn striped(
    group: &VolumeGroup,
    segment: &Segment,
    stripe_size_sectors: u64,
    stripes: &[(String, u64)],
    placed: &Placed<'_>,
    made: &mut Mapped<'_>,
) -> Result<(), MapError> {
    // The parser rejects a segment without stripes.
    let count = stripes.len() as u64;
    if !segment.extent_count.is_multiple_of(count) {
        return Err(MapError::Numbers);
    }
    let extent_bytes = group.extent_size_sectors.checked_mul(SECTOR_BYTES).ok_or(MapError::Numbers)?;
    let each_extents = segment.extent_count / count;
    let each_bytes = each_extents.checked_mul(extent_bytes).ok_or(MapError::Numbers)?;
    let mut parts = Vec::with_capacity(stripes.len());
    for (pv_name, first_extent) in stripes {
        let (entry, area) = placed.get(pv_name.as_str()).ok_or_else(|| MapError::NoSuchPv(pv_name.clone()))?;
        let area = area.ok_or_else(|| MapError::PvElsewhere(entry.id.clone()))?;
        let within = first_extent.checked_add(each_extents).is_some_and(|end| end <= entry.pe_count);
        let start = first_extent
            .checked_mul(extent_bytes)
            .and_then(|bytes| bytes.checked_add(entry.pe_start_sectors.checked_mul(SECTOR_BYTES)?))
            .filter(|_| within)
            .ok_or(MapError::Numbers)?;
        let range = ByteRange::new(start, each_bytes);
        made.step(area.len())?;
        parts.push(compose(area, range).ok_or(MapError::PastEnd)?);
    }
    if let [part] = parts.as_slice() {
        return made.append(part);
    }
    let chunk_bytes = stripe_size_sectors.checked_mul(SECTOR_BYTES).ok_or(MapError::Numbers)?;
    if chunk_bytes == 0 || each_bytes % chunk_bytes != 0 {
        return Err(MapError::Numbers);
    }
    let rows = each_bytes / chunk_bytes;
    if rows.checked_mul(count).is_none_or(|chunks| chunks > EXTENTS_MAX as u64) {
        return Err(too_fine(EXTENTS_MAX));
    }
    let pieces: usize = parts.iter().map(Vec::len).sum();
    made.step(usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(pieces)).unwrap_or(usize::MAX))?;
    for row in 0..rows {
        for part in &parts {
            let chunk = compose(part, ByteRange::new(row * chunk_bytes, chunk_bytes)).ok_or(MapError::Numbers)?;
            made.append(&chunk)?;
        }
    }
    Ok(())
}

/// The extents mapped so far.
struct Mapped<'a> {
    extents: &'a mut Vec<Extent>,
    budget: &'a mut Budget,
}

impl Mapped<'_> {
    fn step(&mut self, count: usize) -> Result<(), MapError> {
        let left = self.budget.steps.checked_sub(count);
        self.budget.steps = left.ok_or(MapError::SourceTooFine)?;
        Ok(())
    }

    fn append(&mut self, more: &[Extent]) -> Result<(), MapError> {
        for extent in more {
            let max = EXTENTS_MAX.min(self.budget.extents);
            let is_full = self.extents.len() >= max;
            match self.extents.last_mut() {
                Some(last) if last.source_offset.checked_add(last.length) == Some(extent.source_offset) => {
                    last.length = last.length.checked_add(extent.length).ok_or_else(|| too_fine(max))?;
                }
                _ if is_full => return Err(too_fine(max)),
                _ => self.extents.push(*extent),
            }
        }
        Ok(())
    }
}

fn too_fine(max: usize) -> MapError {
    if max == EXTENTS_MAX { MapError::TooFine(max) } else { MapError::TooFineForRest(max) }
}

/// The extents of the source behind `range` of a region with these `extents`; `None` if the region ends first.
pub fn compose(extents: &[Extent], range: ByteRange) -> Option<Vec<Extent>> {
    let end = range.end()?;
    let mut found = Vec::new();
    let mut start = 0_u64;
    for extent in extents {
        let next = start.checked_add(extent.length)?;
        let (from, to) = (range.start.max(start), end.min(next));
        if from < to {
            found.push(Extent { source_offset: extent.source_offset.checked_add(from - start)?, length: to - from });
        }
        if next >= end {
            return Some(found);
        }
        start = next;
    }
    (range.len == 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::TEXT;
    use super::{Budget, ByteRange, Extent, MapError, SegmentKind, VolumeGroup, compose, extents_of, place};

    const PV: &str = "abcdef-GHIJ-klmn-OPQR-stuv-WXYZ-012345";
    const EXTENT: u64 = 4 << 20;

    fn extent(source_offset: u64, length: u64) -> Extent {
        Extent { source_offset, length }
    }

    fn map(text: &str, area: &[Extent]) -> Result<Vec<Extent>, MapError> {
        let group = VolumeGroup::parse(text.as_bytes()).expect("sound");
        extents_of(
            &group,
            &group.logical_volumes[0],
            &place(&group, |uuid| (uuid == PV).then_some(area)),
            &mut Budget::new(),
        )
    }

    #[test]
    fn segments_become_extents_behind_the_pv() {
        let start = (1 << 20) + (1 << 20);
        let found = map(TEXT, &[extent(1 << 20, 4 << 30)]).expect("linear");
        assert_eq!(found, [extent(start, 10 * EXTENT), extent(start + 30 * EXTENT, 5 * EXTENT)]);
    }

    #[test]
    fn neighbours_are_one_extent() {
        let text = TEXT.replace("\"pv0\", 30", "\"pv0\", 10");
        assert_eq!(map(&text, &[extent(0, 4 << 30)]), Ok(vec![extent(1 << 20, 15 * EXTENT)]));
    }

    #[test]
    fn stripes_take_turns() {
        let text = TEXT
            .replace("extent_count = 10 type", "extent_count = 10 stripe_size = 4096 type")
            .replace("[ \"pv0\", 0 ]", "[ \"pv0\", 0, \"pv0\", 100 ]");
        let found = map(&text, &[extent(0, 4 << 30)]).expect("striped");
        assert_eq!(found[0], extent(1 << 20, 2 << 20));
        assert_eq!(found[1], extent((1 << 20) + 100 * EXTENT, 2 << 20));
        assert_eq!(found[2], extent(3 << 20, 2 << 20));
        assert_eq!(found.iter().map(|extent| extent.length).sum::<u64>(), 15 * EXTENT);
        let fine = text.replace("stripe_size = 4096", "stripe_size = 1");
        assert!(map(&fine, &[extent(0, 4 << 30)]).is_err());
        let none = text.replace("stripe_size = 4096", "stripe_size = 0");
        assert!(map(&none, &[extent(0, 4 << 30)]).is_err());
    }

    #[test]
    fn a_volume_is_made_of_no_more_than_the_budget_has() {
        let group = VolumeGroup::parse(TEXT.as_bytes()).expect("sound");
        let area = [extent(0, 4 << 30)];
        let made = |budget: &mut Budget| {
            extents_of(&group, &group.logical_volumes[0], &place(&group, |_| Some(&area)), budget)
        };
        let mut enough = Budget { extents: 2, steps: 2, ..Budget::new() };
        assert_eq!(made(&mut enough).map(|extents| extents.len()), Ok(2));
        assert_eq!(enough.steps, 0);
        assert!(made(&mut enough).is_err());
        assert!(made(&mut Budget { extents: 1, ..Budget::new() }).is_err());
    }

    #[test]
    fn unmappable_volumes_give_a_reason() {
        let whole = [extent(0, 4 << 30)];
        for (from, to) in [
            ("start_extent = 10", "start_extent = 11"),
            ("extent_count = 5", "extent_count = 0"),
            ("\"pv0\", 30", "\"pv0\", 1020"),
            ("\"pv0\", 30", "\"pv1\", 30"),
            ("pe_start = 2048", "pe_start = 9223372036854775807"),
            ("id = \"abcdef", "id = \"xbcdef"),
        ] {
            assert!(map(&TEXT.replacen(from, to, 1), &whole).is_err(), "{from}");
        }
        assert!(map(TEXT, &[extent(0, 100 << 20)]).is_err());
        let thin = TEXT.replacen("type = \"striped\"", "type = \"thin\"", 1);
        assert!(map(&thin, &whole).expect_err("thin").to_string().contains("thin"));
    }

    #[test]
    fn ranges_are_composed_across_extents() {
        let region = [extent(100, 10), extent(50, 10)];
        assert_eq!(compose(&region, ByteRange::new(8, 4)), Some(vec![extent(108, 2), extent(50, 2)]));
        assert_eq!(compose(&region, ByteRange::new(8, 13)), None);
        assert_eq!(compose(&region, ByteRange::new(u64::MAX, 2)), None);
        assert_eq!(compose(&region, ByteRange::new(20, 0)), Some(vec![]));
        let group = VolumeGroup::parse(TEXT.as_bytes()).expect("sound");
        assert!(matches!(group.logical_volumes[2].segments[0].kind, SegmentKind::Other { .. }));
    }
}
