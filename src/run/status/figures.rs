//! What `volbak status` answers.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use crate::report::Outcome;
use crate::run::check::CheckLevel;

/// How bad it is, with Nagios' and Icinga's exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// All is well.
    Ok,
    /// An operator should look.
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

impl Limits {
    pub(super) fn judge(self, hours: i64) -> Option<Level> {
        if hours >= i64::from(self.critical_hours) {
            Some(Level::Critical)
        } else {
            (hours >= i64::from(self.warning_hours)).then_some(Level::Warning)
        }
    }
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
