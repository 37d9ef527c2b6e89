//! How the backups stand, from what lies in the destination alone: no LVM, no lock, so that a monitoring system may ask
//! as often as it likes.

use std::fmt::Write;
use std::path::Path;

use chrono::{DateTime, Local, NaiveDate, Utc};
use serde::Serialize;

use super::check::CheckLevel;
use super::prune::Shelf;
use super::reports::{self, KeptError};
use crate::config::{Config, Selected};
use crate::error::with_causes;
use crate::events::Severity;
use crate::manifest::Manifest;
use crate::outside::host;
use crate::report::{Dump, Outcome, RunReport, RunStanding, Standing, VolumeStanding};
use crate::store::StoreError;
use crate::store::local::Destination;
use crate::store::presence::is_on_mount;
use crate::store::retention::is_future;
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
    /// How many of them are kept because of a sudden change, until `volbak accept`.
    pub pinned: u64,
    /// How many are bad: a verification found them so, or their files contradict each other.
    pub bad: u64,
    /// When the newest whole backup was begun that is neither bad nor dated in the future.
    pub last_whole: Option<DateTime<Utc>>,
    /// How old that is.
    pub last_whole_age_seconds: Option<i64>,
    /// When one was last verified and found good.
    pub last_verified: Option<NaiveDate>,
    /// That verification. A quick check stands here only where nothing else was done.
    pub last_verification: Option<Verification>,
    /// How many problems its last backup has, notices left out.
    pub problems: usize,
    /// Whether all that was selected is in its last backup; `None` without one.
    pub whole: Option<bool>,
    /// Whether the volume was gone from the host in the last run.
    pub gone: bool,
    /// What became of it in the last run that was for it.
    pub last_outcome: Option<Outcome>,
    /// When that run began.
    pub last_outcome_at: Option<DateTime<Utc>>,
}

/// A verification that found a backup good.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Verification {
    /// When.
    pub at: DateTime<Utc>,
    /// How much it checked.
    pub level: CheckLevel,
}

/// Looks. Fails when the destination is not there.
pub fn status(config: &Config, limits: Limits, now: DateTime<Utc>) -> Result<Status, StoreError> {
    let root: &Path = &config.backup_destination;
    let destination = Destination::open(root)?;
    if config.require_mount && !is_on_mount(root)? {
        return Err(StoreError::NotMounted(root.to_owned()));
    }
    let shelves = Shelf::all(&destination)?;
    let last = reports::load(&destination, None).ok();
    let (standing, damage) = match reports::load_standing(&destination) {
        Ok(standing) => (standing, None),
        Err(KeptError::Store(error)) => return Err(error),
        Err(error) => (last.as_ref().map(Standing::of).unwrap_or_default(), Some(with_causes(&error))),
    };
    let known = Known { standing: &standing, damage, host: host::name(), scope: reports::scope(config) };
    Ok(judge(&shelves, &known, config, last.as_ref(), limits, now))
}

/// What earlier runs left to know.
struct Known<'a> {
    standing: &'a Standing,
    /// Why not all of it could be read.
    damage: Option<String>,
    host: String,
    scope: String,
}

