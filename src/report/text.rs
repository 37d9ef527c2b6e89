//! The report as text, in the documented format. Scripts parse it, so the format is a contract.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::NaiveDate;

use super::facts::{Abort, Dump, GoneReport, Outcome, RunReport, RunVerdict, VolumeReport, matters};
use super::size::{df_percent, du_size, shown_duration};
use super::style::{MAX_PROBLEMS_SHOWN, Style};
use super::verification::CheckLevel;
use crate::events::{Problem, Severity};
use crate::shown::{self, counted};

const MOUNTED: &str = "The backup volume is mounted. Proceed...";
const NOT_MOUNTED: &str = "The backup volume is not mounted. The backup has been aborted...";
/// Maximum number of volumes in a list.
const MAX_VOLUMES_LISTED: usize = 20;
/// The line above the totals.
pub(crate) const RULE: &str = "---------------------------------------";

pub(super) fn text(report: &RunReport, style: Style) -> String {
    let size = |bytes| du_size(bytes, style.decimal_separator);
    let mut blocks: Vec<String> = Vec::new();
    for volume in &report.volumes {
        // An aborted run is reported once, not again for each volume that it did not reach.
        if report.aborted.is_some() && matches!(volume.outcome, Outcome::NotStarted(_)) {
            continue;
        }
        blocks.push(volume_block(volume, &size));
    }
    blocks.extend(report.gone.iter().map(|gone| gone_block(gone, &size)));
    match &report.aborted {
        None => {}
        Some(Abort::NotMounted) => blocks.push(format!("{NOT_MOUNTED}\n")),
        Some(Abort::Other(why)) => blocks.push(format!("The backup has been aborted... {}\n", shown::text(why))),
    }
    let problems: Vec<&Problem> = report.problems.iter().filter(|problem| matters(problem)).collect();
    if !problems.is_empty() {
        blocks.push(format!("Problems of the whole run...\n{}", problem_lines(&problems, None)));
    }
    blocks.extend(to_look_at(report));

    let started = report.started.format("%d/%m at %H:%M:%S");
    let mut text = format!("Backup Start Time - {started}\nCurrent retention - {} days\n\n", report.retention_days);
    text.push_str(&blocks.join("\n"));
    let (total, used) = match report.usage {
        Some(usage) => (size(usage.backups_bytes), format!("{}%", df_percent(usage.used_bytes, usage.available_bytes))),
        None => ("unknown".to_owned(), "unknown".to_owned()),
    };
    let took = shown_duration(report.duration_seconds);
    // Writing to a String cannot fail.
    let _ = write!(text, "{RULE}\nTotal backups size - {total} - Used space : {used}\nTotal execution time - {took}\n");
    // After the documented part: scripts that parse it find it as it was.
    if let Some(copy) = &report.copy {
        let (to, bytes) = (shown::text(&copy.to), size(copy.copied_bytes));
        let _ = write!(text, "\nCopies in {to} - {} - {bytes}", counted(copy.copied, "backup", "backups"));
        if copy.failed > 0 {
            let _ = write!(text, " - {} failed", copy.failed);
        }
        text.push('\n');
    }
    if let Some(encrypted) = report.encrypted() {
        let _ = write!(text, "\nEncrypted - {encrypted}\n");
    }
    for (heading, lines) in lists(report) {
        if !lines.is_empty() {
            let _ = write!(text, "\n{heading}...\n");
            for line in lines {
                let _ = writeln!(text, "  - {line}");
            }
        }
    }
    text
}

