//! The result of each volume's last run, kept beside the reports and for longer. A run for one volume changes the record of
//! that volume only.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

use super::facts::{Abort, Dump, Outcome, RunReport, RunVerdict, VolumeReport, matters};
use super::stored::{FORMAT_VERSION, ReportError, from_versioned};
use super::worth::VolumeWorth;
use crate::events::Severity;

/// Maximum number of runs in the file, each the last one of its config on its host.
const MAX_RUNS: usize = 64;

/// The records of all volumes and runs of a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// `FORMAT_VERSION` of the program that wrote it.
    pub format_version: u32,
    /// The last whole run and the last one for some volumes, of each config on each host; the newest first.
    pub runs: Vec<RunStanding>,
    /// Each volume by name.
    pub volumes: BTreeMap<String, VolumeStanding>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStanding {
    /// The host's name.
    pub host: String,
    /// Digest of the volumes that the config selects.
    pub scope: String,
    /// Whether it covered all of them.
    pub is_whole: bool,
    /// When it began.
    pub started: DateTime<FixedOffset>,
    /// How long it took.
    pub duration_seconds: u64,
    /// The outcome in words.
    pub subject: String,
    /// Its verdict, including its volumes.
    pub verdict: RunVerdict,
    /// Why it was aborted, if it was.
    pub aborted: Option<String>,
    /// Number of warnings and errors of the run itself.
    pub problems: u64,
    /// The first of them.
    pub first_problem: Option<String>,
}

/// The record of one volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeStanding {
    /// The host that backs it up.
    pub host: String,
    /// Its volume group.
    pub group: Option<String>,
    /// Start of the last run that covered it.
    pub at: DateTime<Utc>,
    /// Start of the last run that reached it, whatever the result. `None` in the records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<DateTime<Utc>>,
    /// Whether that run was limited to named volumes.
    #[serde(default)]
    pub named: bool,
    /// Its result in that run.
    pub outcome: Outcome,
    /// The result of its dump.
    #[serde(default)]
    pub dump: Dump,
    /// Its verdict in that run.
    pub verdict: RunVerdict,
    /// Number of errors.
    pub errors: u64,
    /// Number of warnings.
    pub warnings: u64,
    /// The worst problem.
    pub first_problem: Option<String>,
    /// Start of its newest complete backup, from any run.
    pub last_success: Option<DateTime<Utc>>,
    /// The duration.
    pub duration_seconds: u64,
    /// The new archive's size.
    pub archive_bytes: Option<u64>,
    /// Size of its directory.
    pub directory_bytes: u64,
    /// Highest observed fill level of its snapshot.
    pub snapshot_peak_percent: Option<f64>,
    /// Whether it no longer exists on the host.
    #[serde(default)]
    pub gone: bool,
    /// The worth of its backups, as far as it was determined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth: Option<VolumeWorth>,
}

/// Facts about a run that its report does not contain.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts<'a> {
    /// Digest of the volumes that the config selects.
    pub scope: &'a str,
    /// Whether the run covered all of them.
    pub is_whole: bool,
    /// The volumes on the host, if they could be listed.
    pub existing: Option<&'a [String]>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { format_version: FORMAT_VERSION, runs: Vec::new(), volumes: BTreeMap::new() }
    }
}

impl Standing {
    /// The records from a single report.
    pub fn of(report: &RunReport) -> Self {
        let mut standing = Self::default();
        standing.note(report, RunFacts { scope: "", is_whole: true, existing: None });
        standing
    }

    /// The form that is kept in the destination.
    pub fn to_json(&self) -> Result<String, ReportError> {
        serde_json::to_string_pretty(self).map_err(ReportError::Damaged)
    }

    /// Reads the stored form.
    pub fn from_json(json: &[u8]) -> Result<Self, ReportError> {
        from_versioned(json, FORMAT_VERSION)
    }