impl Known<'_> {
    /// What is known of a volume that this config's runs are for, or that was asked for by name; not of one that is gone.
    fn of(&self, name: &str, config: &Config) -> Option<&VolumeStanding> {
        let volume = self.standing.volumes.get(name).filter(|volume| !volume.gone)?;
        let is_selected = volume.group.as_ref().is_none_or(|group| {
            let is_ours = config.volume_groups_by_default || config.volume_groups.contains(group);
            is_ours && matches!(config.selects(group, name), Selected::Included { .. })
        });
        (is_selected || volume.named).then_some(volume)
    }

    /// Why the runs themselves are not well. Their volumes are judged one by one.
    fn about_runs(&self, limits: Limits, now: DateTime<Utc>, tell: &mut dyn FnMut(Level, String)) {
        if let Some(what) = &self.damage {
            tell(
                Level::Warning,
                format!("what is known of earlier runs is damaged, and begins anew with the next: {what}"),
            );
        }
        let Some(whole) = self.standing.whole_run(&self.host, &self.scope) else {
            tell(Level::Warning, "no report of a run is kept: nothing ran yet".to_owned());
            return;
        };
        let ended = |run: &RunStanding, tell: &mut dyn FnMut(Level, String)| {
            if run.aborted.is_some() {
                tell(Level::Critical, format!("the last run: {}", run.subject));
            } else if run.problems > 0 {
                let first = run.first_problem.as_deref().unwrap_or_default();
                tell(
                    Level::Warning,
                    match run.problems {
                        1 => format!("the last run had a problem of its own: {first}"),
                        problems => format!("the last run had {problems} problems of its own: {first}"),
                    },
                );
            }
        };
        ended(whole, tell);
        let later = self.standing.runs.iter().find(|run| run.host == whole.host && run.scope == whole.scope);
        if let Some(later) = later.filter(|later| later.started > whole.started && later.aborted.is_some()) {
            ended(later, tell);
        }
        let hours = age_hours(whole.started.to_utc(), now);
        if let Some(level) = limits.judge(hours) {
            tell(level, format!("the last run began {hours} h ago"));
        }
    }

    /// Why a volume is not well by the last run that was for it. `newest` is when its newest backup was begun.
    fn about_volume(
        name: &str,
        volume: &VolumeStanding,
        newest: Option<DateTime<Utc>>,
        tell: &mut dyn FnMut(Level, String),
    ) {
        let date = volume.at.with_timezone(&Local).format("%Y-%m-%d %H:%M");
        match &volume.outcome {
            // There is a newer backup, made by hand.
            Outcome::Failed(_) | Outcome::NotStarted(_) if newest.is_some_and(|newest| newest > volume.at) => {}
            Outcome::Failed(why) => tell(Level::Critical, format!("{name} failed in its last run ({date}): {why}")),
            Outcome::NotStarted(why) => {
                tell(Level::Critical, format!("{name} was not started in its last run ({date}): {why}"));
            }
            Outcome::BackedUp => {}
        }
        if let Dump::Failed(why) = &volume.dump {
            tell(Level::Warning, format!("the dump for {name} failed in its last run ({date}): {why}"));
        }
        let (count, first) = (volume.errors + volume.warnings, volume.first_problem.as_deref().unwrap_or_default());
        if volume.outcome == Outcome::BackedUp && count > 0 {
            tell(Level::Warning, format!("{name} had {count} problems in its last run ({date}): {first}"));
        }
    }
}

