//! The regions found so far, in order of discovery, and the bounds on their number.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::events::{Problem, Severity};
use crate::layout::budget::Budget;
use crate::layout::lvm2::{Texts, compose};
use crate::layout::probe::Content;
use crate::layout::problems::{Problems, REGIONS_MAX};
use crate::layout::scan::Scanner;
use crate::layout::text::path_safe;
use crate::layout::{NestedLv, PreservedBytes, Region, RegionBlocks, gaps};
use crate::outside::BlockRead;
use crate::units::{ByteLen, ByteRange, Extent};

/// A region's name is one path component, and the archive adds a suffix.
pub(super) const NAME_BYTES_MAX: usize = 200;

/// A region and its state during detection.
pub(super) struct Draft {
    pub(super) region: Region,
    pub(super) parent: Option<usize>,
    pub(super) content: Option<Content>,
    pub(super) keep_raw: bool,
    /// It is a tail after another region's content, and is not opened.
    pub(super) is_tail: bool,
}

/// The result.
pub(in crate::layout) struct Looked {
    /// All regions, each followed by those inside it.
    pub(in crate::layout) regions: Vec<Region>,
    /// Bytes that a restore needs and no region's files contain.
    pub(in crate::layout) preserved: Vec<PreservedBytes>,
    /// The names of regions that are zero as far as they were read, and were not read to the end.
    pub(in crate::layout) not_looked_at: Vec<String>,
}

/// The inputs of this module.
pub(in crate::layout) struct Means<'a> {
    pub(in crate::layout) blocks: &'a dyn BlockRead,
    pub(in crate::layout) scanner: &'a mut Scanner,
    pub(in crate::layout) problems: &'a mut Problems,
    pub(in crate::layout) texts: &'a Rc<Texts>,
    pub(in crate::layout) budget: &'a mut Budget,
}

pub(super) struct Look<'a> {
    pub(super) blocks: &'a dyn BlockRead,
    pub(super) scanner: &'a mut Scanner,
    pub(super) problems: &'a mut Problems,
    pub(super) texts: &'a Rc<Texts>,
    pub(super) budget: &'a mut Budget,
    pub(super) drafts: Vec<Draft>,
    /// In lower case.
    pub(super) names: HashSet<String>,
    pub(super) preserved: Vec<PreservedBytes>,
    pub(super) not_looked_at: Vec<String>,
}

impl Look<'_> {
    pub(super) fn say(&mut self, severity: Severity, index: usize, what: impl Into<String>) {
        let name = self.drafts[index].region.name.clone();
        self.problems.push(Problem::new(severity, name, what));
    }

    /// Adds a region inside another. False, after reporting, if there are too many.
    pub(super) fn add_child(&mut self, parent: usize, name: &str, lv: Option<NestedLv>, extents: Vec<Extent>) -> bool {
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
            // Each extent is inside the source, and their number is bounded; a sum above 2^64 was rejected
            // before.
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

    /// A unique name, ignoring case: an archive may be unpacked on a case-insensitive filesystem.
    fn unique(&mut self, wanted: &str) -> String {
        let base = path_safe(wanted, NAME_BYTES_MAX);
        let mut name = base.clone();
        let mut count = 1;
        // Terminates, since there are at most REGIONS_MAX names.
        while !self.names.insert(name.to_ascii_lowercase()) {
            count += 1;
            name = format!("{base}~{count}");
        }
        name
    }

    /// Keeps a range of a region in the manifest, if the budget allows.
    pub(super) fn preserve(&mut self, index: usize, what: &str, range: ByteRange) {
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

    /// The regions, each followed by those inside it.
    pub(super) fn finish(self) -> Looked {
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