    /// Records a run. Recording it twice changes nothing.
    pub fn note(&mut self, report: &RunReport, facts: RunFacts<'_>) {
        for volume in &report.volumes {
            let before = self.volumes.remove(&volume.name);
            self.volumes
                .insert(volume.name.clone(), VolumeStanding::of(volume, report, facts.is_whole, before.as_ref()));
        }
        for gone in &report.gone {
            if let Some(volume) = self.volumes.get_mut(&gone.name) {
                volume.gone = true;
            }
        }
        if let Some(existing) = facts.existing {
            for (name, volume) in &mut self.volumes {
                if volume.host == report.host {
                    volume.gone = !existing.contains(name);
                }
            }
            // A deleted volume without backups needs no record.
            if facts.is_whole && report.aborted.is_none() {
                let has_backups = |name: &String| report.gone.iter().any(|gone| gone.name == *name);
                self.volumes.retain(|name, one| one.host != report.host || !one.gone || has_backups(name));
            }
        }
        let same =
            |run: &RunStanding| run.host == report.host && run.scope == facts.scope && run.is_whole == facts.is_whole;
        self.runs.retain(|run| !same(run));
        self.runs.push(RunStanding::of(report, facts));
        self.runs.sort_by_key(|run| std::cmp::Reverse(run.started));
        self.runs.truncate(MAX_RUNS);
    }

    /// The last whole run of this config on this host; otherwise one of the host; otherwise any. After the config
    /// was changed, the last run is that of the old one.
    pub fn whole_run(&self, host: &str, scope: &str) -> Option<&RunStanding> {
        let first = |wanted: &dyn Fn(&&RunStanding) -> bool| self.runs.iter().find(wanted);
        first(&|run| run.is_whole && run.host == host && run.scope == scope)
            .or_else(|| first(&|run| run.is_whole && run.host == host))
            .or_else(|| first(&|run| run.is_whole))
            .or_else(|| self.runs.first())
    }
}

impl RunStanding {
    fn of(report: &RunReport, facts: RunFacts<'_>) -> Self {
        let matter = || report.problems.iter().filter(|problem| matters(problem));
        Self {
            host: report.host.clone(),
            scope: facts.scope.to_owned(),
            is_whole: facts.is_whole,
            started: report.started,
            duration_seconds: report.duration_seconds,
            subject: report.subject(),
            verdict: report.verdict(),
            aborted: report.aborted.as_ref().map(|abort| match abort {
                Abort::NotMounted => "the backup volume is not mounted".to_owned(),
                Abort::Other(why) => why.clone(),
            }),
            problems: matter().count() as u64,
            first_problem: matter().max_by_key(|problem| problem.severity).map(ToString::to_string),
        }
    }
}

impl VolumeStanding {
    /// Why it has no new backup, or its worst problem.
    pub(super) fn why(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Failed(why) => Some(format!("failed: {why}")),
            Outcome::NotStarted(why) => Some(format!("not started: {why}")),
            Outcome::BackedUp => self.first_problem.clone(),
        }
    }

    fn of(volume: &VolumeReport, report: &RunReport, is_whole: bool, before: Option<&Self>) -> Self {
        let new = (volume.outcome == Outcome::BackedUp).then(|| volume.taken_at.unwrap_or(report.started.to_utc()));
        let earlier = volume.history.last().map(|past| past.taken_at);
        let known = before.and_then(|before| before.last_success);
        let is_attempt = !matches!(volume.outcome, Outcome::NotStarted(_));
        let attempt = is_attempt.then(|| report.started.to_utc());
        Self {
            host: report.host.clone(),
            group: volume.group.clone().or_else(|| before.and_then(|before| before.group.clone())),
            at: report.started.to_utc(),
            last_attempt: attempt.or(before.and_then(|before| before.last_attempt)),
            named: !is_whole,
            outcome: volume.outcome.clone(),
            dump: volume.dump.clone(),
            verdict: volume.verdict(),
            errors: volume.count(Severity::Error) as u64,
            warnings: volume.count(Severity::Warning) as u64,
            first_problem: volume.shown_problems().first().map(ToString::to_string),
            last_success: new.or(earlier.max(known)),
            duration_seconds: volume.duration_seconds,
            archive_bytes: volume.archive_bytes,
            directory_bytes: volume.directory_bytes,
            snapshot_peak_percent: volume.snapshot_peak_percent,
            gone: false,
            worth: before.and_then(|before| before.worth),
        }
    }
}