fn judge(
    shelves: &[Shelf],
    known: &Known<'_>,
    config: &Config,
    last: Option<&RunReport>,
    limits: Limits,
    now: DateTime<Utc>,
) -> Status {
    let mut reasons = Vec::new();
    // A directory without anything like a backup (lost+found) is no volume's.
    let with_backups = shelves.iter().filter(|shelf| !shelf.entries.is_empty());
    let mut volumes: Vec<VolumeStatus> =
        with_backups.map(|shelf| of_shelf(shelf, known, config, limits, now, &mut reasons)).collect();
    known.about_runs(limits, now, &mut |level, what| reasons.push(Reason { level, what }));
    for name in known.standing.volumes.keys() {
        if volumes.iter().any(|other| other.name == *name) {
            continue;
        }
        // Another host's volume whose backups somebody removed is that host's matter.
        if let Some(volume) = known.of(name, config).filter(|volume| volume.host == known.host) {
            reasons.push(Reason { level: Level::Critical, what: format!("{name} has no backup") });
            Known::about_volume(name, volume, None, &mut |level, what| reasons.push(Reason { level, what }));
            volumes.push(without_backup(name, volume));
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
    known: &Known<'_>,
    config: &Config,
    limits: Limits,
    now: DateTime<Utc>,
    reasons: &mut Vec<Reason>,
) -> VolumeStatus {
    let entry = known.standing.volumes.get(&shelf.name);
    let is_gone = entry.is_some_and(|entry| entry.gone);
    // What no run backs up, an image or another tool's directory, has no age to be judged by.
    let ours = known.of(&shelf.name, config);
    let is_expected = ours.is_some() || known.standing.runs.is_empty();
    let newest = shelf.newest_usable(now);
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
        // Those of a run are told with the run's own.
        let is_told = ours.is_some_and(|ours| ours.outcome == Outcome::BackedUp && ours.errors + ours.warnings > 0);
        if problems_of(newest) > 0 && !is_gone && !is_told {
            let what = format!("the last backup of {} has {} problems", shelf.name, problems_of(newest));
            tell(Level::Warning, what);
        }
        if !newest.is_whole() && !is_gone {
            let last_whole = shelf.newest_whole(now).map_or_else(
                || "there is no whole one".to_owned(),
                |whole| format!("the last whole one is {}", whole.stem),
            );
            tell(Level::Warning, format!("the last backup of {} is partial; {last_whole}", shelf.name));
        }
    } else if is_expected && !shelf.entries.is_empty() {
        let what = format!("{} has no complete backup that is neither bad nor dated in the future", shelf.name);
        tell(Level::Critical, what);
    }
    for ahead in shelf.manifests().filter(|manifest| is_future(manifest.started_at, now)) {
        tell(Level::Warning, format!("{} is dated in the future: a clock was wrong", ahead.stem));
    }
    if let Some(ours) = ours {
        Known::about_volume(&shelf.name, ours, newest.map(|newest| newest.started_at), &mut tell);
    }
    for problem in shelf.damage() {
        tell(Level::Warning, problem.to_string());
    }
    let worth = shelf.worth(now);
    VolumeStatus {
        name: shelf.name.clone(),
        level,
        last_backup: newest.map(|newest| newest.started_at),
        age_seconds: newest.map(|newest| (now - newest.started_at).num_seconds()),
        archive_bytes: newest.map(|newest| newest.sizes.archive_bytes),
        backups: shelf.backups.len(),
        protected: shelf.backups.iter().filter(|backup| backup.protected).count(),
        pinned: worth.pinned,
        bad: worth.bad,
        last_whole: worth.last_whole,
        last_whole_age_seconds: worth.last_whole_age_seconds,
        last_verified: shelf.last_verified,
        last_verification: shelf.last_verification().map(|(level, at)| Verification { at, level }),
        problems: newest.map_or(0, problems_of),
        whole: newest.map(Manifest::is_whole),
        gone: is_gone,
        last_outcome: entry.map(|entry| entry.outcome.clone()),
        last_outcome_at: entry.map(|entry| entry.at),
    }
}

fn without_backup(name: &str, volume: &VolumeStanding) -> VolumeStatus {
    VolumeStatus {
        name: name.to_owned(),
        level: Level::Critical,
        last_backup: None,
        age_seconds: None,
        archive_bytes: None,
        backups: 0,
        protected: 0,
        pinned: 0,
        bad: 0,
        last_whole: None,
        last_whole_age_seconds: None,
        last_verified: None,
        last_verification: None,
        problems: 0,
        whole: None,
        gone: false,
        last_outcome: Some(volume.outcome.clone()),
        last_outcome_at: Some(volume.at),
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
        let mut rows = vec![
            ["VOLUME", "LAST BACKUP", "AGE", "WORTH", "SIZE", "BACKUPS", "VERIFIED", "PROBLEMS"].map(str::to_owned),
        ];
        rows.extend(self.volumes.iter().map(row));
        if rows.len() > 1 {
            let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: [usize; 8] = std::array::from_fn(width);
            for row in &rows {
                let cells: Vec<String> =
                    row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                let _ = writeln!(text, "{}", cells.join("  ").trim_end());
            }
        }
        text
    }
}

fn row(volume: &VolumeStatus) -> [String; 8] {
    let none = || "-".to_owned();
    let counts = [(volume.protected as u64, "protected"), (volume.pinned, "pinned"), (volume.bad, "bad")];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let backups = match counts.as_slice() {
        [] => volume.backups.to_string(),
        _ => format!("{} ({})", volume.backups, counts.join(", ")),
    };
    let age = |seconds: i64| match seconds / 3600 {
        hours @ ..48 => format!("{hours} h"),
        hours => format!("{} d", hours / 24),
    };
    let worth = match (volume.whole, volume.last_whole_age_seconds) {
        (None, _) => none(),
        (Some(true), _) => "whole".to_owned(),
        (Some(false), Some(seconds)) => format!("partial, last whole {} ago", age(seconds)),
        (Some(false), None) => "partial, none whole".to_owned(),
    };
    [
        if volume.gone { format!("{} (gone)", volume.name) } else { volume.name.clone() },
        volume.last_backup.map_or_else(none, |at| at.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string()),
        volume.age_seconds.map_or_else(none, age),
        worth,
        volume.archive_bytes.map_or_else(none, |bytes| ByteLen(bytes).to_string()),
        backups,
        volume
            .last_verification
            .map_or_else(none, |last| format!("{} {}", last.at.with_timezone(&Local).format("%Y-%m-%d"), last.level)),
        volume.problems.to_string(),
    ]
}
