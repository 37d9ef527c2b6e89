//! A second opinion on a restored partition table: independent libraries read it from the target, and the result is
//! compared with the plan. This finds a mistake that volbak's writer and reader share.
//!
//! Each crate gets only tables that it is known to read correctly, and never more bytes than the plan has
//! (`docs/decisions/0043`). Parts not given to it are listed in the result.

mod asked;
mod by_gpt;
mod by_mbrman;
mod opinion;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeSet;

use self::asked::{Asked, Piece};
use super::plan::{DiskPlan, Step};
use crate::layout::TableKind;
use crate::outside::BlockRead;
use crate::run::check::without_panic;

pub use self::opinion::TableOpinion;

/// The maximum number of disagreements to list. The table of another disk would give hundreds.
const LISTED_MAX: usize = 20;

/// Reads the table of `plan` back from `disk` and has it judged. Without a table there is nothing to judge.
pub(super) fn second_opinion(plan: &DiskPlan, sector_bytes: u32, disk: &dyn BlockRead) -> TableOpinion {
    let mut opinion = TableOpinion::default();
    if plan.expected.table.kind == TableKind::None {
        return opinion;
    }
    let pieces = read_again(plan, disk, &mut opinion);
    if !pieces.iter().any(|piece| piece.what == "boot sector") {
        opinion.not_asked.push("the table, which is part of an image of the whole disk".to_owned());
        return opinion;
    }
    let asked = Asked { pieces: &pieces, plan, sector: u64::from(sector_bytes) };
    let mut ask = |name: &str, ask: fn(&Asked<'_>, &mut TableOpinion)| {
        let mut of_it = TableOpinion::default();
        // Its input is bounded, and no known input makes it panic.
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

/// Reads each run of the table's bytes back. One that cannot be read, or differs, is a finding.
fn read_again<'a>(plan: &'a DiskPlan, disk: &dyn BlockRead, opinion: &mut TableOpinion) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    let mut seen = BTreeSet::new();
    for step in &plan.steps {
        let Step::Write { what, start_bytes, bytes, .. } = step else { continue };
        let is_table = what == "boot sector" || what == "extended boot record" || what.starts_with("GPT ");
        // The boot sector of a filesystem on the whole disk is no table; such a plan has no table.
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
