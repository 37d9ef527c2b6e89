//! A [`RunReport`] → its text, its HTML part and its subject line. Pure: everything comes in as facts, the clock too.
//!
//! The text is the documented format, line by line (a golden test holds it); scripts read it. The HTML part has the same
//! facts and more. A report is kept as JSON in the destination, so that it can be shown and mailed again.

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::events::{Problem, RunFigures, Severity};

mod chart;
mod escape;
mod html;
mod metrics;
mod size;
mod standing;
mod subject;
mod text;
mod worth;

pub use size::{df_percent, du_size, shown_duration};
pub use standing::{RunFacts, RunStanding, Standing, VolumeStanding};
pub use worth::{LastVerification, VolumeWorth};

/// The version of the JSON form that is written. A reader takes this and all below.
pub const FORMAT_VERSION: u32 = 1;

/// How many problems of one volume the text shows.
pub const MAX_PROBLEMS_SHOWN: usize = 10;

/// How many earlier backups a shrinking archive is compared with at least.
const MIN_HISTORY: usize = 3;

/// The facts of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`FORMAT_VERSION`] when it was written.
    pub format_version: u32,
    /// The host's name.
    pub host: String,
    /// What its log lines have as `run_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// When the run began, in the host's time zone.
    pub started: DateTime<FixedOffset>,
    /// How long it took.
    pub duration_seconds: u64,
    /// `backups_retention_days`.
    pub retention_days: u32,
    /// The destination directory.
    pub destination: String,
    /// How full the destination is; `None` when it is not there.
    pub usage: Option<Usage>,
    /// Why the run ended before its end, if it did.
    pub aborted: Option<Abort>,
    /// The volumes, in the order in which they were backed up; those that were not reached come last.
    pub volumes: Vec<VolumeReport>,
    /// Volumes that are gone from the host and still have backups.
    #[serde(default)]
    pub gone: Vec<GoneReport>,
    /// What was wrong with the run as a whole: leftovers, the brake on deletions, a mail that was not sent.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// How full the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All that lies in the destination directory.
    pub backups_bytes: u64,
    /// What its filesystem has in use (`f_blocks - f_bfree`, in bytes).
    pub used_bytes: u64,
    /// What a user may still write (`f_bavail`, in bytes).
    pub available_bytes: u64,
}

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abort {
    /// The destination is not mounted, or no longer the one that it was.
    NotMounted,
    /// Something else, in one line: a signal, no volume group.
    Other(String),
}

/// The facts of one volume's backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// The volume's name.
    pub name: String,
    /// Its volume group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When its new backup was begun, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<DateTime<Utc>>,
    /// The directory of its backups.
    pub directory: String,
    /// What became of its instance's database dump.
    #[serde(default)]
    pub dump: Dump,
    /// The archives that retention removed, whole paths.
    pub removed: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub duration_seconds: u64,
    /// All that lies in its directory, after the run.
    pub directory_bytes: u64,
    /// The new archive's size.
    pub archive_bytes: Option<u64>,
    /// How many entries of every kind the new archive holds.
    pub entries: Option<u64>,
    /// Whether all that was selected is in the new backup; `None` without one, and in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<bool>,
    /// The new backup's manifest, where all problems are listed.
    pub manifest: Option<String>,
    /// What was wrong with it; notices are counted, not shown.
    pub problems: Vec<Problem>,
    /// The fullest that its thick snapshot was seen, 0 to 100.
    pub snapshot_peak_percent: Option<f64>,
    /// When one of its backups was last verified and found good.
    #[serde(default)]
    pub last_verified: Option<NaiveDate>,
    /// Its earlier good backups, oldest first; the last 30 are enough.
    #[serde(default)]
    pub history: Vec<Past>,
}

/// What became of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is a new backup.
    BackedUp,
    /// There is none: the step and the cause, one line.
    Failed(String),
    /// It was not begun: why, one line.
    NotStarted(String),
}

/// What became of a database dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dump {
    /// None is configured for this volume.
    #[default]
    NotConfigured,
    /// One is configured, and dumps are switched off.
    Disabled,
    /// It was made.
    Done,
    /// It failed: the instance and the cause, one line.
    Failed(String),
}

/// An earlier backup of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// Its archive's size.
    pub archive_bytes: u64,
    /// How long it took.
    pub duration_seconds: u64,
}

/// A volume that is gone and still has backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneReport {
    /// The volume's name.
    pub name: String,
    /// The directory of its backups.
    pub directory: String,
    /// How many backups are left.
    pub backups: u64,
    /// All that lies in its directory, after the run.
    pub directory_bytes: u64,
    /// The last day on which they are all kept; `None` when what is left stays for good.
    pub kept_until: Option<NaiveDate>,
    /// The archives that retention removed, whole paths.
    pub removed: Vec<String>,
}

/// How a run ended, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All volumes are backed up, and nobody need look.
    Good,
    /// All volumes are backed up, and somebody should look.
    Problems,
    /// At least one volume is not backed up, or the run was aborted.
    Failed,
}

/// How sizes are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Between a size's whole number and its tenth.
    pub decimal_separator: char,
}

impl Default for Style {
    fn default() -> Self {
        Self { decimal_separator: ',' }
    }
}

/// A report as it is mailed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The subject, one line: the outcome first, so that it can be filtered on.
    pub subject: String,
    /// The text, lines ended by `\n`.
    pub text: String,
    /// The same facts as an HTML page without anything that is fetched from elsewhere.
    pub html: String,
}

