//! Looks into regions: decides what each holds and what is done with it, and finds the regions inside (logical volumes,
//! the array behind a mirror's member), level by level down to a bound.

mod groups;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::events::{Problem, Severity};
use crate::layout::budget::Budget;
use crate::layout::detect::Problems;
use crate::layout::lvm2::{Texts, compose};
use crate::layout::mbr::{BootRecord, PartitionRecord};
use crate::layout::probe::{Content, Verdict, Window, judge, probe_all};
use crate::layout::scan::{Scanned, Scanner};
use crate::layout::text::path_safe;
use crate::layout::{Handling, HoldsKind, NestedLv, PreservedBytes, Region, RegionBlocks, gaps};
use crate::outside::BlockRead;
use crate::units::Extent;
use crate::units::{ByteLen, ByteRange};

/// How many layers of logical volumes and mirrors are looked into; the rest is kept as it is.
const DEPTH_MAX: u32 = 4;
/// The most regions that a source may have; the bytes of what is beyond are kept in other ways, and it is said.
pub(super) const REGIONS_MAX: usize = 1024;
/// A region's name is one path component, and gets a suffix in the archive.
const NAME_BYTES_MAX: usize = 200;
/// The most of a FAT's reserved sectors that goes into the manifest. mkfs.fat makes 32 sectors, Windows some thousands.
const RESERVED_BYTES_MAX: u64 = 4 << 20;
/// A superblock of a software RAID is a page at most, in every version.
const MD_SUPERBLOCK_BYTES: u64 = 4096;
/// A filesystem may be shorter than its region by this much: its size is rounded, and what was there before stays.
const SLACK_BYTES: u64 = 1 << 20;

/// A region and what is known of it while its neighbours are looked at.
struct Draft {
    region: Region,
    parent: Option<usize>,
    content: Option<Content>,
    keep_raw: bool,
    /// It is what lies behind another region's content, and is not looked into.
    is_tail: bool,
}

/// What came of it.
pub(super) struct Looked {
    /// Every region, each followed by those inside it.
    pub(super) regions: Vec<Region>,
    /// Bytes that a restore needs and that no region's files contain.
    pub(super) preserved: Vec<PreservedBytes>,
    /// The regions that are zeros as far as they were read, and were not read to the end, by name.
    pub(super) not_looked_at: Vec<String>,
}

/// What looking into regions works with.
pub(super) struct Means<'a> {
    pub(super) blocks: &'a dyn BlockRead,
    pub(super) scanner: &'a mut Scanner,
    pub(super) problems: &'a mut Problems,
    pub(super) texts: &'a Rc<Texts>,
    pub(super) budget: &'a mut Budget,
}

/// Looks into `regions`, whose extents are inside the source. Extended partitions are left as they are.
pub(super) fn look_into(means: Means<'_>, regions: Vec<Region>) -> Looked {
    let Means { blocks, scanner, problems, texts, budget } = means;
    let names = regions.iter().map(|region| region.name.to_ascii_lowercase()).collect();
    let drafts: Vec<Draft> = regions
        .into_iter()
        .map(|region| Draft { region, parent: None, content: None, keep_raw: false, is_tail: false })
        .collect();
    let (preserved, not_looked_at) = (Vec::new(), Vec::new());
    let mut look = Look { blocks, scanner, problems, texts, budget, drafts, names, preserved, not_looked_at };
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
    texts: &'a Rc<Texts>,
    budget: &'a mut Budget,
    drafts: Vec<Draft>,
    /// In small letters.
    names: HashSet<String>,
    preserved: Vec<PreservedBytes>,
    not_looked_at: Vec<String>,
}

