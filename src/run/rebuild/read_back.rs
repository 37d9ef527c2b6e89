//! A second opinion on a partition table that a restore wrote. The table is read from the target again, by libraries
//! that others wrote, and compared with the plan: a mistake that our own writer and our own reader share would show.
//!
//! Each crate sees only what it is known to read rightly, and never more bytes than the plan has (`docs/decisions/0043`).
//! What it was not asked is part of the result.

mod by_gpt;
mod by_mbrman;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeSet;

use serde::Serialize;

use super::plan::{Plan, Step};
use crate::layout::{Region, TableKind};
use crate::outside::BlockRead;
use crate::run::check::without_panic;

/// Disagreements that are listed. A table of another disk would give hundreds.
const LISTED_MAX: usize = 20;

/// What other implementations read from a table that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SecondOpinion {
    /// What each crate was asked about and agrees with unless `disagreements` says otherwise: `gpt: the primary copy`.
    pub asked: Vec<String>,
    /// What a crate was not asked about, and why.
    pub not_asked: Vec<String>,
    /// Where what was read is not what was planned.
    pub disagreements: Vec<String>,
}

impl SecondOpinion {
    fn disagrees(&mut self, what: String) {
        if !self.disagreements.contains(&what) {
            self.disagreements.push(what);
        }
    }

    /// Notes a difference between what the plan has and what a crate reads.
    fn compare(&mut self, place: &str, reader: &str, what: &str, planned: &str, found: &str) {
        if planned != found {
            self.disagrees(format!("{place}: the plan has {what} {planned}, and {reader} reads {found}"));
        }
    }

    /// The result on one line, and on another what was not asked.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.asked.is_empty() {
            let verdict = match self.disagreements.len() {
                0 => "as planned".to_owned(),
                1 => "1 disagreement".to_owned(),
                count => format!("{count} disagreements"),
            };
            lines.push(format!("table read back by {}: {verdict}", self.asked.join("; ")));
        }
        if !self.not_asked.is_empty() {
            lines.push(format!("not asked: {}", self.not_asked.join("; ")));
        }
        lines
    }
}

/// A run of the table's bytes, as planned and as it was read again.
struct Piece<'a> {
    what: &'a str,
    start: u64,
    planned: &'a [u8],
    found: Vec<u8>,
}

impl Piece<'_> {
    fn end(&self) -> u64 {
        // The planner checked each range against the target's length.
        self.start.saturating_add(self.planned.len() as u64)
    }
}

/// What both crates are asked with.
struct Asked<'a> {
    pieces: &'a [Piece<'a>],
    plan: &'a Plan,
    sector: u64,
}

impl<'a> Asked<'a> {
    fn piece(&self, what: &str) -> Option<&'a Piece<'a>> {
        self.pieces.iter().find(|piece| piece.what == what)
    }

    /// The plan's partition of that number.
    fn region(&self, number: u32) -> Option<&'a Region> {
        self.plan.expected.regions.iter().find(|region| region.lv.is_none() && region.number == number)
    }
}

/// A partition's place and flag as a crate reads them, compared with the plan's partition of that number.
struct Place {
    number: u32,
    start: u64,
    /// Exclusive.
    end: u64,
    bootable: bool,
    type_id: String,
}

impl Place {
    fn compare(&self, asked: &Asked<'_>, reader: &str, opinion: &mut SecondOpinion) {
        let Some(region) = asked.region(self.number) else { return };
        let place = format!("partition {}", self.number);
        let sector = asked.sector;
        let mut compare = |what: &str, planned: String, found: String| {
            opinion.compare(&place, reader, what, &planned, &found);
        };
        compare("the type", region.type_id.clone(), self.type_id.clone());
        compare("the boot flag", region.bootable.to_string(), self.bootable.to_string());
        compare("its first sector at", (region.start_bytes / sector).to_string(), self.start.to_string());
        // Of a partition that reaches past the disk's end the plan has only what is on the disk.
        let end = region.start_bytes.saturating_add(region.size_bytes);
        if self.end.saturating_mul(sector) <= asked.plan.target_bytes {
            compare("its end at sector", (end / sector).to_string(), self.end.to_string());
        }
    }
}

/// Reads the table of `plan` from `disk` again and has it judged. A source without a table has none to judge.
pub(super) fn second_opinion(plan: &Plan, sector_bytes: u32, disk: &dyn BlockRead) -> SecondOpinion {
    let mut opinion = SecondOpinion::default();
    if plan.expected.table.kind == TableKind::None {
        return opinion;
    }
    let pieces = read_again(plan, disk, &mut opinion);
    if !pieces.iter().any(|piece| piece.what == "boot sector") {
        opinion.not_asked.push("the table, which is part of an image of the whole disk".to_owned());
        return opinion;
    }
    let asked = Asked { pieces: &pieces, plan, sector: u64::from(sector_bytes) };
    let mut ask = |name: &str, ask: fn(&Asked<'_>, &mut SecondOpinion)| {
        let mut of_it = SecondOpinion::default();
        // What is given to it is bounded, and none of it is known to make it panic.
        if without_panic(|| ask(&asked, &mut of_it)).is_none() {
            of_it.not_asked.push(format!("{name}, which broke off: its code panicked"));
        }
        opinion.asked.append(&mut of_it.asked);
        opinion.not_asked.append(&mut of_it.not_asked);
        of_it.disagreements.into_iter().for_each(|what| opinion.disagrees(what));
    };
    if plan.expected.table.kind == TableKind::Gpt {
        ask("gpt", by_gpt::ask);
    }
    ask("mbrman", by_mbrman::ask);
    let more = opinion.disagreements.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        opinion.disagreements.truncate(LISTED_MAX);
        opinion.disagreements.push(format!("and {more} more"));
    }
    opinion
}

/// Reads each run of the table's bytes again. One that cannot be read, or is not what was written, is a finding by itself.
fn read_again<'a>(plan: &'a Plan, disk: &dyn BlockRead, opinion: &mut SecondOpinion) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    let mut seen = BTreeSet::new();
    for step in &plan.steps {
        let Step::Write { what, start_bytes, bytes, .. } = step else { continue };
        let is_table = what == "boot sector" || what == "extended boot record" || what.starts_with("GPT ");
        // A whole-disk filesystem's boot sector is no table; that kind of plan has no table at all.
        if !is_table || !seen.insert((what.as_str(), *start_bytes)) {
            continue;
        }
        let mut found = vec![0; bytes.len()];
        if let Err(error) = disk.read_at(*start_bytes, &mut found) {
            opinion.disagrees(format!("{what}: it cannot be read again at byte {start_bytes}: {error}"));
            continue;
        }
        let differs = found.iter().zip(bytes).position(|(found, planned)| found != planned);
        if let Some(at) = differs {
            let at = start_bytes.saturating_add(at as u64);
            opinion.disagrees(format!("{what}: what is read is not what was written, from byte {at} on"));
        }
        pieces.push(Piece { what, start: *start_bytes, planned: bytes, found });
    }
    pieces
}
