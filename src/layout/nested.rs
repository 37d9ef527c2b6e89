//! Looks into regions: decides what each holds and what is done with it, and finds the regions inside (logical volumes,
//! the array behind a mirror's member), level by level down to a bound.

use std::collections::{HashMap, HashSet};

use crate::events::{Problem, Severity};
use crate::layout::detect::Problems;
use crate::layout::lvm2::{Metadata, PhysicalVolume, SegmentKind, VolumeGroup, compose, extents_of, place};
use crate::layout::mbr::{BootRecord, PartitionRecord};
use crate::layout::probe::{Content, Verdict, Window, judge, probe_all};
use crate::layout::scan::{Scanned, Scanner};
use crate::layout::text::path_safe;
use crate::layout::{Extent, Handling, HoldsKind, NestedLv, PreservedBytes, Region, RegionBlocks, outside};
use crate::outside::BlockRead;
use crate::units::{ByteLen, ByteRange};

/// How many layers of logical volumes and mirrors are looked into; the rest is kept as it is.
const DEPTH_MAX: u32 = 4;
/// The most regions that a source may have; the bytes of what is beyond are kept in other ways, and it is said.
pub(super) const REGIONS_MAX: usize = 1024;
/// A physical volume in more pieces than this is not taken apart: each logical volume would be in more still.
const PV_PIECES_MAX: usize = 256;
/// A region's name is one path component, and gets a suffix in the archive.
const NAME_BYTES_MAX: usize = 200;
/// The most text metadata that the manifest keeps of one group.
const METADATA_BYTES_MAX: u64 = 1 << 20;
/// A filesystem or swap space may be shorter than its region by this much without a word.
const SLACK_BYTES: u64 = 1 << 20;

/// A region and what is known of it while its neighbours are looked at.
struct Draft {
    region: Region,
    parent: Option<usize>,
    content: Option<Content>,
    keep_raw: bool,
}

/// What came of it.
pub(super) struct Looked {
    /// Every region, each followed by those inside it.
    pub(super) regions: Vec<Region>,
    /// Bytes that a restore needs and that no region's files contain.
    pub(super) preserved: Vec<PreservedBytes>,
}

/// Looks into `regions`, whose extents are inside `blocks`. Extended partitions are left as they are.
pub(super) fn look_into(
    blocks: &dyn BlockRead,
    regions: Vec<Region>,
    scanner: &mut Scanner,
    problems: &mut Problems,
) -> Looked {
    let names = regions.iter().map(|region| region.name.clone()).collect();
    let drafts: Vec<Draft> =
        regions.into_iter().map(|region| Draft { region, parent: None, content: None, keep_raw: false }).collect();
    let mut look = Look { blocks, scanner, problems, drafts, names, preserved: Vec::new() };
    let mut level: Vec<usize> = (0..look.drafts.len()).collect();
    for depth in 0..DEPTH_MAX {
        for index in &level {
            look.examine(*index);
        }
        if depth + 1 == DEPTH_MAX {
            look.stop_here(&level);
            break;
        }
        let before = look.drafts.len();
        look.open_mirrors(&level);
        look.open_groups(&level);
        level = (before..look.drafts.len()).collect();
        if level.is_empty() {
            break;
        }
    }
    look.finish()
}

struct Look<'a> {
    blocks: &'a dyn BlockRead,
    scanner: &'a mut Scanner,
    problems: &'a mut Problems,
    drafts: Vec<Draft>,
    names: HashSet<String>,
    preserved: Vec<PreservedBytes>,
}

