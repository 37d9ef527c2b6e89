//! A plan as text.

use super::plan::{DiskPlan, MakeStep, Step};
use crate::shown;
use crate::shown::counted;
use crate::units::ByteLen;
use crate::units::Extent;

/// The plan, one line per step, with remarks.
pub fn plan_as_text(plan: &DiskPlan, target: &str, on_target: &[String]) -> String {
    let mut text =
        format!("{target}: {} from a source of {}\n", ByteLen(plan.target_bytes), ByteLen(plan.source_bytes));
    for lost in on_target {
        text.push_str(&format!("  lost:   {lost}\n"));
    }
    for step in &plan.steps {
        text.push_str(&format!("  {}\n", step_as_text(step)));
        if let Step::Make(made) = step {
            for what in &made.differs {
                text.push_str(&format!("  other:  {}: {what}\n", shown(&made.region)));
            }
        }
    }
    for remark in &plan.remarks {
        text.push_str(&format!("  note:   {remark}\n"));
    }
    text
}

/// One step, on one line.
pub(super) fn step_as_text(step: &Step) -> String {
    match step {
        Step::Zero { ranges } => {
            let sum = ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.length));
            format!(
                "zero:   {} in {}, where nothing else is put",
                ByteLen(sum),
                counted(ranges.len() as u64, "run", "runs")
            )
        }
        Step::RawImage { region, archive_path, extents } => {
            format!("image:  {} byte for byte from {}{}", shown(region), shown(archive_path), place(extents))
        }
        Step::Make(made) => {
            let MakeStep { region, fs, uuid, label, size_bytes, extents, files, boot_block, fat, subvolumes, .. } =
                &**made;
            let named = |name: &str, value: &Option<String>| {
                value.as_ref().map_or_else(String::new, |value| format!(", {name} {}", shown(value)))
            };
            format!(
                "make:   {} {fs}, {}{}{}{}{}{}{}",
                shown(region),
                ByteLen(*size_bytes),
                named("UUID", uuid),
                named("label", label),
                place(extents),
                match (boot_block, fat) {
                    (_, Some(_)) => ", with its reserved sectors",
                    (Some(_), None) => ", with its boot block",
                    (None, None) => "",
                },
                match subvolumes.len() {
                    0 => String::new(),
                    1 => ", its subvolume".to_owned(),
                    many => format!(", its {many} subvolumes"),
                },
                if files.is_some() { ", then its files" } else { "" },
            )
        }
        Step::Write { what, start_bytes, size_bytes, .. } => {
            format!("write:  {}, {} at byte {start_bytes}", shown(what), ByteLen(*size_bytes))
        }
    }
}

fn place(extents: &[Extent]) -> String {
    match extents {
        [one] => format!(" at byte {}", one.source_offset),
        pieces => format!(" in {} pieces", pieces.len()),
    }
}

fn shown(name: &str) -> String {
    shown::path(name.as_bytes())
}
