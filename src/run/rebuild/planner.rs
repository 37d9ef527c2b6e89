//! Where everything goes: which regions there are on the target, what becomes smaller, and what the target is to hold
//! in the end. [`super::steps`] makes the steps.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::claims::Claims;
use super::makefs::default_journal_bytes;
use super::plan::{Expected, Step, Wish};
use super::shift::{Movable, Shift};
use super::table::{Kept, gpt_tail_bytes};
use crate::layout::{Handling, HoldsKind, Region, TableKind};
use crate::manifest::{Manifest, RegionRecord};
use crate::shown;
use crate::units::Extent;
use crate::units::{ByteLen, ByteRange};

/// Regions lie in one another no deeper than this.
const DEPTH_MAX: usize = 16;

/// A plan in the making.
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
    /// What must not be zeroed, since it is written anyway.
    pub(super) keep_zero: Vec<ByteRange>,
}

impl Planner<'_> {
    pub(super) fn refuse(&mut self, why: impl Into<String>) {
        self.refusals.push(why.into());
    }

    /// Everything but what was refused on the way; an error is a reason for which nothing more can be said.
    pub(super) fn go(&mut self) -> Result<Expected, String> {
        let layout = &self.manifest.layout;
        let mut names = HashSet::new();
        if let Some(region) = layout.regions.iter().find(|region| !names.insert(region.name.as_str())) {
            return Err(format!("two regions are called {}", shown(&region.name)));
        }
        if self.manifest.regions.len() != layout.regions.len() {
            return Err("the manifest does not say of each region what became of it".to_owned());
        }
        self.check_places()?;
        let sector = u64::from(layout.source.sector_size);
        if layout.table.kind != TableKind::None {
            if !matches!(sector, 512 | 4096) {
                return Err(format!("its table counts in sectors of {sector} bytes, which no disk has"));
            }
            if let Some(other) = self.wish.target_sector_bytes.filter(|other| u64::from(*other) != sector) {
                return Err(format!(
                    "its table counts in sectors of {sector} bytes and the target has sectors of {other}: restore to \
                     an image, or to a device of the same kind"
                ));
            }
        }
        self.check_sectors();
        self.fit(sector)?;
        let leaves: Vec<&Region> = layout.regions.iter().filter(|region| !self.is_inside_raw(region)).collect();
        for region in &leaves {
            self.plan_region(region);
        }
        let renamed = self.physical_volumes(&leaves);
        self.tables(sector)?;
        let more = self.wish.target_bytes.saturating_sub(layout.source.size_bytes);
        if more > 0 {
            let what = "nothing is made larger; the guest does that itself (growpart, resize2fs), if it wants to";
            self.remarks.push(format!("the {} more at the end stay free: {what}", ByteLen(more)));
        }
        self.zeros();
        Ok(self.expected(&renamed))
    }

    /// Every region's place is on the source: sums do not wrap.
    fn check_places(&self) -> Result<(), String> {
        let size = self.manifest.layout.source.size_bytes;
        for region in &self.manifest.layout.regions {
            let bad = |what: &str| Err(format!("{}: {what}", shown(&region.name)));
            let mut sum = 0_u64;
            for extent in &region.extents {
                let end = extent.source_offset.checked_add(extent.length);
                if extent.length == 0 || end.is_none_or(|end| end > size) {
                    return bad("a piece of it lies outside the source");
                }
                if extent.source_offset % 512 != 0 {
                    return bad("a piece of it does not begin with a sector");
                }
                sum = sum.saturating_add(extent.length);
            }
            if sum != region.size_bytes
                || region.extents.first().map(|extent| extent.source_offset) != Some(region.start_bytes)
            {
                return bad("its place and its pieces contradict each other");
            }
        }
        Ok(())
    }

    /// A filesystem that counts in smaller sectors or blocks than the target has cannot be mounted there.
    fn check_sectors(&mut self) {
        let Some(target) = self.wish.target_sector_bytes else { return };
        let mut refusals = Vec::new();
        for region in self.manifest.layout.regions.iter().filter(|region| self.handling(region) == Handling::Files) {
            let made = region.holds.made_with.as_ref();
            let least = made.and_then(|made| made.sector_bytes.into_iter().chain(made.block_bytes).min());
            if let Some(bytes) = least.filter(|bytes| *bytes < target) {
                refusals.push(format!(
                    "{}: its filesystem counts in {bytes} bytes and the target has sectors of {target}: restore to an \
                     image, or to a device of the same kind",
                    shown(&region.name)
                ));
            }
        }
        self.refusals.extend(refusals);
    }

    /// Decides what becomes smaller.
    fn fit(&mut self, sector: u64) -> Result<(), String> {
        let layout = &self.manifest.layout;
        if self.wish.target_bytes < layout.source.size_bytes && self.covered_by_image() {
            return Err(format!(
                "the target is too small: it has {}, and all {} of the source are kept as one image, which cannot be made \
                 smaller",
                ByteLen(self.wish.target_bytes),
                ByteLen(layout.source.size_bytes)
            ));
        }
        let usable_end = match layout.table.kind {
            TableKind::Gpt if self.is_resized() => {
                let tail = gpt_tail_bytes(&self.kept, &layout.table, sector)?;
                let sectors = self.wish.target_bytes / sector;
                (sectors * sector).checked_sub(tail).ok_or("the target is too small for a GPT")?
            }
            _ => self.wish.target_bytes,
        };
        let mut parts = Vec::new();
        for region in &layout.regions {
            let is_partition = region.number > 0 && region.lv.is_none() && !self.is_part_of_another(region);
            let is_extended = region.handling == Handling::Container
                && region.holds.kind != HoldsKind::Lvm2Pv
                && region.holds.kind != HoldsKind::Mdraid;
            let is_whole = layout.table.kind == TableKind::None && region.parent.is_none();
            if ((is_partition && !is_extended) || is_whole) && !self.is_inside_raw(region) {
                let range = ByteRange::new(region.start_bytes, region.size_bytes);
                let min_bytes = self.min_bytes(region);
                parts.push(Movable { name: shown(&region.name), range, min_bytes });
            }
        }
        if self.wish.target_bytes < layout.source.size_bytes {
            self.shift = Shift::fit(parts, usable_end)?;
        }
        Ok(())
    }

    pub(super) fn is_resized(&self) -> bool {
        self.wish.target_bytes != self.manifest.layout.source.size_bytes
    }

    /// A tail, or what a mirror's member holds: its place is that of its parent.
    fn is_part_of_another(&self, region: &Region) -> bool {
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

    /// The least that a region needs. Only the files of filesystems with room to spare can be put closer together.
    fn min_bytes(&self, region: &Region) -> u64 {
        let used = self.records.get(region.name.as_str()).and_then(|record| record.used_bytes);
        let has_tail = self.manifest.layout.regions.iter().any(|other| other.parent.as_deref() == Some(&region.name));
        let (Some(used), Handling::Files, false) = (used, self.handling(region), has_tail) else {
            return region.size_bytes;
        };
        let fs = region.holds.fs.as_deref().unwrap_or_default();
        let used = used.max(self.wish.stored.get(&region.name).map_or(0, |stored| stored.used_on(fs)));
        // Room for the filesystem's own structures, and free space that it must have.
        let entries = self.manifest.sizes.entries;
        let with_inodes = used.saturating_add(entries.saturating_mul(512));
        let needed = match fs {
            "ext2" | "ext3" | "ext4" => ext_min_bytes(region, used, entries),
            "xfs" => with_inodes.saturating_add(with_inodes / 8).saturating_add(96 << 20).max(320 << 20),
            "btrfs" => with_inodes.saturating_add(with_inodes / 3).saturating_add(256 << 20),
            _ => region.size_bytes,
        };
        needed.min(region.size_bytes)
    }

    /// Whether all of a region is in the raw image of another one.
    fn is_inside_raw(&self, region: &Region) -> bool {
        let layout = &self.manifest.layout;
        let is_raw = |other: &Region| self.handling(other) == Handling::RawImage;
        let holds_all = |other: &&Region| other.name != region.name && other.size_bytes == layout.source.size_bytes;
        if layout.table.kind != TableKind::None && layout.regions.iter().filter(holds_all).any(is_raw) {
            return true;
        }
        let mut above = region.parent.as_deref().and_then(|name| self.region(name));
        for _ in 0..DEPTH_MAX {
            let Some(parent) = above else { return false };
            if is_raw(parent) {
                return true;
            }
            above = parent.parent.as_deref().and_then(|name| self.region(name));
        }
        false
    }

    pub(super) fn moved(&self, extents: &[Extent]) -> Vec<Extent> {
        let moved = |extent: &Extent| {
            let plain = self.without_md(ByteRange::new(extent.source_offset, extent.length));
            let range = self.shift.moved_range(plain);
            Extent { source_offset: range.start, length: range.len }
        };
        extents.iter().map(moved).collect()
    }

    /// What a RAID1's member holds begins where the member did, when its array is not made again.
    fn without_md(&self, range: ByteRange) -> ByteRange {
        let inside = self.plain_members().find_map(|(member, data)| {
            let end = data.start_bytes.saturating_add(data.size_bytes);
            let is_inside = range.start >= data.start_bytes && range.start.saturating_add(range.len) <= end;
            is_inside.then(|| range.start - data.start_bytes + member.start_bytes)
        });
        ByteRange::new(inside.unwrap_or(range.start), range.len)
    }

    /// Members of a RAID1 that are not made again, and what they hold; each in one piece.
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

    fn expected(&self, renamed: &BTreeMap<String, String>) -> Expected {
        let is_compared = |region: &&Region| {
            let is_gap =
                region.number == 0 && region.parent.is_none() && self.manifest.layout.table.kind != TableKind::None;
            !is_gap && (region.lv.is_some() || !self.is_part_of_another(region))
        };
        let moved = |region: &Region| {
            let mut region = region.clone();
            if let Some((_, data)) = self.plain_members().find(|(member, _)| member.name == region.name) {
                region.holds.clone_from(&data.holds);
                region.handling = data.handling;
            }
            region.extents = self.moved(&region.extents);
            let layout = &self.manifest.layout;
            if layout.table.kind == TableKind::None && region.parent.is_none() && region.lv.is_none() {
                region.extents = vec![Extent { source_offset: 0, length: self.wish.target_bytes }];
            }
            region.start_bytes = region.extents.first().map_or(0, |extent| extent.source_offset);
            region.size_bytes = region.extents.iter().fold(0, |sum: u64, extent| sum.saturating_add(extent.length));
            if let Some(new) = region.lv.as_ref().and_then(|lv| renamed.get(&lv.vg))
                && let Some(lv) = &mut region.lv
            {
                lv.vg.clone_from(new);
            }
            region
        };
        let regions = self.manifest.layout.regions.iter().filter(is_compared).map(moved).collect();
        Expected { table: self.manifest.layout.table.clone(), regions }
    }
}

/// The least that an ext filesystem needs for `used` bytes of data: what it counts as in use has neither its inode tables
/// nor its journal in it.
fn ext_min_bytes(region: &Region, used: u64, entries: u64) -> u64 {
    let made = region.holds.made_with.as_ref();
    let inode_bytes = made.and_then(|made| made.inode_bytes).map_or(256, u64::from);
    let inodes = made.and_then(|made| made.inodes).unwrap_or(region.size_bytes / 16_384);
    let tables = inodes.saturating_mul(inode_bytes).min(region.size_bytes / 2);
    let fixed = used
        .saturating_add(used / 6)
        .saturating_add(default_journal_bytes(region.size_bytes))
        .saturating_add(32 << 20)
        .saturating_add(entries.saturating_mul(inode_bytes));
    // There are as many inodes to the byte as before: their tables have the same share of the smaller one.
    let scaled = u128::from(fixed) * u128::from(region.size_bytes) / u128::from((region.size_bytes - tables).max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// A name for a message.
pub(super) fn shown(name: &str) -> String {
    shown::path(name.as_bytes())
}
