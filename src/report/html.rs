//! The HTML part: the facts of the text and more, in tables with inline styles, since mail programs drop style sheets and
//! remote content.

use super::chart::bars;
use super::escape::html as escaped;
use super::facts::{Abort, Dump, GoneReport, Outcome, RunReport, RunVerdict, VolumeReport, matters};
use super::size::{df_percent, du_size, shown_duration};
use super::style::{MAX_PROBLEMS_SHOWN, Style};
use crate::events::{Problem, Severity};
use crate::shown::counted;

/// Gmail cuts a mail's HTML after 102 KB. Above this size, charts are drawn only for volumes with problems.
const MAX_BYTES_WITH_CHARTS: usize = 90_000;

/// Number of backups in a chart, including the new one.
const CHART_BACKUPS: usize = 30;

const CELL: &str = "padding:6px 10px;border-top:1px solid #d5dbe1;vertical-align:top";
const BLACK: &str = "#1b1f24";
const GREY: &str = "#5c6873";
const GREEN: &str = "#1e7b34";
const AMBER: &str = "#b26a00";
const RED: &str = "#b3261e";

pub(super) fn html(report: &RunReport, style: Style) -> String {
    let page = page(report, style, &|_| true);
    if page.len() <= MAX_BYTES_WITH_CHARTS {
        return page;
    }
    self::page(report, style, &|volume| volume.verdict() == RunVerdict::Problems)
}

fn page(report: &RunReport, style: Style, with_charts: &dyn Fn(&VolumeReport) -> bool) -> String {
    let size = |bytes| with_unit(&du_size(bytes, style.decimal_separator));
    let subject = escaped(&report.subject());
    let (colour, word) = match report.verdict() {
        RunVerdict::Good => (GREEN, "All volumes are backed up"),
        RunVerdict::Problems => (AMBER, "Backed up, with problems"),
        RunVerdict::Failed => (RED, "Failed"),
    };
    let mut rows = String::new();
    // Volumes with problems come first; otherwise the order of the backups is kept.
    let mut volumes: Vec<&VolumeReport> = report.volumes.iter().collect();
    volumes.sort_by_key(|volume| std::cmp::Reverse(volume.severity()));
    for volume in volumes {
        rows.push_str(&volume_rows(volume, &size, with_charts(volume)));
    }
    let volumes = if rows.is_empty() { String::new() } else { volumes_table(&rows) };
    let gone: String = report.gone.iter().map(|gone| gone_item(gone, &size)).collect();
    let gone = section("Deleted volumes", &gone);
    let problems: Vec<&Problem> = report.problems.iter().filter(|problem| matters(problem)).collect();
    let problems = section("Problems of the whole run", &problem_items(&problems, None));
    let cloud = section("Decided by the cloud", &items(&report.cloud));
    let needs = section("What needs you", &items(&report.needs));
    let changes = section("Changed since the last run", &items(&report.changes));
    let twice: Vec<String> = report.tried_twice().map(|(volume, why)| format!("{volume}: {why}")).collect();
    let twice = section("Tried twice", &items(&twice));
    let aborted = match &report.aborted {
        None => String::new(),
        Some(Abort::NotMounted) => banner("The backup volume is not mounted. The backup has been aborted."),
        Some(Abort::Other(why)) => banner(&format!("The backup has been aborted: {}", escaped(why))),
    };
    let usage = match report.usage {
        Some(usage) => format!(
            "{} ({}% of the file system used{})",
            size(usage.backups_bytes),
            df_percent(usage.used_bytes, usage.available_bytes),
            usage.full_in_days.map_or_else(String::new, |days| format!(
                "; at this rate it is full in {}",
                counted(days, "day", "days")
            ))
        ),
        None => "unknown".to_owned(),
    };
    let copy = report.copy.as_ref().map(|copy| {
        let failed = if copy.failed > 0 { format!(", <b>{} failed</b>", copy.failed) } else { String::new() };
        let value = format!(
            "{}, {}, to {}{failed}",
            counted(copy.copied, "backup", "backups"),
            size(copy.copied_bytes),
            escaped(&copy.to)
        );
        fact("Copies", &value)
    });
    let encrypted = report.encrypted().map(|encrypted| fact("Encrypted", &escaped(&encrypted)));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{subject}</title></head>\n\
         <body style=\"margin:0;padding:16px;background:#ffffff;color:{BLACK};\
         font-family:'Segoe UI',Helvetica,Arial,sans-serif;font-size:14px\">\n\
         <div style=\"border-left:6px solid {colour};padding:4px 12px;margin-bottom:14px\">\
         <div style=\"font-size:20px;color:{colour}\"><b>{word}</b></div>\
         <div>{subject}</div></div>\n{aborted}\
         <table cellpadding=\"0\" cellspacing=\"0\" style=\"font-size:14px;margin-bottom:14px\">\
         {}{}{}{}{}{}{}{}</table>\n{needs}{volumes}{problems}{changes}{twice}{gone}{cloud}</body></html>\n",
        fact("Host", &escaped(&report.host)),
        fact("Started", &report.started.format("%Y-%m-%d %H:%M:%S %:z").to_string()),
        fact("Took", &shown_duration(report.duration_seconds)),
        fact("Destination", &escaped(&report.destination)),
        fact("All backups", &usage),
        fact("Retention", &counted(report.retention_days.into(), "day", "days")),
        copy.unwrap_or_default(),
        encrypted.unwrap_or_default(),
    )
}

