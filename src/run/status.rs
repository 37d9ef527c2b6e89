//! How the backups stand, from what lies in the destination alone: no LVM, no lock, so that a monitoring system may ask
//! as often as it likes.

use std::fmt::Write;
use std::path::Path;

use chrono::{DateTime, Local, NaiveDate, Utc};
use serde::Serialize;

use super::prune::Shelf;
use super::reports;
use crate::archive::manifest::Manifest;
use crate::config::Config;
use crate::events::Severity;
use crate::report::{Outcome, RunReport, Verdict};
use crate::store::StoreError;
use crate::store::local::Destination;
use crate::store::presence::is_on_mount;
use crate::units::ByteLen;

/// How bad it is, with Nagios' and Icinga's exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// All is well.
    Ok,
    /// Somebody should look.
    Warning,
    /// A volume has no recent backup, or the last run failed.
    Critical,
}

impl Level {
    /// 0, 1 or 2. The 3 of a plugin that cannot tell is the caller's.
    pub fn status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }
}

/// From which age on a last backup is bad.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Hours.
    pub warning_hours: u32,
    /// Hours.
    pub critical_hours: u32,
}

/// How all of it stands.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The worst of it.
    pub level: Level,
    /// Why it is not better, the worst first.
    pub reasons: Vec<Reason>,
    /// The last run, when its report is kept.
    pub last_run: Option<LastRun>,
    /// Each volume that has a directory in the destination, or was in the last run.
    pub volumes: Vec<VolumeStatus>,
}

/// One reason.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// How bad it is.
    pub level: Level,
    /// What it is, one line.
    pub what: String,
}

/// The last run.
#[derive(Debug, Serialize)]
pub struct LastRun {
    /// When it began.
    pub started: DateTime<Utc>,
    /// How long it took.
    pub duration_seconds: u64,
    /// Its subject line: the outcome in words.
    pub outcome: String,
}

/// One volume.
#[derive(Debug, Serialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub level: Level,
    /// When its last complete backup was begun.
    pub last_backup: Option<DateTime<Utc>>,
    /// How old that is.
    pub age_seconds: Option<i64>,
    /// How large that archive is.
    pub archive_bytes: Option<u64>,
    /// How many complete backups there are.
    pub backups: usize,
    /// How many of them are protected.
    pub protected: usize,
    /// When one was last verified and found good.
    pub last_verified: Option<NaiveDate>,
    /// How many problems its last backup has, notices left out.
    pub problems: usize,
    /// Whether the volume was gone from the host in the last run.
    pub gone: bool,
}

/// Looks. Fails when the destination is not there.
pub fn status(config: &Config, limits: Limits, now: DateTime<Utc>) -> Result<Status, StoreError> {
    let root: &Path = &config.backup_destination;
    let destination = Destination::open(root)?;
    if config.require_mount && !is_on_mount(root)? {
        return Err(StoreError::Missing(root.to_owned()));
    }
    let shelves = Shelf::all(&destination)?;
    let last = reports::load(&destination, None).ok();
    Ok(judge(&shelves, last.as_ref(), limits, now))
}

