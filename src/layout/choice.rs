//! Decides which partition table of a source is used, and with which sector size. `docs/layout-choices.md` gives
//! the reasons.

use std::rc::Rc;

use crate::events::{Problem, Severity};
use crate::layout::RegionBlocks;
use crate::layout::gpt::{self, Gpt};
use crate::layout::lvm2::Texts;
use crate::layout::mbr::{self, BOOT_RECORD_BYTES, BootRecord, Mbr, PartitionRecord};
use crate::layout::probe::{Signature, probe_all};
use crate::layout::problems::Problems;
use crate::layout::window::Window;
use crate::outside::BlockRead;
use crate::units::Extent;
use crate::units::Lba;

/// The table from which regions are made.
pub(super) enum ChosenTable {
    Gpt(Box<Gpt>, u32),
    Mbr(Mbr, u32),
    Whole,
}

/// Decides which table is used.
pub(super) struct Choice<'a> {
    pub(super) blocks: &'a dyn BlockRead,
    /// The preferred one first.
    pub(super) sector_sizes: [u32; 2],
    /// All signatures found on the whole source.
    pub(super) whole: &'a [Signature],
    pub(super) texts: &'a Rc<Texts>,
    pub(super) problems: &'a mut Problems,
}

impl Choice<'_> {
    /// The table to use; `first_sector` may be shorter than a boot record.
    pub(super) fn table(&mut self, first_sector: &[u8]) -> ChosenTable {
        let record = BootRecord::decode(first_sector);
        let valid = record.as_ref().filter(|record| record.has_valid_boot_indicators());
        let protective = valid.and_then(|record| record.records.iter().find(|record| record.is_gpt_protective()));
        let in_use = valid.is_some_and(|record| record.records.iter().any(PartitionRecord::is_used));
        if let Some((gpt, sector_size)) = self.gpt(protective) {
            let holds_whole = self.whole.iter().any(|found| found.doubts.is_empty());
            if protective.is_some() {
                self.compare_hybrid(record.as_ref(), &gpt);
                return ChosenTable::Gpt(Box::new(gpt), sector_size);
            }
            if gpt.is_sound && !in_use && !holds_whole && self.sector_zero_is_free() {
                self.warn("gpt", "the protective MBR is missing; the GPT is used nevertheless");
                return ChosenTable::Gpt(Box::new(gpt), sector_size);
            }
            if gpt.is_sound {
                self.warn(
                    "gpt",
                    "a GPT without its protective MBR is left over; \
                     like the kernel, volbak does not use it",
                );
            }
        }
        let Some(record) = record else { return ChosenTable::Whole };
        if !in_use {
            return self.without_partitions(&record, valid.is_some());
        }
        if protective.is_some() {
            let what = "the MBR says that there is a GPT, and neither copy of it can be used";
            let hybrid = record.records.iter().any(|record| record.is_used() && !record.is_gpt_protective());
            let then = if hybrid { "the MBR's other partitions are used" } else { "all is kept as one raw image" };
            self.problems.push(Problem::new(Severity::Error, "gpt", format!("{what}; {then}")));
            if !hybrid {
                return ChosenTable::Whole;
            }
        }
        if !self.sector_zero_is_free() && !self.is_plausible(&record) {
            return ChosenTable::Whole;
        }
        let sector_size = self.mbr_sector_size(&record);
        ChosenTable::Mbr(mbr::read_table(self.blocks, &record, sector_size), sector_size)
    }

    /// A hybrid MBR repeats some partitions of the GPT. A partition that is not in the GPT is a problem.
    fn compare_hybrid(&mut self, record: Option<&BootRecord>, gpt: &Gpt) {
        let records = record.iter().flat_map(|record| &record.records);
        for record in records.filter(|record| record.is_used() && !record.is_gpt_protective()) {
            let last = record.starting_lba.0 + (record.size_in_lba - 1);
            let is_same = |entry: &gpt::Entry| entry.starting_lba == record.starting_lba && entry.ending_lba.0 == last;
            if !gpt.entries.iter().any(is_same) {
                let start = record.starting_lba;
                self.warn("mbr", &format!("its partition at {start} is not in the GPT, which is used"));
            }
        }
    }

    fn warn(&mut self, place: &str, what: &str) {
        self.problems.push(Problem::new(Severity::Warning, place, what));
    }

    /// A sound GPT of either sector size, otherwise a damaged one.
    fn gpt(&self, protective: Option<&PartitionRecord>) -> Option<(Gpt, u32)> {
        let end = protective
            .filter(|record| record.size_in_lba < u64::from(u32::MAX))
            .map(|record| Lba(record.starting_lba.0 + record.size_in_lba - 1));
        let mut found: Vec<(Gpt, u32)> = self
            .sector_sizes
            .iter()
            .filter_map(|sector_size| Some((gpt::read_table(self.blocks, *sector_size, end)?, *sector_size)))
            .collect();
        let best = found.iter().position(|(gpt, _)| gpt.is_sound).unwrap_or(0);
        (!found.is_empty()).then(|| found.swap_remove(best))
    }

    /// Whether no signature claims the first sector, where a table would be.
    fn sector_zero_is_free(&self) -> bool {
        !self.whole.iter().any(|found| found.magic_at < 512)
    }

    /// A boot record without partitions: an empty table, or the boot sector of a filesystem on the whole source.
    fn without_partitions(&mut self, record: &BootRecord, is_table: bool) -> ChosenTable {
        if !self.whole.is_empty() {
            return ChosenTable::Whole;
        }
        if is_table {
            return ChosenTable::Mbr(mbr::read_table(self.blocks, record, self.sector_sizes[0]), self.sector_sizes[0]);
        }
        self.warn("disk", "the first sector ends like a boot record and holds no valid table");
        ChosenTable::Whole
    }

    /// Whether the partitions are plausible: a filesystem's boot code read as a table gives arbitrary values.
    fn is_plausible(&self, record: &BootRecord) -> bool {
        let len = self.blocks.len_bytes();
        let mut used = record.records.iter().filter(|record| record.is_used());
        self.sector_sizes.iter().any(|sector_size| {
            used.clone().all(|record| record.starting_lba.to_bytes(*sector_size).is_some_and(|start| start < len))
        }) && used.all(|record| record.starting_lba.0 > 0 && record.os_type != 0)
    }

    /// An MBR does not state its sector size. The preferred size is used unless only the other one puts known
    /// content at the start of a partition.
    fn mbr_sector_size(&mut self, record: &BootRecord) -> u32 {
        let [preferred, other] = self.sector_sizes;
        if self.hits(record, preferred) == 0 && self.hits(record, other) > 0 {
            let what = format!(
                "the table counts in sectors of {other} bytes: \
                 only with these do its partitions have known content"
            );
            self.problems.push(Problem::new(Severity::Notice, "mbr", what));
            return other;
        }
        preferred
    }

    /// How many partitions start with known content at this sector size.
    fn hits(&self, record: &BootRecord, sector_size: u32) -> usize {
        let len = self.blocks.len_bytes();
        let starts_with_something = |record: &&PartitionRecord| {
            let Some(start) = record.starting_lba.to_bytes(sector_size).filter(|start| *start < len) else {
                return false;
            };
            let wanted = record.size_in_lba.saturating_mul(u64::from(sector_size));
            let extent = Extent { source_offset: start, length: wanted.min(len - start) };
            let extents = [extent];
            let region = RegionBlocks::new(self.blocks, &extents);
            let window = Window::within(&region, Some(&extents), self.texts);
            if record.is_extended() {
                return window.read(0, BOOT_RECORD_BYTES).is_some_and(|sector| BootRecord::decode(&sector).is_some());
            }
            probe_all(&window).iter().any(|found| found.doubts.is_empty())
        };
        record.records.iter().filter(|record| record.is_used()).filter(starts_with_something).count()
    }
}