fn items(lines: &[String]) -> String {
    let items: Vec<String> = lines.iter().map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
    items.concat()
}

/// A size with its unit in full: `3,5G` becomes `3,5 GiB`, `512` becomes `512 B`.
fn with_unit(size: &str) -> String {
    match size.strip_suffix(|c: char| c.is_ascii_uppercase()) {
        Some(number) => format!("{number} {}iB", &size[number.len()..]),
        None => format!("{size} B"),
    }
}

fn fact(name: &str, value: &str) -> String {
    format!("<tr><td style=\"color:{GREY};padding:1px 16px 1px 0\">{name}</td><td>{value}</td></tr>")
}

fn banner(text: &str) -> String {
    format!(
        "<div style=\"background:#fbe9e7;border:1px solid {RED};padding:8px 12px;margin-bottom:14px\"><b>{text}</b>\
         </div>\n"
    )
}

fn section(title: &str, items: &str) -> String {
    if items.is_empty() {
        return String::new();
    }
    format!("<div style=\"margin:14px 0 4px 0\"><b>{title}</b></div><ul style=\"margin:0\">{items}</ul>\n")
}

fn volumes_table(rows: &str) -> String {
    let head = ["Volume", "Result", "Snapshot", "Archive, last 30", "Took, last 30"]
        .map(|title| format!("<th style=\"padding:6px 10px;text-align:left\">{title}</th>"))
        .concat();
    format!(
        "<table cellpadding=\"0\" cellspacing=\"0\" style=\"border-collapse:collapse;font-size:14px\">\
         <tr style=\"background:#eef2f6\">{head}</tr>\n{rows}</table>\n"
    )
}

fn volume_rows(volume: &VolumeReport, size: &dyn Fn(u64) -> String, with_charts: bool) -> String {
    let (colour, result) = match (&volume.outcome, volume.verdict()) {
        (Outcome::Failed(_), _) => (RED, "failed"),
        (Outcome::NotStarted(_), _) => (RED, "not started"),
        (Outcome::BackedUp, RunVerdict::Good) => (GREEN, "backed up"),
        (Outcome::BackedUp, _) => match volume.whole {
            Some(false) => (RED, "partial: not all of it is backed up"),
            Some(true) => (AMBER, "backed up whole, problems"),
            None => (AMBER, "backed up, problems"),
        },
    };
    let took = volume.duration_seconds;
    let archive = volume.archive_bytes.map_or_else(|| "-".to_owned(), size);
    let charts = if with_charts { charts(volume) } else { [String::new(), String::new()] };
    let cell = |content: &str| format!("<td style=\"{CELL}\">{content}</td>");
    let mut rows = format!(
        "<tr>{}{}{}{}{}</tr>\n",
        cell(&format!(
            "<b>{}</b><div style=\"color:{GREY};font-size:12px\">{}, {} in all{}</div>",
            match &volume.cloud {
                Some(cloud) => format!("{} [{}]", escaped(&volume.name), escaped(cloud)),
                None => escaped(&volume.name),
            },
            escaped(&volume.directory),
            size(volume.directory_bytes),
            volume.last_verified.map_or_else(String::new, |date| format!(", verified {}", date.format("%d/%m/%Y")))
                + &proof(volume)
        )),
        cell(&format!("<b style=\"color:{colour}\">{result}</b>")),
        cell(&volume.snapshot_peak_percent.map_or_else(|| "-".to_owned(), |peak| format!("{peak:.0}% full"))),
        cell(&format!("{archive}{}{}", change(volume), charts[0])),
        cell(&format!("{} h {} m {} s{}", took / 3600, took / 60 % 60, took % 60, charts[1])),
    );
    let details = details(volume);
    if !details.is_empty() {
        rows += "<tr><td colspan=\"5\" style=\"padding:0 10px 8px 10px;font-size:13px;overflow-wrap:anywhere\"><ul style=\"margin:0\">";
        rows += &details;
        rows += "</ul></td></tr>\n";
    }
    rows
}