fn judge(shelves: &[Shelf], last: Option<&RunReport>, limits: Limits, now: DateTime<Utc>) -> Status {
    let mut reasons = Vec::new();
    // A directory without anything like a backup (lost+found) is no volume's.
    let with_backups = shelves.iter().filter(|shelf| !shelf.entries.is_empty());
    let mut volumes: Vec<VolumeStatus> =
        with_backups.map(|shelf| of_shelf(shelf, last, limits, now, &mut reasons)).collect();
    match last {
        None => reasons
            .push(Reason { level: Level::Warning, what: "no report of a run is kept: nothing ran yet".to_owned() }),
        Some(report) => {
            let level = match report.verdict() {
                Verdict::Good => None,
                Verdict::Problems => Some(Level::Warning),
                Verdict::Failed => Some(Level::Critical),
            };
            reasons.extend(level.map(|level| Reason { level, what: format!("the last run: {}", report.subject()) }));
            let hours = age_hours(report.started.to_utc(), now);
            if let Some(level) = limits.judge(hours) {
                reasons.push(Reason { level, what: format!("the last run began {hours} h ago") });
            }
            for volume in &report.volumes {
                if !volumes.iter().any(|other| other.name == volume.name) {
                    reasons.push(Reason { level: Level::Critical, what: format!("{} has no backup", volume.name) });
                    volumes.push(without_backup(&volume.name));
                } else if let Outcome::Failed(why) = &volume.outcome {
                    let what = format!("{} failed in the last run: {why}", volume.name);
                    reasons.push(Reason { level: Level::Critical, what });
                }
            }
        }
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    Status {
        level: reasons.first().map_or(Level::Ok, |worst| worst.level),
        reasons,
        last_run: last.map(|report| LastRun {
            started: report.started.to_utc(),
            duration_seconds: report.duration_seconds,
            outcome: report.subject(),
        }),
        volumes,
    }
}

fn of_shelf(
    shelf: &Shelf,
    last: Option<&RunReport>,
    limits: Limits,
    now: DateTime<Utc>,
    reasons: &mut Vec<Reason>,
) -> VolumeStatus {
    let is_gone = last.is_some_and(|report| report.gone.iter().any(|gone| gone.name == shelf.name));
    // What no run backs up, an image or another tool's directory, has no age to be judged by.
    let is_expected = last.is_none_or(|report| report.volumes.iter().any(|volume| volume.name == shelf.name));
    let newest = shelf.newest();
    let mut level = Level::Ok;
    let mut tell = |this: Level, what: String| {
        level = level.max(this);
        reasons.push(Reason { level: this, what });
    };
    if let Some(newest) = newest {
        let hours = age_hours(newest.started_at, now);
        if let (true, Some(level)) = (is_expected && !is_gone, limits.judge(hours)) {
            tell(level, format!("the last backup of {} is {hours} h old", shelf.name));
        }
        if problems_of(newest) > 0 && !is_gone {
            let what = format!("the last backup of {} has {} problems", shelf.name, problems_of(newest));
            tell(Level::Warning, what);
        }
    } else if is_expected && !shelf.entries.is_empty() {
        tell(Level::Critical, format!("{} has no complete backup", shelf.name));
    }
    for problem in shelf.damage() {
        tell(Level::Warning, problem.to_string());
    }
    VolumeStatus {
        name: shelf.name.clone(),
        level,
        last_backup: newest.map(|newest| newest.started_at),
        age_seconds: newest.map(|newest| (now - newest.started_at).num_seconds()),
        archive_bytes: newest.map(|newest| newest.sizes.archive_bytes),
        backups: shelf.backups.len(),
        protected: shelf.backups.iter().filter(|backup| backup.protected).count(),
        last_verified: shelf.last_verified,
        problems: newest.map_or(0, problems_of),
        gone: is_gone,
    }
}

fn without_backup(name: &str) -> VolumeStatus {
    VolumeStatus {
        name: name.to_owned(),
        level: Level::Critical,
        last_backup: None,
        age_seconds: None,
        archive_bytes: None,
        backups: 0,
        protected: 0,
        last_verified: None,
        problems: 0,
        gone: false,
    }
}

impl Limits {
    fn judge(self, hours: i64) -> Option<Level> {
        if hours >= i64::from(self.critical_hours) {
            Some(Level::Critical)
        } else {
            (hours >= i64::from(self.warning_hours)).then_some(Level::Warning)
        }
    }
}

fn age_hours(then: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (now - then).num_hours()
}

fn problems_of(manifest: &Manifest) -> usize {
    manifest.problems.iter().filter(|problem| problem.severity > Severity::Notice).count()
}

impl Status {
    /// For a person and a monitoring system: the first line says it all.
    pub fn text(&self) -> String {
        let word = match self.level {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
        };
        let what = self.reasons.first().map_or_else(
            || format!("{} volumes have their backups", self.volumes.iter().filter(|volume| !volume.gone).count()),
            |worst| match self.reasons.len() {
                1 => worst.what.clone(),
                more => format!("{} (and {} more)", worst.what, more - 1),
            },
        );
        let mut text = format!("VOLBAK {word} - {what}\n");
        // Writing to a String cannot fail.
        for reason in self.reasons.iter().skip(1) {
            let _ = writeln!(text, "{}", reason.what);
        }
        if let Some(run) = &self.last_run {
            let started = run.started.with_timezone(&Local).format("%Y-%m-%d %H:%M");
            let _ = writeln!(text, "last run {started}: {}", run.outcome);
        }
        let mut rows =
            vec![["VOLUME", "LAST BACKUP", "AGE", "SIZE", "BACKUPS", "VERIFIED", "PROBLEMS"].map(str::to_owned)];
        rows.extend(self.volumes.iter().map(row));
        if rows.len() > 1 {
            let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: [usize; 7] = std::array::from_fn(width);
            for row in &rows {
                let cells: Vec<String> =
                    row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                let _ = writeln!(text, "{}", cells.join("  ").trim_end());
            }
        }
        text
    }
}

fn row(volume: &VolumeStatus) -> [String; 7] {
    let none = || "-".to_owned();
    let backups = match volume.protected {
        0 => volume.backups.to_string(),
        protected => format!("{} ({protected} protected)", volume.backups),
    };
    [
        if volume.gone { format!("{} (gone)", volume.name) } else { volume.name.clone() },
        volume.last_backup.map_or_else(none, |at| at.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string()),
        volume.age_seconds.map_or_else(none, |seconds| match seconds / 3600 {
            hours @ ..48 => format!("{hours} h"),
            hours => format!("{} d", hours / 24),
        }),
        volume.archive_bytes.map_or_else(none, |bytes| ByteLen(bytes).to_string()),
        backups,
        volume.last_verified.map_or_else(none, |date| date.to_string()),
        volume.problems.to_string(),
    ]
}
