//! The status of one volume.

use chrono::{DateTime, Utc};

use super::earlier_runs::{EarlierRuns, age_hours};
use super::figures::{Limits, Reason, Urgency, VolumeStatus};
use crate::cloud::shown_names;
use crate::config::Config;
use crate::events::{Problem, Severity};
use crate::manifest::Manifest;
use crate::report::{Outcome, VolumeStanding};
use crate::run::prune::Shelf;
use crate::shown::counted;
use crate::store::retention::is_future;

pub(super) fn of_shelf(
    shelf: &Shelf,
    known: &EarlierRuns<'_>,
    config: &Config,
    limits: Limits,
    now: DateTime<Utc>,
    reasons: &mut Vec<Reason>,
) -> VolumeStatus {
    let entry = known.standing.volumes.get(&shelf.name);
    let is_gone = entry.is_some_and(|entry| entry.gone);
    let newest = shelf.newest_usable(now);
    // Directories that no run backs up (an image, another tool) are not judged by age.
    let ours = known.of(&shelf.name, config).map(|ours| without_accepted(ours, shelf, newest));
    let ours = ours.as_ref();
    let is_expected = ours.is_some() || known.standing.runs.is_empty();
    let mut level = Urgency::Ok;
    let mut tell = |this: Urgency, what: String| {
        level = level.max(this);
        reasons.push(Reason { level: this, what });
    };
    if let Some(newest) = newest {
        let hours = age_hours(newest.started_at, now);
        if let (true, Some(level)) = (is_expected && !is_gone, limits.judge(hours)) {
            tell(level, format!("the last backup of {} is {hours} h old", shelf.name));
        }
        // Problems of a run are listed with the run.
        let is_told = ours.is_some_and(|ours| ours.outcome == Outcome::BackedUp && ours.errors + ours.warnings > 0);
        let problems = problems_of(newest, shelf).count() as u64;
        if problems > 0 && !is_gone && !is_told {
            let what = format!("the last backup of {} has {}", shelf.name, counted(problems, "problem", "problems"));
            tell(Urgency::Warning, what);
        }
        if !newest.is_whole() && !is_gone {
            let last_whole = shelf.newest_whole(now).map_or_else(
                || "there is no whole one".to_owned(),
                |whole| format!("the last whole one is {}", whole.stem),
            );
            tell(Urgency::Warning, format!("the last backup of {} is partial; {last_whole}", shelf.name));
        }
    } else if is_expected && !shelf.entries.is_empty() {
        let what = format!("{} has no complete backup that is neither bad nor dated in the future", shelf.name);
        tell(Urgency::Critical, what);
    }
    for ahead in shelf.manifests().filter(|manifest| is_future(manifest.started_at, now)) {
        tell(Urgency::Warning, format!("{} is dated in the future: a clock was wrong", ahead.stem));
    }
    if let Some(ours) = ours {
        EarlierRuns::about_volume(&shelf.name, ours, newest.map(|newest| newest.started_at), &mut tell);
    }
    for problem in shelf.damage() {
        tell(Urgency::Warning, problem.to_string());
    }
    let worth = shelf.worth(now);
    VolumeStatus {
        name: shelf.name.clone(),
        level,
        last_backup: newest.map(|newest| newest.started_at),
        age_seconds: newest.map(|newest| (now - newest.started_at).num_seconds()),
        archive_bytes: newest.map(|newest| newest.sizes.archive_bytes),
        backups: shelf.backups.len(),
        encrypted: shelf.encrypted(),
        last_encrypted: newest.map(|newest| newest.kind().is_sealed()),
        protected: shelf.backups.iter().filter(|backup| backup.protected).count(),
        pinned: worth.pinned,
        bad: worth.bad,
        last_whole: worth.last_whole,
        last_whole_age_seconds: worth.last_whole_age_seconds,
        last_verified: shelf.last_verified,
        cloud: newest
            .and_then(|newest| newest.cloud.as_ref())
            .map(|cloud| shown_names(&cloud.volume))
            .filter(|names| !names.is_empty()),
        last_verification: shelf.last_verification(),
        last_proof: shelf.last_proof(),
        problems: newest.map_or(0, |newest| problems_of(newest, shelf).count()),
        whole: newest.map(Manifest::is_whole),
        gone: is_gone,
        last_outcome: entry.map(|entry| entry.outcome.clone()),
        last_outcome_at: entry.map(|entry| entry.at),
    }
}

pub(super) fn without_backup(name: &str, volume: &VolumeStanding) -> VolumeStatus {
    VolumeStatus {
        name: name.to_owned(),
        level: Urgency::Critical,
        last_backup: None,
        age_seconds: None,
        archive_bytes: None,
        backups: 0,
        encrypted: 0,
        last_encrypted: None,
        protected: 0,
        pinned: 0,
        bad: 0,
        last_whole: None,
        last_whole_age_seconds: None,
        last_verified: None,
        cloud: None,
        last_verification: None,
        last_proof: None,
        problems: 0,
        whole: None,
        gone: false,
        last_outcome: Some(volume.outcome.clone()),
        last_outcome_at: Some(volume.at),
    }
}

/// The problems of a backup, without sudden changes that were accepted.
fn problems_of<'a>(manifest: &'a Manifest, shelf: &'a Shelf) -> impl Iterator<Item = &'a Problem> {
    let is_problem = |problem: &&Problem| problem.severity > Severity::Notice;
    manifest.problems.iter().filter(is_problem).filter(|problem| !is_accepted(&problem.what, shelf))
}

fn is_accepted(what: &str, shelf: &Shelf) -> bool {
    shelf.accepted.iter().any(|change| what.contains(change.as_str()))
}

/// The record of a volume, without a sudden change that was accepted since.
fn without_accepted(record: &VolumeStanding, shelf: &Shelf, newest: Option<&Manifest>) -> VolumeStanding {
    let mut record = record.clone();
    if record.first_problem.as_ref().is_some_and(|first| is_accepted(first, shelf)) {
        record.warnings = record.warnings.saturating_sub(1);
        let other = newest.and_then(|newest| problems_of(newest, shelf).next());
        record.first_problem = other.map(ToString::to_string).or_else(|| Some("see `volbak report`".to_owned()));
    }
    record
}
