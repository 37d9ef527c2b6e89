//! The answer of `volbak status`.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::room::Room;
use crate::report::{Outcome, Verification};

/// The severity, with the exit statuses of Nagios and Icinga.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Urgency {
    /// All is well.
    Ok,
    /// Needs attention.
    Warning,
    /// A volume has no recent backup, or the last run failed.
    Critical,
}

impl Urgency {
    /// 0, 1 or 2. For 3 (unknown) see the caller.
    pub fn status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }
}

/// The ages at which the last backup is too old.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Hours.
    pub warning_hours: u32,
    /// Hours.
    pub critical_hours: u32,
}

impl Limits {
    pub(super) fn judge(self, hours: i64) -> Option<Urgency> {
        if hours >= i64::from(self.critical_hours) {
            Some(Urgency::Critical)
        } else {
            (hours >= i64::from(self.warning_hours)).then_some(Urgency::Warning)
        }
    }
}

/// The overall status.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The worst level.
    pub level: Urgency,
    /// The reasons for the level, worst first.
    pub reasons: Vec<Reason>,
    /// What is worth knowing and changes no level, a line each.
    pub notices: Vec<String>,
    /// The last run, if its report is stored.
    pub last_run: Option<LastRun>,
    /// The room in the destination, if it can be asked.
    pub room: Option<Room>,
    /// Each volume that has a directory in the destination, or was in the last run.
    pub volumes: Vec<VolumeStatus>,
}

/// A reason.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// Its level.
    pub level: Urgency,
    /// The text, one line.
    pub what: String,
}

/// The last run.
#[derive(Debug, Serialize)]
pub struct LastRun {
    /// Its start.
    pub started: DateTime<Utc>,
    /// Its duration.
    pub duration_seconds: u64,
    /// Its subject line: the result in words.
    pub outcome: String,
}

/// The status of a volume.
#[derive(Debug, Serialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// Its level.
    pub level: Urgency,
    /// The start of its last complete backup.
    pub last_backup: Option<DateTime<Utc>>,
    /// The age of that backup.
    pub age_seconds: Option<i64>,
    /// The length of its archive.
    pub archive_bytes: Option<u64>,
    /// The number of complete backups.
    pub backups: usize,
    /// The number of those that are encrypted.
    pub encrypted: usize,
    /// Whether the last one is; `None` without one.
    pub last_encrypted: Option<bool>,
    /// The number of protected ones.
    pub protected: usize,
    /// The number of those kept because of a sudden change, until `volbak accept`.
    pub pinned: u64,
    /// The number of bad ones: found by a verification or by inconsistent files.
    pub bad: u64,
    /// The start of the newest whole backup that is neither bad nor dated in the future.
    pub last_whole: Option<DateTime<Utc>>,
    /// The age of that backup.
    pub last_whole_age_seconds: Option<i64>,
    /// The last date on which a verification found one good.
    pub last_verified: Option<NaiveDate>,
    /// Its display name and its instances in the cloud, by its newest backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// That verification; a quick check only if there is no other.
    pub last_verification: Option<Verification>,
    /// The last restore test or boot that found one good.
    pub last_proof: Option<Verification>,
    /// The number of problems of its last backup, without notices.
    pub problems: usize,
    /// Whether its last backup contains everything selected; `None` without one.
    pub whole: Option<bool>,
    /// Whether the volume was gone from the host in the last run.
    pub gone: bool,
    /// Its result in the last run that covered it.
    pub last_outcome: Option<Outcome>,
    /// The start of that run.
    pub last_outcome_at: Option<DateTime<Utc>>,
}