/// Why a kept report cannot be shown again.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not a report, or was cut or changed.
    #[error("not a report of volbak's")]
    Damaged(#[source] serde_json::Error),
    /// A newer volbak wrote it.
    #[error("the report has format {found}, and this volbak knows those up to {FORMAT_VERSION}")]
    TooNew {
        /// Its format.
        found: u32,
    },
}

/// Reads a kept form whose `format_version` is `known` at most.
fn from_versioned<T: serde::de::DeserializeOwned>(json: &[u8], known: u32) -> Result<T, ReportError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_slice(json).map_err(ReportError::Damaged)?;
    if version.format_version > known {
        return Err(ReportError::TooNew { found: version.format_version });
    }
    serde_json::from_slice(json).map_err(ReportError::Damaged)
}

impl RunReport {
    /// The form that is kept in the destination.
    pub fn to_json(&self) -> Result<String, ReportError> {
        serde_json::to_string_pretty(self).map_err(ReportError::Damaged)
    }

    /// Reads a kept report.
    pub fn from_json(json: &[u8]) -> Result<Self, ReportError> {
        from_versioned(json, FORMAT_VERSION)
    }

    /// The whole report for people.
    pub fn render(&self, style: Style) -> Rendered {
        Rendered { subject: self.subject(), text: text::text(self, style), html: html::html(self, style) }
    }

    /// The text alone.
    pub fn text(&self, style: Style) -> String {
        text::text(self, style)
    }

    /// The subject line alone.
    pub fn subject(&self) -> String {
        subject::subject(self)
    }

    /// The run's figures for Prometheus, in its text format, for a file of the node exporter's textfile collector.
    /// `standing` is what is known of all volumes; `before`, the file as it was, stands in for what is not known of them.
    pub fn metrics(&self, standing: &Standing, before: Option<&str>) -> String {
        metrics::metrics(self, standing, before)
    }

    /// How it ended.
    pub fn verdict(&self) -> Verdict {
        let run = if self.aborted.is_some() {
            Verdict::Failed
        } else if self.problems.iter().any(matters) {
            Verdict::Problems
        } else {
            Verdict::Good
        };
        self.volumes.iter().map(VolumeReport::verdict).fold(run, Verdict::max)
    }

    /// Its figures for the last log line.
    pub fn figures(&self) -> RunFigures {
        let count = |verdict| self.volumes.iter().filter(|volume| volume.verdict() == verdict).count() as u64;
        RunFigures {
            volumes_ok: count(Verdict::Good),
            volumes_warning: count(Verdict::Problems),
            volumes_failed: count(Verdict::Failed),
            archive_bytes: self.volumes.iter().filter_map(|volume| volume.archive_bytes).fold(0, u64::saturating_add),
            seconds: self.duration_seconds,
        }
    }

    /// How many volumes have a new backup.
    pub fn backed_up(&self) -> usize {
        self.volumes.iter().filter(|volume| volume.outcome == Outcome::BackedUp).count()
    }
}

impl VolumeReport {
    /// How it ended for this volume.
    pub fn verdict(&self) -> Verdict {
        let dump_failed = matches!(self.dump, Dump::Failed(_));
        match self.outcome {
            Outcome::Failed(_) | Outcome::NotStarted(_) => Verdict::Failed,
            Outcome::BackedUp if dump_failed || self.problems.iter().any(matters) => Verdict::Problems,
            Outcome::BackedUp => Verdict::Good,
        }
    }

    /// A warning when the new archive is empty, or fell below half of the median of the earlier ones (of at least
    /// three that were taken after `since`). The run adds it to `problems`, so that it counts for the exit status too.
    pub fn shrink_warning(&self, since: Option<DateTime<Utc>>) -> Option<Problem> {
        let warning = |what: String| Some(Problem::new(Severity::Warning, "archive", what));
        if self.outcome != Outcome::BackedUp {
            return None;
        }
        if self.entries == Some(0) {
            return warning("the new backup is empty".to_owned());
        }
        let archive_bytes = self.archive_bytes?;
        let is_measure = |past: &&Past| since.is_none_or(|since| past.taken_at > since);
        let sizes: Vec<u64> = self.history.iter().filter(is_measure).map(|past| past.archive_bytes).collect();
        let count = sizes.len();
        let median = median(sizes).filter(|_| count >= MIN_HISTORY)?;
        if archive_bytes >= median.div_ceil(2) {
            return None;
        }
        let shown = |bytes| crate::units::ByteLen(bytes).to_string();
        warning(format!(
            "the new archive has {}, less than half of what the last {} have (median {})",
            shown(archive_bytes),
            count,
            shown(median)
        ))
    }

    /// The worst that is known of it: a failure and a failed dump count as errors.
    pub fn severity(&self) -> (Verdict, Option<Severity>) {
        let dump = matches!(self.dump, Dump::Failed(_)).then_some(Severity::Error);
        (
            self.verdict(),
            self.problems.iter().filter(|one| matters(one)).map(|problem| problem.severity).max().max(dump),
        )
    }

    /// How many of its problems are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// The problems that are shown, the worst first, and how many there are of them in all.
    fn shown_problems(&self) -> Vec<&Problem> {
        let mut shown: Vec<&Problem> = self.problems.iter().filter(|problem| matters(problem)).collect();
        shown.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        shown
    }
}

/// The lower one of two in the middle.
fn median(mut sizes: Vec<u64>) -> Option<u64> {
    sizes.sort_unstable();
    sizes.get(sizes.len().checked_sub(1)? / 2).copied()
}

fn matters(problem: &Problem) -> bool {
    problem.severity > Severity::Notice
}

#[cfg(test)]
mod tests;