/// The charts of size and duration of the last backups, the new one last.
fn charts(volume: &VolumeReport) -> [String; 2] {
    let from = (volume.history.len() + 1).saturating_sub(CHART_BACKUPS);
    let past = volume.history.get(from..).unwrap_or_default();
    let new = volume.archive_bytes.filter(|_| volume.outcome == Outcome::BackedUp);
    let sizes: Vec<u64> = past.iter().map(|past| past.archive_bytes).chain(new).collect();
    let times: Vec<u64> =
        past.iter().map(|past| past.duration_seconds).chain(new.map(|_| volume.duration_seconds)).collect();
    [sizes, times].map(|values| if values.len() < 2 { String::new() } else { bars(&values, new.is_some()) })
}

/// The change since the last backup, in percent with one decimal; empty without a last backup.
fn change(volume: &VolumeReport) -> String {
    let (Some(new), Some(last)) = (volume.archive_bytes, volume.history.last()) else { return String::new() };
    if last.archive_bytes == 0 {
        return String::new();
    }
    let (new, old) = (i128::from(new), i128::from(last.archive_bytes));
    let permille = (new - old) * 1000 / old;
    let sign = match permille {
        1.. => "+",
        0 => "",
        ..0 => "-",
    };
    format!(" <span style=\"color:{GREY}\">{sign}{}.{}%</span>", permille.abs() / 10, permille.abs() % 10)
}

fn item(colour: &str, text: &str) -> String {
    format!("<li style=\"color:{colour}\">{text}</li>")
}

/// The last restore test or boot.
fn proof(volume: &VolumeReport) -> String {
    volume.last_proof.map_or_else(String::new, |proof| format!(", {} {}", proof.level, proof.day().format("%d/%m/%Y")))
}

fn details(volume: &VolumeReport) -> String {
    let mut items = Vec::new();
    match &volume.outcome {
        Outcome::BackedUp => {}
        Outcome::Failed(why) | Outcome::NotStarted(why) => items.push(item(RED, &escaped(why))),
    }
    match &volume.dump {
        Dump::NotConfigured => {}
        Dump::Done => items.push(item(BLACK, "The database dump was made.")),
        Dump::Disabled => items.push(item(GREY, "The mysqldumps are disabled.")),
        Dump::Failed(why) => items.push(item(RED, &format!("The mysqldump failed: {}", escaped(why)))),
    }
    items.extend(volume.removed.iter().map(|path| item(GREY, &format!("Removed: {}", escaped(path)))));
    let shown = volume.shown_problems();
    items.push(problem_items(&shown, volume.manifest.as_deref()));
    match volume.problems.len() - shown.len() {
        0 => {}
        1 => items.push(item(GREY, "1 notice in the manifest")),
        notices => items.push(item(GREY, &format!("{} in the manifest", counted(notices as u64, "notice", "notices")))),
    }
    items.concat()
}

fn problem_items(problems: &[&Problem], manifest: Option<&str>) -> String {
    let mut items: Vec<String> = Vec::new();
    for problem in problems.iter().take(MAX_PROBLEMS_SHOWN) {
        let colour = if problem.severity == Severity::Error { RED } else { AMBER };
        items.push(item(colour, &escaped(&problem.to_string())));
    }
    if let Some(more @ 1..) = problems.len().checked_sub(MAX_PROBLEMS_SHOWN) {
        let see = manifest.map_or_else(String::new, |manifest| format!(" (see {})", escaped(manifest)));
        items.push(item(BLACK, &format!("and {more} more{see}")));
    }
    items.concat()
}

fn gone_item(gone: &GoneReport, size: &dyn Fn(u64) -> String) -> String {
    let until = gone.kept_until.map_or_else(
        || "its remaining backups are kept".to_owned(),
        |date| format!("its backups are kept until {}", date.format("%d/%m/%Y")),
    );
    let mut lines = vec![format!(
        "<b>{}</b>: {until} ({}: {}, {})",
        escaped(&gone.name),
        escaped(&gone.directory),
        counted(gone.backups, "backup", "backups"),
        size(gone.directory_bytes)
    )];
    lines.extend(gone.removed.iter().map(|path| format!("Removed: {}", escaped(path))));
    item(BLACK, &lines.join("<br>"))
}
