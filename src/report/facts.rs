//! The facts of a run, and the results that follow from them.

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::verification::{Verification, numbered};
use crate::events::{Problem, RunFigures, Severity};

/// Minimum number of earlier backups for the comparison of archive sizes.
const MIN_HISTORY: usize = 3;

/// The facts of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// `FORMAT_VERSION` of the program that wrote it.
    pub format_version: u32,
    /// The host's name.
    pub host: String,
    /// The `run_id` of its log lines.
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
    /// Why the run was aborted, if it was.
    pub aborted: Option<Abort>,
    /// The volumes, in the order in which they were backed up; those that were not reached come last.
    pub volumes: Vec<VolumeReport>,
    /// Volumes that were deleted from the host and still have backups.
    #[serde(default)]
    pub gone: Vec<GoneReport>,
    /// The copy to the second destination, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyFacts>,
    /// Problems of the run itself: remains of a crash, the brake on deletions, a mail that was not sent.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// What changed since the last run, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What needs an administrator, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// What the cloud decided, a line each: volumes that are left out, retentions, sets of instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cloud: Vec<String>,
}

/// Disk usage of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Size of everything in the destination directory.
    pub backups_bytes: u64,
    /// Used space of its filesystem (`f_blocks - f_bfree`, in bytes).
    pub used_bytes: u64,
    /// Space available to users (`f_bavail`, in bytes).
    pub available_bytes: u64,
    /// Days until it is full, if it fills as in the last nights; `None` if that cannot be known, or it does not fill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_in_days: Option<u64>,
}

/// The copy of a run's backups to a second destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFacts {
    /// The second destination.
    pub to: String,
    /// The number of copied backups.
    pub copied: u64,
    /// Their length.
    pub copied_bytes: u64,
    /// The number of backups that should have been copied and were not.
    pub failed: u64,
    /// How long it took.
    pub seconds: u64,
}

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abort {
    /// The destination is not mounted, or another filesystem was mounted over it.
    NotMounted,
    /// Any other reason, in one line: a signal, no volume group.
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
    /// When its new backup was started, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<DateTime<Utc>>,
    /// The directory of its backups.
    pub directory: String,
    /// Result of the database dump of its instance.
    #[serde(default)]
    pub dump: Dump,
    /// The archives that retention removed, whole paths.
    pub removed: Vec<String>,
    /// Result of its backup.
    pub outcome: Outcome,
    /// How long it took.
    pub duration_seconds: u64,
    /// Size of its directory after the run.
    pub directory_bytes: u64,
    /// The new archive's size.
    pub archive_bytes: Option<u64>,
    /// Number of entries of all kinds in the new archive.
    pub entries: Option<u64>,
    /// Whether the new backup contains everything that was selected; `None` without a new backup, and in reports of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<bool>,
    /// Whether the new backup is encrypted; `None` without a new backup, and in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// Why its first attempt in this run failed, if there was a second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
    /// Whether it was not started because the time for the run, or of the day, was over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_time: bool,
    /// The new backup's manifest, where all problems are listed.
    pub manifest: Option<String>,
    /// Its problems. Notices are counted, but not shown.
    pub problems: Vec<Problem>,
    /// Highest observed fill level of its thick snapshot, 0 to 100.
    pub snapshot_peak_percent: Option<f64>,
    /// When one of its backups was last verified and found good.
    #[serde(default)]
    pub last_verified: Option<NaiveDate>,
    /// The last restore test or boot that found one of its backups good.
    #[serde(default, with = "numbered", skip_serializing_if = "Option::is_none")]
    pub last_proof: Option<Verification>,
    /// Its display name and its instances in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// Its earlier good backups, oldest first; the last 30 are enough.
    #[serde(default)]
    pub history: Vec<Past>,
}

/// The result of a volume's backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is a new backup.
    BackedUp,
    /// The backup failed: the step and the cause, in one line.
    Failed(String),
    /// The backup was not started: the reason, in one line.
    NotStarted(String),
}

/// The result of a database dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dump {
    /// None is configured for this volume.
    #[default]
    NotConfigured,
    /// One is configured, but dumps are disabled.
    Disabled,
    /// The dump succeeded.
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

/// A deleted volume that still has backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneReport {
    /// The volume's name.
    pub name: String,
    /// The directory of its backups.
    pub directory: String,
    /// How many backups are left.
    pub backups: u64,
    /// Size of its directory after the run.
    pub directory_bytes: u64,
    /// The last day on which all of them are kept; `None` if the remaining ones are kept for ever.
    pub kept_until: Option<NaiveDate>,
    /// The archives that retention removed, whole paths.
    pub removed: Vec<String>,
}

/// The result of a run, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunVerdict {
    /// All volumes are backed up, without warnings.
    Good,
    /// All volumes are backed up, with warnings or errors.
    Problems,
    /// At least one volume is not backed up, or the run was aborted.
    Failed,
}