/// The lists at the end, with their headings.
fn lists(report: &RunReport) -> [(&'static str, Vec<String>); 6] {
    let twice = |(volume, why)| format!("{}: at first it failed, {}", shown::text(volume), shown::text(why));
    let named = |volume: &VolumeReport| {
        Some(format!("{}: {}", shown::text(&volume.name), shown::text(volume.cloud.as_deref()?)))
    };
    [
        ("What needs you", report.needs.clone()),
        ("Changed since the last run", report.changes.clone()),
        ("Tried twice", report.tried_twice().map(twice).collect()),
        ("Last proven", last_proven(&report.volumes)),
        ("Names in the cloud", report.volumes.iter().filter_map(named).collect()),
        ("Decided by the cloud", report.cloud.iter().map(|line| shown::text(line)).collect()),
    ]
}

/// When volumes were last restored for a test, or booted: a line for each day, the newest first. Empty if none ever was.
fn last_proven(volumes: &[VolumeReport]) -> Vec<String> {
    let mut days: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let mut never = 0;
    for volume in volumes {
        match volume.last_proof {
            Some(proof) => days.entry((proof.day(), proof.level)).or_default().push(shown::text(&volume.name)),
            None => never += 1,
        }
    }
    let line = |((day, level), volumes): ((NaiveDate, CheckLevel), Vec<String>)| {
        let named = volumes.iter().take(MAX_VOLUMES_LISTED).cloned().collect::<Vec<_>>().join(", ");
        let more = match volumes.len().checked_sub(MAX_VOLUMES_LISTED) {
            Some(more @ 1..) => format!(" and {more} more"),
            _ => String::new(),
        };
        format!("{level} on {}: {named}{more}", day.format("%d/%m/%Y"))
    };
    let mut lines: Vec<String> = days.into_iter().rev().map(line).collect();
    if never > 0 && !lines.is_empty() {
        lines.push(format!("never: {}", counted(never, "volume", "volumes")));
    }
    lines
}

/// The volumes with failures and warnings, one line each, the worst first. In a long mail the list is near the totals at the
/// end. Documented lines never begin with two spaces and a dash, so scripts that parse them skip these lines. The problems
/// of the run itself precede the list.
fn to_look_at(report: &RunReport) -> Option<String> {
    let mut volumes: Vec<&VolumeReport> = report
        .volumes
        .iter()
        .filter(|volume| !(report.aborted.is_some() && matches!(volume.outcome, Outcome::NotStarted(_))))
        .filter(|volume| volume.verdict() != RunVerdict::Good)
        .collect();
    if volumes.is_empty() {
        return None;
    }
    volumes.sort_by_key(|volume| std::cmp::Reverse(volume.severity()));
    let mut lines = format!("Volumes to look at: {} of {}...\n", volumes.len(), report.volumes.len());
    for volume in volumes.iter().take(MAX_VOLUMES_LISTED) {
        let _ = writeln!(lines, "  - {}: {}", shown::text(&volume.name), shown::text(&why(volume)));
    }
    if let Some(more @ 1..) = volumes.len().checked_sub(MAX_VOLUMES_LISTED) {
        let _ = writeln!(lines, "  - and {more} more");
    }
    Some(lines)
}

/// A short description of the problems of a volume.
fn why(volume: &VolumeReport) -> String {
    match &volume.outcome {
        Outcome::Failed(why) => return format!("failed, {why}"),
        Outcome::NotStarted(why) => return format!("not started, {why}"),
        Outcome::BackedUp => {}
    }
    let mut parts = Vec::new();
    if volume.whole == Some(false) {
        parts.push("partial".to_owned());
    }
    if let Dump::Failed(why) = &volume.dump {
        parts.push(format!("its dump failed, {why}"));
    }
    for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
        match volume.count(severity) {
            0 => {}
            1 => parts.push(format!("1 {word}")),
            more => parts.push(format!("{more} {word}s")),
        }
    }
    let first = volume.shown_problems().first().map_or_else(String::new, |problem| format!(": {problem}"));
    format!("{}{first}", parts.join(", "))
}

fn volume_block(volume: &VolumeReport, size: &dyn Fn(u64) -> String) -> String {
    let directory = shown::text(&volume.directory);
    let took = shown_duration(volume.duration_seconds);
    let mut block = String::new();
    if let Outcome::NotStarted(why) = &volume.outcome {
        return format!("     {directory} - FAILED after {took}. not started: {}\n", shown::text(why));
    }
    let _ = writeln!(block, "{MOUNTED}");
    match &volume.dump {
        Dump::NotConfigured | Dump::Done => {}
        Dump::Disabled => block.push_str("The mysqldumps are disabled...\n"),
        Dump::Failed(why) => {
            let _ = writeln!(block, "The mysqldump failed... {}", shown::text(why));
        }
    }
    block.push_str(&removed_lines(&volume.removed));
    let _ = match &volume.outcome {
        Outcome::Failed(why) => writeln!(block, "     {directory} - FAILED after {took}. {}", shown::text(why)),
        _ => writeln!(block, "     {directory} - {took}. Size - {}", size(volume.directory_bytes)),
    };
    block.push_str(&problem_lines(&volume.shown_problems(), volume.manifest.as_deref()));
    block
}

fn gone_block(gone: &GoneReport, size: &dyn Fn(u64) -> String) -> String {
    let until = match gone.kept_until {
        Some(date) => format!("its backups are kept until {}", date.format("%d/%m/%Y")),
        None => "its remaining backups are kept".to_owned(),
    };
    let backups = counted(gone.backups, "backup", "backups");
    format!(
        "The volume {} is gone, {until}...\n{}     {} - {backups}. Size - {}\n",
        shown::text(&gone.name),
        removed_lines(&gone.removed),
        shown::text(&gone.directory),
        size(gone.directory_bytes)
    )
}

fn removed_lines(removed: &[String]) -> String {
    if removed.is_empty() {
        return "Not any old backups to remove...\n".to_owned();
    }
    let paths: Vec<String> = removed.iter().map(|path| shown::text(path)).collect();
    format!("Removing old backups...  : {}\n", paths.join("\n     "))
}

fn problem_lines(problems: &[&Problem], manifest: Option<&str>) -> String {
    let mut lines = String::new();
    for problem in problems.iter().take(MAX_PROBLEMS_SHOWN) {
        let _ = writeln!(lines, "       {}", shown::text(&problem.to_string()));
    }
    if let Some(more @ 1..) = problems.len().checked_sub(MAX_PROBLEMS_SHOWN) {
        let see = manifest.map_or_else(String::new, |manifest| format!(" (see {})", shown::text(manifest)));
        let _ = writeln!(lines, "       and {more} more{see}");
    }
    lines
}