impl Look<'_> {
    fn say(&mut self, severity: Severity, index: usize, what: impl Into<String>) {
        let name = self.drafts[index].region.name.clone();
        self.problems.push(Problem::new(severity, name, what));
    }

    /// Finds out what one region holds.
    fn examine(&mut self, index: usize) {
        let region = &self.drafts[index].region;
        if region.handling == Handling::Container || self.drafts[index].is_tail {
            return;
        }
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        let window = Window::within(&blocks, Some(&region.extents), self.texts);
        let Verdict { found, remarks, keep_raw } = judge(probe_all(&window));
        let is_truncated = found.as_ref().is_some_and(|found| found.holds.size_bytes > Some(window.len()));
        let severity = if is_truncated { Severity::Error } else { Severity::Warning };
        let read_error = window.read_error();
        if let Some(why) = read_error {
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
                if self.keep_tail(index, "the filesystem") {
                    self.drafts[index].region.handling = Handling::Files;
                    self.preserve_boot_block(index);
                }
            }
            Content::FactsOnly => self.leave_out_swap(index, slack),
            Content::Opaque | Content::PhysicalVolume(_) | Content::Mirror(_) => {}
        }
        self.say_array(index, matches!(found.content, Content::Mirror(_)));
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
                // That of the whole source has been judged already.
                let is_whole = region.number == 0 && region.parent.is_none();
                if let Some(kind) = table_in(&Window::new(&blocks)).filter(|_| !is_whole) {
                    self.drafts[index].region.holds.fs = Some(kind.to_owned());
                    let what = format!("a partition table ({kind}) lies in it; it is kept as a raw image");
                    self.say(Severity::Warning, index, what);
                }
            }
            Scanned::NotLookedAt => {
                self.not_looked_at.push(region.name.clone());
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
        if slack <= SLACK_BYTES {
            if self.keep_tail(index, "the swap space") {
                self.drafts[index].region.handling = Handling::MetadataOnly;
                self.preserve_boot_block(index);
            }
        } else if matches!(self.scanner.scan(&blocks, tail), Scanned::Zero) {
            self.drafts[index].region.handling = Handling::MetadataOnly;
            self.preserve_boot_block(index);
        } else {
            self.say(Severity::Warning, index, "data may follow the swap space; all of it is kept as a raw image");
        }
    }

    /// Before a region's content is taken out of it: what lies behind the content and may be data becomes a region of
    /// its own. False, which has been said, when it could not, so that the region must be kept as it is.
    fn keep_tail(&mut self, index: usize, content: &str) -> bool {
        let region = &self.drafts[index].region;
        let slack = found_slack(region);
        if slack == 0 {
            return true;
        }
        // The slack is a part of the region.
        let tail = ByteRange::new(region.size_bytes - slack, slack);
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        let scanned = self.scanner.scan(&blocks, tail);
        let (severity, what) = match scanned {
            Scanned::Zero => {
                if slack > SLACK_BYTES {
                    let what = format!("{content} ends {} before its region does", ByteLen(slack));
                    self.say(Severity::Notice, index, what);
                }
                return true;
            }
            // Rounding leaves bytes of what the disk held before, which happens on any disk.
            Scanned::DataAt(_) if slack <= SLACK_BYTES => (Severity::Notice, "is not zero".to_owned()),
            Scanned::DataAt(_) => (Severity::Warning, "holds data".to_owned()),
            Scanned::NotLookedAt => (Severity::Notice, "was not searched for data, which takes too long".to_owned()),
            Scanned::Failed(error) => (Severity::Error, format!("cannot be read: {error}")),
        };
        // A part of the region has extents.
        let Some(extents) = compose(&region.extents, tail) else { return false };
        let name = format!("{}.tail", region.name);
        if !self.add_child(index, &name, None, extents) {
            return false;
        }
        let tail = self.drafts.len() - 1;
        self.drafts[tail].is_tail = true;
        "behind the content".clone_into(&mut self.drafts[tail].region.type_name);
        let what = format!(
            "{content} ends {} before its region does, and what follows {what}; it is kept as a raw image",
            ByteLen(slack)
        );
        self.say(severity, tail, what);
        true
    }

    /// A boot loader's first part may be where the filesystem itself keeps nothing.
    fn preserve_boot_block(&mut self, index: usize) {
        let len = match self.drafts[index].region.holds.fs.as_deref() {
            Some("ext2" | "ext3" | "ext4" | "swap") => 1024,
            Some("btrfs") => 64 << 10,
            Some("vfat") => self.reserved_bytes(index),
            _ => return,
        };
        let region = &self.drafts[index].region;
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        if matches!(self.scanner.scan(&blocks, ByteRange::new(0, len)), Scanned::DataAt(_)) {
            let what = format!("boot block of {}", region.name);
            self.preserve(index, &what, ByteRange::new(0, len));
        }
    }

    /// How long the reserved sectors of a FAT are, as far as the manifest keeps them.
    fn reserved_bytes(&mut self, index: usize) -> u64 {
        let region = &self.drafts[index].region;
        let made = region.holds.made_with.as_ref();
        let own = made.and_then(|made| Some((made.sector_bytes?, made.fat.as_ref()?.reserved_sectors)));
        let Some((sector_bytes, sectors)) = own else { return 512 };
        let all = u64::from(sector_bytes) * u64::from(sectors);
        let rest = ByteRange::new(RESERVED_BYTES_MAX, all.saturating_sub(RESERVED_BYTES_MAX));
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        if rest.len > 0 && !matches!(self.scanner.scan(&blocks, rest), Scanned::Zero) {
            let what = format!("the reserved sectors after the first {} are not kept", ByteLen(RESERVED_BYTES_MAX));
            self.say(Severity::Warning, index, what);
        }
        all.min(RESERVED_BYTES_MAX)
    }

    /// Puts a run of a region's bytes into the manifest, which holds no more than the budget allows.
    fn preserve(&mut self, index: usize, what: &str, range: ByteRange) {
        if !self.budget.preserve(range.len) {
            let what = format!("{what}, {} long, is not kept in the manifest, which is full", ByteLen(range.len));
            self.say(Severity::Warning, index, what);
            return;
        }
        let region = &self.drafts[index].region;
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        match gaps::preserve(&blocks, what, range) {
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
                let made = self.drafts[*index].region.holds.made_with.as_ref();
                if let Some(at) = made.and_then(|made| made.md.as_ref()).map(|md| md.superblock_at) {
                    let what = format!("md superblock of {}", self.drafts[*index].region.name);
                    self.preserve(*index, &what, ByteRange::new(at, MD_SUPERBLOCK_BYTES));
                }
            }
        }
    }

    /// Says which array a member belongs to, and what a backup of it is good for.
    fn say_array(&mut self, index: usize, is_mirror: bool) {
        let holds = &self.drafts[index].region.holds;
        let Some(md) = holds.made_with.as_ref().and_then(|made| made.md.as_ref()) else { return };
        let role = md.role.map_or_else(|| "a spare or failed member".to_owned(), |role| format!("member {role}"));
        let level = if md.level < 0 { "no level".to_owned() } else { format!("RAID{}", md.level) };
        let named = |what: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!(", {what} {}", crate::shown::text(value)))
        };
        let then = match (is_mirror && !self.drafts[index].keep_raw, md.level) {
            (true, _) => "its files are read from this member alone",
            (false, 1) => "it is not in sync, and kept as a raw image",
            (false, _) => {
                "one member is not the array: it is kept as a raw image, and a restore needs those of all members, of one \
                 moment"
            }
        };
        let what = format!(
            "{role} of an array of {} devices, {level}{}{}, metadata {}: {then}",
            md.devices,
            named("name", &holds.label),
            named("UUID", &holds.uuid),
            holds.version.as_deref().unwrap_or("unknown"),
        );
        self.say(Severity::Notice, index, what);
    }

    /// Adds a region inside another; false when there are too many, which is said.
    fn add_child(&mut self, parent: usize, name: &str, lv: Option<NestedLv>, extents: Vec<Extent>) -> bool {
        if self.drafts.len() >= REGIONS_MAX {
            let what = format!("more than {REGIONS_MAX} regions: {name} is not taken apart; its parent is kept raw");
            self.say(Severity::Error, parent, what);
            return false;
        }
        let Some(left) = self.budget.extents.checked_sub(extents.len()) else {
            let what = format!(
                "the source's volumes are in too many pieces: {name} is not taken apart; its parent is kept raw"
            );
            self.say(Severity::Error, parent, what);
            return false;
        };
        self.budget.extents = left;
        let plain = path_safe(name, NAME_BYTES_MAX);
        let name = self.unique(name);
        let is_plain = name == plain;
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
        self.drafts.push(Draft { region, parent: Some(parent), content: None, keep_raw: false, is_tail: false });
        if !is_plain {
            let what =
                format!("it has this name since another region is called {plain}, or differs from it in case only");
            self.say(Severity::Notice, self.drafts.len() - 1, what);
        }
        true
    }

    /// A name that no other region has, in capital letters or small ones: an archive may go to a filesystem that does
    /// not tell them apart.
    fn unique(&mut self, wanted: &str) -> String {
        let base = path_safe(wanted, NAME_BYTES_MAX);
        let mut name = base.clone();
        let mut count = 1;
        // Ends, since there are at most REGIONS_MAX names.
        while !self.names.insert(name.to_ascii_lowercase()) {
            count += 1;
            name = format!("{base}~{count}");
        }
        name
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
        Looked { regions, preserved: self.preserved, not_looked_at: self.not_looked_at }
    }
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