impl RunReport {
    /// The result of the run.
    pub fn verdict(&self) -> RunVerdict {
        let run = if self.aborted.is_some() {
            RunVerdict::Failed
        } else if self.problems.iter().any(matters) {
            RunVerdict::Problems
        } else {
            RunVerdict::Good
        };
        self.volumes.iter().map(VolumeReport::verdict).fold(run, RunVerdict::max)
    }

    /// The volumes of a second attempt, and why the first one failed.
    pub(super) fn tried_twice(&self) -> impl Iterator<Item = (&str, &str)> {
        self.volumes.iter().filter_map(|volume| Some((volume.name.as_str(), volume.first_failure.as_deref()?)))
    }

    /// Which of the new backups are encrypted, in words; `None` if none is.
    pub(super) fn encrypted(&self) -> Option<String> {
        let new: Vec<&VolumeReport> = self.volumes.iter().filter(|volume| volume.encrypted.is_some()).collect();
        let plain: Vec<String> = new
            .iter()
            .filter(|volume| volume.encrypted == Some(false))
            .map(|volume| crate::shown::text(&volume.name))
            .collect();
        match (new.len() - plain.len(), plain.len()) {
            (0, _) => None,
            (all, 0) => Some(format!("all {all} new backups")),
            (some, _) => Some(format!("{some} of {} new backups; plain: {}", new.len(), plain.join(", "))),
        }
    }

    /// Its figures for the last log line.
    pub fn figures(&self) -> RunFigures {
        let count = |verdict| self.volumes.iter().filter(|volume| volume.verdict() == verdict).count() as u64;
        RunFigures {
            volumes_ok: count(RunVerdict::Good),
            volumes_warning: count(RunVerdict::Problems),
            volumes_failed: count(RunVerdict::Failed),
            archive_bytes: self.volumes.iter().filter_map(|volume| volume.archive_bytes).fold(0, u64::saturating_add),
            seconds: self.duration_seconds,
        }
    }

    /// Number of volumes with a new backup.
    pub fn backed_up(&self) -> usize {
        self.volumes.iter().filter(|volume| volume.outcome == Outcome::BackedUp).count()
    }
}

impl VolumeReport {
    /// The report of a volume whose backup has not begun.
    pub fn not_started(name: String, directory: String) -> Self {
        Self {
            name,
            group: None,
            taken_at: None,
            directory,
            dump: Dump::NotConfigured,
            removed: Vec::new(),
            outcome: Outcome::NotStarted(String::new()),
            duration_seconds: 0,
            directory_bytes: 0,
            archive_bytes: None,
            entries: None,
            whole: None,
            encrypted: None,
            first_failure: None,
            out_of_time: false,
            manifest: None,
            problems: Vec::new(),
            snapshot_peak_percent: None,
            last_verified: None,
            last_proof: None,
            cloud: None,
            history: Vec::new(),
        }
    }

    /// The result of this volume.
    pub fn verdict(&self) -> RunVerdict {
        let dump_failed = matches!(self.dump, Dump::Failed(_));
        match self.outcome {
            Outcome::Failed(_) | Outcome::NotStarted(_) => RunVerdict::Failed,
            Outcome::BackedUp if dump_failed || self.problems.iter().any(matters) => RunVerdict::Problems,
            Outcome::BackedUp => RunVerdict::Good,
        }
    }

    /// A warning if the new archive is empty, or smaller than half the median of the earlier ones (at least three, taken
    /// after `since`). The run adds it to `problems`, so that it also affects the exit status.
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
            "the new archive has {}, less than half of the median of the last {} ({})",
            shown(archive_bytes),
            count,
            shown(median)
        ))
    }

    /// Its worst severity. A failure and a failed dump count as errors.
    pub fn severity(&self) -> (RunVerdict, Option<Severity>) {
        let dump = matches!(self.dump, Dump::Failed(_)).then_some(Severity::Error);
        (
            self.verdict(),
            self.problems.iter().filter(|one| matters(one)).map(|problem| problem.severity).max().max(dump),
        )
    }

    /// Number of its problems with this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// The problems that are shown, the worst first.
    pub(super) fn shown_problems(&self) -> Vec<&Problem> {
        let mut shown: Vec<&Problem> = self.problems.iter().filter(|problem| matters(problem)).collect();
        shown.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        shown
    }
}

/// The median; of two values in the middle, the lower one.
fn median(mut sizes: Vec<u64>) -> Option<u64> {
    sizes.sort_unstable();
    sizes.get(sizes.len().checked_sub(1)? / 2).copied()
}

/// Whether a problem is shown: a warning or an error.
pub(super) fn matters(problem: &Problem) -> bool {
    problem.severity > Severity::Notice
}
