//! The state of a planner.

use std::collections::HashMap;

use crate::layout::{Handling, HoldsKind, Region};
use crate::manifest::{Manifest, RegionRecord};
use crate::run::rebuild::claims::Claims;
use crate::run::rebuild::kept::Kept;
use crate::run::rebuild::plan::{Step, Wish};
use crate::run::rebuild::raw_around::raw_around;
use crate::run::rebuild::shift::Shift;
use crate::shown;
use crate::units::{ByteRange, Extent};

/// The state of a planner.
pub(super) struct Planner<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) wish: &'a Wish<'a>,
    pub(super) kept: Vec<Kept>,
    pub(super) records: HashMap<&'a str, &'a RegionRecord>,
    pub(super) shift: Shift,
    pub(super) claims: Claims,
    pub(super) steps: Vec<Step>,
    pub(super) remarks: Vec<String>,
    pub(super) refusals: Vec<String>,
    /// Ranges that are written anyway and must not be zeroed.
    pub(super) keep_zero: Vec<ByteRange>,
}

impl Planner<'_> {
    pub(super) fn refuse(&mut self, why: impl Into<String>) {
        self.refusals.push(why.into());
    }

    pub(super) fn is_resized(&self) -> bool {
        self.wish.target_bytes != self.manifest.layout.source.size_bytes
    }

    /// Whether its place is part of its parent's: a tail, or the content of a RAID member.
    pub(super) fn is_part_of_another(&self, region: &Region) -> bool {
        let parent = region.parent.as_deref().and_then(|name| self.region(name));
        parent.is_some_and(|parent| {
            !(parent.handling == Handling::Container && parent.holds.kind == HoldsKind::Unknown && parent.lv.is_none())
        })
    }

    pub(super) fn region(&self, name: &str) -> Option<&Region> {
        self.manifest.layout.regions.iter().find(|region| region.name == name)
    }

    pub(super) fn handling(&self, region: &Region) -> Handling {
        self.records.get(region.name.as_str()).map_or(region.handling, |record| record.handling)
    }

    /// Whether a region is completely inside the raw image of another one.
    pub(super) fn is_inside_raw(&self, region: &Region) -> bool {
        raw_around(&self.manifest.layout, region, |region| self.handling(region)).is_some()
    }

    pub(super) fn moved(&self, extents: &[Extent]) -> Vec<Extent> {
        let moved = |extent: &Extent| {
            let plain = self.without_md(ByteRange::new(extent.source_offset, extent.length));
            let range = self.shift.moved_range(plain);
            Extent { source_offset: range.start, length: range.len }
        };
        extents.iter().map(moved).collect()
    }

    /// The range in the member's place, if the array is not restored: the content of a RAID1 member then starts
    /// where the member did.
    pub(super) fn without_md(&self, range: ByteRange) -> ByteRange {
        let inside = self.plain_members().find_map(|(member, data)| {
            let end = data.start_bytes.saturating_add(data.size_bytes);
            let is_inside = range.start >= data.start_bytes && range.start.saturating_add(range.len) <= end;
            is_inside.then(|| range.start - data.start_bytes + member.start_bytes)
        });
        ByteRange::new(inside.unwrap_or(range.start), range.len)
    }

    /// RAID1 members that are not restored as such, and their content; each in one extent.
    pub(super) fn plain_members(&self) -> impl Iterator<Item = (&Region, &Region)> {
        let regions = &self.manifest.layout.regions;
        let members = regions.iter().filter(|region| {
            self.wish.plain_md
                && region.holds.kind == HoldsKind::Mdraid
                && region.extents.len() == 1
                && self.handling(region) == Handling::Container
        });
        members.filter_map(move |member| {
            let data = regions.iter().find(|region| region.parent.as_deref() == Some(&member.name))?;
            (data.extents.len() == 1 && data.start_bytes >= member.start_bytes).then_some((member, data))
        })
    }

    /// Whether a single raw image covers the whole disk.
    pub(super) fn covered_by_image(&self) -> bool {
        let size = self.manifest.layout.source.size_bytes;
        let is_all = |region: &Region| region.size_bytes == size && self.handling(region) == Handling::RawImage;
        self.manifest.layout.regions.iter().any(is_all)
    }

    pub(super) fn claim(&mut self, extents: &[Extent], name: &str, is_raw: bool) {
        for extent in extents {
            let range = ByteRange::new(extent.source_offset, extent.length);
            self.claims.add(range, name, is_raw);
            self.keep_zero.push(range);
        }
    }

    pub(super) fn write(&mut self, what: &str, start_bytes: u64, bytes: Vec<u8>) {
        let range = ByteRange::new(start_bytes, bytes.len() as u64);
        // Zeroed first nevertheless, so that an old table or half of a new one is not found before the end.
        self.claims.add(range, what, true);
        let size_bytes = bytes.len() as u64;
        self.steps.push(Step::Write { what: what.to_owned(), start_bytes, size_bytes, bytes });
    }
}

/// A name for a message.
pub(super) fn shown(name: &str) -> String {
    shown::path(name.as_bytes())
}