impl Look<'_> {
    fn say(&mut self, severity: Severity, index: usize, what: impl Into<String>) {
        let name = self.drafts[index].region.name.clone();
        self.problems.push(Problem::new(severity, name, what));
    }

    /// Finds out what one region holds.
    fn examine(&mut self, index: usize) {
        let region = &self.drafts[index].region;
        if region.handling == Handling::Container {
            return;
        }
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        let window = Window::new(&blocks);
        let Verdict { found, remarks, keep_raw } = judge(probe_all(&window));
        let is_truncated = found.as_ref().is_some_and(|found| found.holds.size_bytes > Some(window.len()));
        let severity = if is_truncated { Severity::Error } else { Severity::Warning };
        if let Some(why) = window.read_error() {
            // Anything may be where nothing can be read, so nothing else that was found is relied upon.
            self.say(Severity::Error, index, format!("{why}; it is kept as a raw image"));
            self.drafts[index].keep_raw = true;
        }
        let kept = if keep_raw { "; it is kept as a raw image" } else { "" };
        for remark in remarks {
            self.say(severity, index, format!("{remark}{kept}"));
        }
        let Some(found) = found else {
            self.nothing_found(index);
            return;
        };
        let draft = &mut self.drafts[index];
        draft.region.holds = found.holds;
        draft.keep_raw |= keep_raw;
        let slack = found_slack(&draft.region);
        match found.content {
            _ if draft.keep_raw => {}
            Content::Files => {
                draft.region.handling = Handling::Files;
                if slack > SLACK_BYTES {
                    let what = format!("the filesystem ends {} before its region does", ByteLen(slack));
                    self.say(Severity::Notice, index, what);
                }
                self.preserve_boot_block(index);
            }
            Content::FactsOnly => self.leave_out_swap(index, slack),
            Content::Opaque | Content::PhysicalVolume(_) | Content::Mirror(_) => {}
        }
        self.drafts[index].content = Some(found.content);
    }

    /// Tells zeros, a table that nobody opens, and unknown content apart.
    fn nothing_found(&mut self, index: usize) {
        let region = &self.drafts[index].region;
        if self.drafts[index].keep_raw {
            return;
        }
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        match self.scanner.scan(&blocks, ByteRange::new(0, region.size_bytes)) {
            Scanned::Zero => {
                let region = &mut self.drafts[index].region;
                region.holds.kind = HoldsKind::Empty;
                region.handling = Handling::MetadataOnly;
            }
            Scanned::DataAt(_) => {
                if let Some(kind) = table_in(&Window::new(&blocks)) {
                    self.drafts[index].region.holds.fs = Some(kind.to_owned());
                    let what = format!("a partition table ({kind}) lies in it; it is kept as a raw image");
                    self.say(Severity::Warning, index, what);
                }
            }
            Scanned::NotLookedAt => {
                let what = "not searched for zeros to the end, which takes too long; it is kept as a raw image";
                self.say(Severity::Notice, index, what);
            }
            Scanned::Failed(error) => {
                self.say(Severity::Error, index, format!("cannot be read: {error}; it is kept as a raw image"));
            }
        }
    }

    /// Swap space is left out only as far as it reaches: what follows it must be zero.
    fn leave_out_swap(&mut self, index: usize, slack: u64) {
        let region = &self.drafts[index].region;
        if region.holds.size_bytes > Some(region.size_bytes) {
            self.say(Severity::Warning, index, "the swap space says that it is longer than its region");
        }
        let region = &self.drafts[index].region;
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        let tail = ByteRange::new(region.size_bytes - slack.min(region.size_bytes), slack.min(region.size_bytes));
        if slack <= SLACK_BYTES || matches!(self.scanner.scan(&blocks, tail), Scanned::Zero) {
            self.drafts[index].region.handling = Handling::MetadataOnly;
        } else {
            self.say(Severity::Warning, index, "data may follow the swap space; all of it is kept as a raw image");
        }
    }

    /// A boot loader's first part may be where the filesystem itself keeps nothing.
    fn preserve_boot_block(&mut self, index: usize) {
        let region = &self.drafts[index].region;
        let len = match region.holds.fs.as_deref() {
            Some("ext2" | "ext3" | "ext4") => 1024,
            Some("btrfs") => 64 << 10,
            Some("vfat") => 512,
            _ => return,
        };
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        if matches!(self.scanner.scan(&blocks, ByteRange::new(0, len)), Scanned::DataAt(_)) {
            let what = format!("boot block of {}", region.name);
            self.preserve(index, &what, ByteRange::new(0, len));
        }
    }

    /// Puts a run of a region's bytes into the manifest.
    fn preserve(&mut self, index: usize, what: &str, range: ByteRange) {
        let region = &self.drafts[index].region;
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        match outside::preserve(&blocks, what, range) {
            Ok(mut kept) => {
                let on_source = compose(&region.extents, ByteRange::new(range.start, 1));
                kept.start_bytes = on_source.and_then(|found| found.first().copied()).map_or(0, |e| e.source_offset);
                self.preserved.push(kept);
            }
            Err(why) => self.say(Severity::Error, index, format!("{what}: {why}")),
        }
    }

    /// What would be opened at the next level is kept as it is.
    fn stop_here(&mut self, level: &[usize]) {
        for index in level {
            if matches!(self.drafts[*index].content, Some(Content::PhysicalVolume(_) | Content::Mirror(_))) {
                let what = format!("volumes are nested more than {DEPTH_MAX} deep; it is kept as a raw image");
                self.say(Severity::Warning, *index, what);
            }
        }
    }

    /// The array behind a mirror's member is a region of its own.
    fn open_mirrors(&mut self, level: &[usize]) {
        for index in level {
            let draft = &self.drafts[*index];
            let Some(Content::Mirror(data)) = draft.content else { continue };
            if draft.keep_raw {
                continue;
            }
            let Some(extents) = compose(&draft.region.extents, data) else { continue };
            let name = format!("{}.md", draft.region.name);
            if self.add_child(*index, &name, None, extents) {
                self.drafts[*index].region.handling = Handling::Container;
            }
        }
    }

    /// Adds a region inside another; false when there are too many, which is said.
    fn add_child(&mut self, parent: usize, name: &str, lv: Option<NestedLv>, extents: Vec<Extent>) -> bool {
        if self.drafts.len() >= REGIONS_MAX {
            let what = format!("more than {REGIONS_MAX} regions: {name} is not taken apart; its parent is kept raw");
            self.say(Severity::Error, parent, what);
            return false;
        }
        let name = self.unique(name);
        let number = self.drafts[parent].region.number;
        let region = Region {
            name,
            number,
            parent: Some(self.drafts[parent].region.name.clone()),
            lv,
            start_bytes: extents.first().map_or(0, |extent| extent.source_offset),
            // Each extent is inside the source, and their number is bounded; a sum past 2^64 is refused before.
            size_bytes: extents.iter().fold(0, |sum: u64, extent| sum.saturating_add(extent.length)),
            extents,
            ..Region::default()
        };
        self.drafts.push(Draft { region, parent: Some(parent), content: None, keep_raw: false });
        true
    }

    fn unique(&mut self, wanted: &str) -> String {
        let base = path_safe(wanted, NAME_BYTES_MAX);
        let mut name = base.clone();
        let mut count = 1;
        // Ends, since there are at most REGIONS_MAX names.
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{base}~{count}");
        }
        name
    }

    /// Takes volume groups apart. Groups whose parts lie on several physical volumes of this level are put together.
    fn open_groups(&mut self, level: &[usize]) {
        let mut volumes: Vec<(usize, PhysicalVolume)> = Vec::new();
        for index in level {
            if let Some(Content::PhysicalVolume(volume)) = &self.drafts[*index].content {
                volumes.push((*index, volume.as_ref().clone()));
            }
        }
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for (_, volume) in &volumes {
            *copies.entry(&volume.uuid).or_default() += 1;
        }
        let mut done: HashSet<usize> = HashSet::new();
        for (index, volume) in &volumes {
            if done.contains(index) {
                continue;
            }
            let members: Vec<(usize, &PhysicalVolume)> = if copies.get(volume.uuid.as_str()) == Some(&1) {
                let group = newest(&volumes, volume);
                let belongs = |other: &PhysicalVolume| {
                    copies.get(other.uuid.as_str()) == Some(&1)
                        && group.is_some_and(|group| group.physical_volumes.iter().any(|pv| pv.id == other.uuid))
                };
                let among = |(at, other): &&(usize, PhysicalVolume)| *at == *index || belongs(other);
                volumes.iter().filter(among).map(|(at, other)| (*at, other)).collect()
            } else {
                // A copy beside its original: each is taken for itself, so that they do not disturb each other.
                self.say(Severity::Warning, *index, "another physical volume here has the same UUID");
                vec![(*index, volume)]
            };
            done.extend(members.iter().map(|(at, _)| *at));
            self.open_group(&members);
        }
    }

    fn open_group(&mut self, members: &[(usize, &PhysicalVolume)]) {
        let best = members
            .iter()
            .filter_map(|(index, volume)| match &volume.metadata {
                Metadata::Group(group, text) => Some((*index, group.as_ref(), text)),
                _ => None,
            })
            .max_by_key(|(_, group, _)| group.seqno);
        let Some((metadata_at, group, text)) = best else {
            for (index, volume) in members {
                if volume.metadata == Metadata::Elsewhere {
                    let what = "its volume group's metadata are not on this source; it is kept as a raw image";
                    self.say(Severity::Warning, *index, what);
                }
            }
            return;
        };
        let mut whole: HashMap<usize, bool> = HashMap::new();
        for (index, volume) in members {
            let is_listed = group.physical_volumes.iter().any(|pv| pv.id == volume.uuid);
            if !is_listed {
                let what =
                    format!("it is no part of the volume group {} that its metadata describe", shown(&group.name));
                self.say(Severity::Warning, *index, what);
            }
            if volume.device_size_bytes > self.drafts[*index].region.size_bytes {
                let what = "the physical volume is longer than its region: it was cut off";
                self.say(Severity::Error, *index, what);
            }
            whole.insert(*index, is_listed && !self.drafts[*index].keep_raw);
        }
        let areas: Vec<(&str, usize, Vec<Extent>)> = members
            .iter()
            .map(|(index, volume)| (volume.uuid.as_str(), *index, self.drafts[*index].region.extents.clone()))
            .filter(|(_, _, extents)| extents.len() <= PV_PIECES_MAX)
            .collect();
        let area = |uuid: &str| areas.iter().find(|(id, ..)| *id == uuid);
        let placed = place(group, |uuid| area(uuid).map(|(_, _, extents)| extents.as_slice()));
        let cow_stores: HashSet<&str> = group.cow_stores().collect();
        let indexes: HashMap<&str, usize> =
            group.physical_volumes.iter().filter_map(|pv| Some((pv.name.as_str(), area(&pv.id)?.1))).collect();

        for volume in &group.logical_volumes {
            let touched: Vec<usize> = touched(volume, &indexes);
            let mapped = if cow_stores.contains(volume.name.as_str()) {
                Err("it holds a snapshot's exceptions".to_owned())
            } else {
                extents_of(group, volume, &placed)
            };
            let name = format!("{}-{}", group.name, volume.name);
            let parent = touched.first().copied().unwrap_or(metadata_at);
            let why = match mapped {
                Ok(extents) if volume.is_visible => {
                    let name = format!("{}.{name}", self.drafts[parent].region.name);
                    let lv = NestedLv { vg: group.name.clone(), lv: volume.name.clone() };
                    if self.add_child(parent, &name, Some(lv), extents) {
                        continue;
                    }
                    None
                }
                // A hidden volume is a part of a visible one, which is reported.
                Ok(_) => None,
                Err(_) if !volume.is_visible => None,
                Err(why) => Some(why),
            };
            for index in &touched {
                whole.insert(*index, false);
            }
            if let Some(why) = why {
                // One that has no byte of its own here still says that its bytes are in the raw image.
                if touched.is_empty() {
                    whole.insert(metadata_at, false);
                }
                let place = format!("{}.{}", self.drafts[parent].region.name, path_safe(&name, NAME_BYTES_MAX));
                let what =
                    format!("logical volume {}: {why}; its physical volume is kept as a raw image", shown(&name));
                self.problems.push(Problem::new(Severity::Warning, place, what));
            }
        }
        for (index, _) in members {
            if whole.get(index) == Some(&true) {
                self.drafts[*index].region.handling = Handling::Container;
            }
        }
        let mut left = METADATA_BYTES_MAX;
        for range in text {
            if range.len > left {
                break;
            }
            left -= range.len;
            let what = format!("LVM2 metadata of {}", self.drafts[metadata_at].region.name);
            self.preserve(metadata_at, &what, *range);
        }
    }

    /// The regions, each followed by what is inside it.
    fn finish(self) -> Looked {
        let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
        for (index, draft) in self.drafts.iter().enumerate() {
            children.entry(draft.parent).or_default().push(index);
        }
        let mut slots: Vec<Option<Region>> = self.drafts.into_iter().map(|draft| Some(draft.region)).collect();
        let mut stack: Vec<usize> = children.remove(&None).unwrap_or_default();
        stack.reverse();
        let mut regions = Vec::with_capacity(slots.len());
        while let Some(index) = stack.pop() {
            regions.extend(slots[index].take());
            stack.extend(children.remove(&Some(index)).unwrap_or_default().into_iter().rev());
        }
        Looked { regions, preserved: self.preserved }
    }
}

