//! Plans everything outside the partitions: tables, gaps, and zeros.

use super::error::PlanError;
use super::state::Planner;
use crate::layout::TableKind;
use crate::run::rebuild::kept::Kept;
use crate::run::rebuild::plan::Step;
use crate::run::rebuild::table::resized;
use crate::units::{ByteRange, Extent};

impl Planner<'_> {
    /// Plans bytes outside the partitions. The first sector comes last: before that, the disk has no table.
    pub(super) fn tables(&mut self, sector: u64) -> Result<(), PlanError> {
        let table = &self.manifest.layout.table;
        let is_table = |bytes: &Kept| {
            bytes.what == "boot sector" || bytes.what.starts_with("GPT ") || bytes.what == "extended boot record"
        };
        if table.kind == TableKind::None {
            return Ok(());
        }
        if self.covered_by_image() {
            // Its first sector is part of the image.
            return Ok(());
        }
        let kept = std::mem::take(&mut self.kept);
        let (mut tables, others): (Vec<Kept>, Vec<Kept>) = kept.into_iter().partition(is_table);
        if !tables.iter().any(|bytes| bytes.what == "boot sector" && bytes.start == 0) {
            return Err(PlanError::NoFirstSector);
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
        // Stable, so the order of the others is kept.
        tables.sort_by_key(|bytes| bytes.start == 0);
        for bytes in tables {
            self.write(&bytes.what, bytes.start, bytes.bytes);
        }
        Ok(())
    }

    /// Plans zeros for all ranges that no other step writes, before all other steps.
    pub(super) fn zeros(&mut self) {
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
}
