//! What a restore onto a disk would do, decided from the manifest and the target's size alone: nothing here reads or
//! writes a disk. A plan is printed before it is carried out, and what cannot be done is refused here, with all
//! reasons at once.
//!
//! Everything in a manifest is hostile: each range is checked against the target, and nothing is written twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::claims::Claims;
use super::kept::unpack;
use super::makefs::{ToolCall, checker, maker, package_of};
use super::shift::{Movable, Shift};
use super::table::{Kept, gpt_tail_bytes, resized};
use super::volumes::{Groups, shown_group};
use crate::archive::manifest::{Manifest, RegionRecord};
use crate::events::shown_path;
use crate::layout::lvm2::compose;
use crate::layout::{Extent, Handling, HoldsKind, Region, Table, TableKind};
use crate::run::restore::select::Part;
use crate::units::{ByteLen, ByteRange};

/// What is asked for, and what the machine has.
pub struct Wish<'a> {
    /// The target's length.
    pub target_bytes: u64,
    /// The target's logical sector size; `None` for an image, which has none.
    pub target_sector_bytes: Option<u32>,
    /// New names of volume groups, by the old ones. A group may keep its name.
    pub group_names: &'a BTreeMap<String, String>,
    /// Volume groups that are active on this machine.
    pub active_groups: &'a BTreeSet<String>,
    /// Whether a program is installed.
    pub has_program: &'a dyn Fn(&str) -> bool,
    /// Whether the kernel can mount a filesystem of that name.
    pub can_mount: &'a dyn Fn(&str) -> bool,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// How long the source was.
    pub source_bytes: u64,
    /// How long the target is.
    pub target_bytes: u64,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What will be other than it was, or is worth knowing.
    pub remarks: Vec<String>,
    /// What the target is expected to hold in the end.
    #[serde(skip)]
    pub expected: Expected,
}

/// What the target is to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// Its table.
    pub table: Table,
    /// Its partitions and volumes, in their new places.
    pub regions: Vec<Region>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// These bytes become zeros.
    Zero {
        /// Where.
        ranges: Vec<Extent>,
    },
    /// A raw image goes back byte for byte.
    RawImage {
        /// The region.
        region: String,
        /// The image's path in the archive.
        archive_path: String,
        /// Where it goes.
        extents: Vec<Extent>,
    },
    /// Something is made anew, and a filesystem's files go into it.
    Make(Box<MakeStep>),
    /// Kept that the manifest keeps are written: boot code, tables, LVM's metadata.
    Write {
        /// What they are.
        what: String,
        /// Where they go.
        start_bytes: u64,
        /// How many.
        size_bytes: u64,
        /// They.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
}

/// What is made anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MakeStep {
    /// The region.
    pub region: String,
    /// What: the filesystem's name, or `swap`.
    pub fs: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// How long it becomes.
    pub size_bytes: u64,
    /// Where it goes.
    pub extents: Vec<Extent>,
    /// What makes it.
    pub make: ToolCall,
    /// What looks at it afterwards.
    pub check: Option<ToolCall>,
    /// What of the archive goes into it; nothing for swap.
    #[serde(skip)]
    pub files: Option<Part>,
    /// The boot block in front of it, where it has one.
    #[serde(skip)]
    pub boot_block: Option<Vec<u8>>,
}

/// Decides. An error holds every reason against it.
pub fn make_plan(manifest: &Manifest, wish: &Wish<'_>) -> Result<Plan, Vec<String>> {
    let kept = unpack(&manifest.layout.outside).map_err(|why| vec![why])?;
    let records: HashMap<&str, &RegionRecord> =
        manifest.regions.iter().map(|record| (record.name.as_str(), record)).collect();
    let mut planner = Planner {
        manifest,
        wish,
        kept,
        records,
        shift: Shift::default(),
        claims: Claims::new(wish.target_bytes),
        steps: Vec::new(),
        remarks: Vec::new(),
        refusals: Vec::new(),
        keep_zero: Vec::new(),
    };
    let expected = planner.go().unwrap_or_else(|why| {
        planner.refusals.push(why);
        Expected::default()
    });
    if !planner.refusals.is_empty() {
        return Err(planner.refusals);
    }
    let Planner { steps, remarks, .. } = planner;
    let source_bytes = manifest.layout.source.size_bytes;
    Ok(Plan { source_bytes, target_bytes: wish.target_bytes, steps, remarks, expected })
}