/// The newest metadata that names this physical volume, its own or another's.
fn newest<'a>(volumes: &'a [(usize, PhysicalVolume)], volume: &PhysicalVolume) -> Option<&'a VolumeGroup> {
    volumes
        .iter()
        .filter_map(|(_, other)| match &other.metadata {
            Metadata::Group(group, _) if group.physical_volumes.iter().any(|pv| pv.id == volume.uuid) => Some(group),
            _ => None,
        })
        .max_by_key(|group| group.seqno)
        .map(AsRef::as_ref)
}

/// The physical volumes here that a logical volume has bytes on, in the order of its segments.
fn touched(volume: &crate::layout::lvm2::LogicalVolume, indexes: &HashMap<&str, usize>) -> Vec<usize> {
    let mut seen = Vec::new();
    for segment in &volume.segments {
        let names: Vec<&str> = match &segment.kind {
            SegmentKind::Striped { stripes, .. } => stripes.iter().map(|(name, _)| name.as_str()).collect(),
            SegmentKind::Other { names, .. } => names.iter().map(String::as_str).collect(),
        };
        for index in names.iter().filter_map(|name| indexes.get(name)) {
            if !seen.contains(index) {
                seen.push(*index);
            }
        }
    }
    seen
}

/// By how much the content ends before its region does.
fn found_slack(region: &Region) -> u64 {
    region.holds.size_bytes.map_or(0, |size| region.size_bytes.saturating_sub(size))
}

/// The kind of a partition table at the region's start, as blkid names it.
fn table_in(window: &Window<'_>) -> Option<&'static str> {
    for sector_size in [512, 4096] {
        if window.read(sector_size, 8).as_deref() == Some(b"EFI PART") {
            return Some("gpt");
        }
    }
    let record = BootRecord::decode(&window.read(0, 512)?)?;
    let used = record.records.iter().any(PartitionRecord::is_used);
    (used && record.has_valid_boot_indicators()).then_some("dos")
}

/// A tenant's name in a message.
fn shown(name: &str) -> String {
    crate::layout::text::for_terminal(name)
}