struct Planner<'a> {
    manifest: &'a Manifest,
    wish: &'a Wish<'a>,
    kept: Vec<Kept>,
    records: HashMap<&'a str, &'a RegionRecord>,
    shift: Shift,
    claims: Claims,
    steps: Vec<Step>,
    remarks: Vec<String>,
    refusals: Vec<String>,
    /// What must not be zeroed, since it is written anyway.
    keep_zero: Vec<ByteRange>,
}

/// The longest part of a filesystem's start and end in which something else could be recognised.
const SIGNATURES_BYTES: u64 = 1 << 20;
/// Regions lie in one another no deeper than this.
const DEPTH_MAX: usize = 16;

impl Planner<'_> {
    fn refuse(&mut self, why: impl Into<String>) {
        self.refusals.push(why.into());
    }

    /// Everything but what was refused on the way; an error is a reason for which nothing more can be said.
    fn go(&mut self) -> Result<Expected, String> {
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

    /// Decides what becomes smaller.
    fn fit(&mut self, sector: u64) -> Result<(), String> {
        let layout = &self.manifest.layout;
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
            if (is_partition && !is_extended) || is_whole {
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

    fn is_resized(&self) -> bool {
        self.wish.target_bytes != self.manifest.layout.source.size_bytes
    }

    /// A tail, or what a mirror's member holds: its place is that of its parent.
    fn is_part_of_another(&self, region: &Region) -> bool {
        let parent = region.parent.as_deref().and_then(|name| self.region(name));
        parent.is_some_and(|parent| {
            !(parent.handling == Handling::Container && parent.holds.kind == HoldsKind::Unknown && parent.lv.is_none())
        })
    }

    fn region(&self, name: &str) -> Option<&Region> {
        self.manifest.layout.regions.iter().find(|region| region.name == name)
    }

    fn handling(&self, region: &Region) -> Handling {
        self.records.get(region.name.as_str()).map_or(region.handling, |record| record.handling)
    }

    /// The least that a region needs. Only the files of filesystems with room to spare can be put closer together.
    fn min_bytes(&self, region: &Region) -> u64 {
        let used = self.records.get(region.name.as_str()).and_then(|record| record.used_bytes);
        let has_tail = self.manifest.layout.regions.iter().any(|other| other.parent.as_deref() == Some(&region.name));
        let (Some(used), Handling::Files, false) = (used, self.handling(region), has_tail) else {
            return region.size_bytes;
        };
        // Room for the filesystem's own structures: inode tables, journal, free space that it must have.
        let used = used.saturating_add(self.manifest.sizes.entries.saturating_mul(512));
        let needed = match region.holds.fs.as_deref() {
            Some("ext2" | "ext3" | "ext4") => used.saturating_add(used / 6).saturating_add(48 << 20),
            Some("xfs") => used.saturating_add(used / 8).saturating_add(96 << 20).max(320 << 20),
            Some("btrfs") => used.saturating_add(used / 3).saturating_add(256 << 20),
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

    fn moved(&self, extents: &[Extent]) -> Vec<Extent> {
        let moved = |extent: &Extent| {
            let range = self.shift.moved_range(ByteRange::new(extent.source_offset, extent.length));
            Extent { source_offset: range.start, length: range.len }
        };
        extents.iter().map(moved).collect()
    }

    fn plan_region(&mut self, region: &Region) {
        let name = shown(&region.name);
        let place = self.moved(&region.extents);
        match self.handling(region) {
            Handling::Container => self.container(region),
            Handling::RawImage => self.raw_image(region, place),
            Handling::MetadataOnly if region.holds.kind == HoldsKind::Swap => self.make(region, &place, None),
            // Zeros are what is written where nothing else is.
            Handling::MetadataOnly => {}
            Handling::Files => {
                let path = self.records.get(region.name.as_str()).and_then(|record| record.archive_path.as_deref());
                match path.and_then(part_of) {
                    Some(below) => {
                        let except = if below.is_empty() { self.raw_images() } else { Vec::new() };
                        self.make(region, &place, Some(Part { below, except }));
                    }
                    None => self.refuse(format!("{name}: the manifest does not say where its files are")),
                }
            }
        }
    }

    /// The raw images in the archive's root, which are none of the filesystem's files.
    fn raw_images(&self) -> Vec<Vec<u8>> {
        let raw = self.manifest.regions.iter().filter(|record| record.handling == Handling::RawImage);
        let mut paths: Vec<Vec<u8>> = raw.filter_map(|record| part_of(record.archive_path.as_deref()?)).collect();
        paths.retain(|path| !path.is_empty());
        paths
    }

    fn container(&mut self, region: &Region) {
        if region.holds.kind == HoldsKind::Mdraid {
            let what = "a member of a software RAID is not made again; restore the array's files with --to";
            self.refuse(format!("{}: {what}", shown(&region.name)));
        }
    }

    fn raw_image(&mut self, region: &Region, place: Vec<Extent>) {
        let name = shown(&region.name);
        let Some(archive_path) = self.records.get(region.name.as_str()).and_then(|record| record.archive_path.clone())
        else {
            return self.refuse(format!("{name}: the manifest does not say where its image is"));
        };
        let is_moved = place != region.extents;
        if is_moved && region.number == 0 && region.parent.is_none() {
            let what = "what lies between partitions is left out, since those are moved";
            self.remarks.push(format!("{name}: {what}"));
            return;
        }
        if is_moved && !region.type_id.is_empty() {
            self.remarks.push(format!("{name}: is moved; boot code that knows its old place has to be installed anew"));
        }
        self.claim(&place, &region.name, true);
        self.steps.push(Step::RawImage { region: region.name.clone(), archive_path, extents: place });
    }

    fn claim(&mut self, extents: &[Extent], name: &str, is_raw: bool) {
        for extent in extents {
            let range = ByteRange::new(extent.source_offset, extent.length);
            self.claims.add(range, name, is_raw);
            self.keep_zero.push(range);
        }
    }

    /// A filesystem or swap space.
    fn make(&mut self, region: &Region, place: &[Extent], files: Option<Part>) {
        let name = shown(&region.name);
        let whole: u64 = place.iter().map(|extent| extent.length).fold(0, u64::saturating_add);
        let shrunk = whole < region.size_bytes;
        let said = region.holds.size_bytes.filter(|size| *size > 0 && *size <= whole && !shrunk);
        let size_bytes = said.unwrap_or(whole) / 512 * 512;
        let Some(content) = compose(place, ByteRange::new(0, size_bytes)).filter(|content| !content.is_empty()) else {
            return self.refuse(format!("{name}: it has no room for anything"));
        };
        if content.len() > 1 && !(self.wish.has_program)("dmsetup") {
            self.refuse(format!("{name}: it lies in pieces, which dmsetup puts together; install the package dmsetup"));
        }
        let entries = self.manifest.sizes.entries;
        let made = match maker(&region.holds, size_bytes, entries, shrunk) {
            Ok(made) => made,
            Err(why) => return self.refuse(format!("{name}: {why}")),
        };
        self.remarks.extend(made.remarks.iter().map(|remark| format!("{name}: {remark}")));
        if !(self.wish.has_program)(made.call.program) {
            let (program, package) = (made.call.program, package_of(made.call.program));
            self.refuse(format!("{name}: {program} is not installed; on Debian it comes with the package {package}"));
        }
        let fs = region.holds.fs.clone().unwrap_or_default();
        if files.is_some() && !(self.wish.can_mount)(&fs) {
            self.refuse(format!("{name}: this machine's kernel does not know {}", fs.escape_debug()));
        }
        let mut check = checker(&fs);
        if let Some(call) = check.take_if(|call| !(self.wish.has_program)(call.program)) {
            self.remarks.push(format!("{name}: {} is not installed, so it is not checked afterwards", call.program));
        }
        if shrunk {
            let (was, is) = (ByteLen(region.size_bytes), ByteLen(whole));
            self.remarks.push(format!("{name}: is made smaller, from {was} to {is}"));
        }
        self.claim_made(&content, &region.name);
        let boot_block = self.boot_block(region);
        self.steps.push(Step::Make(Box::new(MakeStep {
            region: region.name.clone(),
            fs,
            uuid: region.holds.uuid.clone(),
            label: region.holds.label.clone(),
            size_bytes,
            extents: content,
            make: made.call,
            check,
            files,
            boot_block,
        })));
    }

    /// What is made anew covers its place, but not each byte of it: where something else could be recognised there is
    /// zeroed before.
    fn claim_made(&mut self, content: &[Extent], name: &str) {
        for extent in content {
            self.claims.add(ByteRange::new(extent.source_offset, extent.length), name, false);
            let inner = extent.length.saturating_sub(2 * SIGNATURES_BYTES);
            if inner > 0 {
                self.keep_zero.push(ByteRange::new(extent.source_offset + SIGNATURES_BYTES, inner));
            }
        }
    }

    /// Boot code in front of a filesystem, where that itself keeps nothing.
    fn boot_block(&mut self, region: &Region) -> Option<Vec<u8>> {
        let what = format!("boot block of {}", region.name);
        let longest = match region.holds.fs.as_deref()? {
            "ext2" | "ext3" | "ext4" => 1024,
            "btrfs" => 64 << 10,
            "vfat" => 512,
            _ => return None,
        };
        let fits =
            |bytes: &&Kept| bytes.what == what && bytes.start == region.start_bytes && bytes.bytes.len() <= longest;
        self.kept.iter().find(fits).map(|bytes| bytes.bytes.clone())
    }

    /// The labels and metadata of physical volumes; gives the groups' new names.
    fn physical_volumes(&mut self, leaves: &[&Region]) -> BTreeMap<String, String> {
        let is_volume =
            |region: &&&Region| region.holds.kind == HoldsKind::Lvm2Pv && self.handling(region) == Handling::Container;
        let volumes: Vec<&Region> = leaves.iter().filter(is_volume).copied().collect();
        let mut groups = Groups::of(&self.kept, &volumes);
        let mut renamed = BTreeMap::new();
        for region in volumes {
            let name = shown(&region.name);
            let Some(group) = groups.of_volume(region) else {
                self.refuse(format!("{name}: the metadata of its volume group are not in the manifest"));
                continue;
            };
            let new = self.wish.group_names.get(&group.name);
            if new.is_none() && self.wish.active_groups.contains(&group.name) {
                let group = shown_group(&group.name);
                self.refuse(format!(
                    "{name}: a volume group {group} is active on this machine; give the restored one another name with \
                     --vg-name {group}=NEW, or leave it as it is with --vg-name {group}={group}: it is not activated here"
                ));
            }
            if let Some(new) = new.filter(|new| **new != group.name) {
                let what = "what names its volumes by the old one (fstab, boot loader) has to be changed";
                self.remarks.push(format!("{name}: its volume group gets the name {new}; {what}"));
                renamed.insert(group.name.clone(), new.clone());
            }
            let place = self.moved(&region.extents);
            let head = match group.head(region, new.map(String::as_str)) {
                Ok(head) => head,
                Err(why) => {
                    self.refuse(format!("{name}: {why}"));
                    continue;
                }
            };
            let Some(pieces) = compose(&place, ByteRange::new(0, head.len() as u64)) else {
                self.refuse(format!("{name}: it is too small for its own metadata"));
                continue;
            };
            let mut rest = head.as_slice();
            for piece in pieces {
                // The pieces have the head's length together.
                let (now, later) = rest.split_at(usize::try_from(piece.length).unwrap_or(rest.len()).min(rest.len()));
                rest = later;
                self.write(&format!("LVM2 label and metadata of {}", region.name), piece.source_offset, now.to_vec());
            }
        }
        renamed
    }

    fn write(&mut self, what: &str, start_bytes: u64, bytes: Vec<u8>) {
        let range = ByteRange::new(start_bytes, bytes.len() as u64);
        // Zeroed first all the same: an old table, or half a new one, must not be found before the end.
        self.claims.add(range, what, true);
        let size_bytes = bytes.len() as u64;
        self.steps.push(Step::Write { what: what.to_owned(), start_bytes, size_bytes, bytes });
    }

    /// What lies outside the partitions. The first sector comes last: before that, no disk is there.
    fn tables(&mut self, sector: u64) -> Result<(), String> {
        let table = &self.manifest.layout.table;
        let is_table = |bytes: &Kept| {
            bytes.what == "boot sector" || bytes.what.starts_with("GPT ") || bytes.what == "extended boot record"
        };
        if table.kind == TableKind::None {
            return Ok(());
        }
        if self.covered_by_image() {
            // Its first sector is in the image.
            return Ok(());
        }
        let kept = std::mem::take(&mut self.kept);
        let (mut tables, others): (Vec<Kept>, Vec<Kept>) = kept.into_iter().partition(is_table);
        if !tables.iter().any(|bytes| bytes.what == "boot sector" && bytes.start == 0) {
            return Err("the manifest does not hold its first sector".to_owned());
        }
        for gap in others.into_iter().filter(|bytes| bytes.what.starts_with("gap ")) {
            let range = ByteRange::new(gap.start, gap.bytes.len() as u64);
            if self.shift.moved_range(range) == range {
                self.write(&gap.what, gap.start, gap.bytes);
            } else {
                let what = "what lies between partitions is left out, since those are moved";
                self.remarks.push(format!("{range}: {what}"));
            }
        }
        if self.is_resized() {
            tables = resized(&tables, table, sector, &self.shift, self.wish.target_bytes)?;
        }
        // Stable, so the order of the rest stays.
        tables.sort_by_key(|bytes| bytes.start == 0);
        for bytes in tables {
            self.write(&bytes.what, bytes.start, bytes.bytes);
        }
        Ok(())
    }

    /// Whether one raw image is the whole disk.
    fn covered_by_image(&self) -> bool {
        let size = self.manifest.layout.source.size_bytes;
        let is_all = |region: &Region| region.size_bytes == size && self.handling(region) == Handling::RawImage;
        self.manifest.layout.regions.iter().any(is_all)
    }

    /// Everything that nothing else is written to, first of all steps.
    fn zeros(&mut self) {
        self.refusals.extend(self.claims.conflicts());
        let mut written = std::mem::take(&mut self.keep_zero);
        written.sort_by_key(|range| range.start);
        let mut ranges = Vec::new();
        let mut at = 0;
        for range in &written {
            if range.start > at {
                ranges.push(Extent { source_offset: at, length: range.start - at });
            }
            at = at.max(range.end().unwrap_or(u64::MAX));
        }
        if at < self.wish.target_bytes {
            ranges.push(Extent { source_offset: at, length: self.wish.target_bytes - at });
        }
        self.steps.insert(0, Step::Zero { ranges });
    }

    fn expected(&self, renamed: &BTreeMap<String, String>) -> Expected {
        let is_compared = |region: &&Region| {
            let is_gap =
                region.number == 0 && region.parent.is_none() && self.manifest.layout.table.kind != TableKind::None;
            !is_gap && (region.lv.is_some() || !self.is_part_of_another(region))
        };
        let moved = |region: &Region| {
            let mut region = region.clone();
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

/// A path of the manifest, `.` or `./p1`, as a directory of the archive without `./`.
fn part_of(path: &str) -> Option<Vec<u8>> {
    if path == "." {
        return Some(Vec::new());
    }
    let name = path.strip_prefix("./")?;
    let is_one = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    is_one.then(|| name.as_bytes().to_vec())
}

fn shown(name: &str) -> String {
    shown_path(name.as_bytes())
}
