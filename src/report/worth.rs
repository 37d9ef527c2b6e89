//! The state of a volume's backups in the destination at the end of a run.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::verification::{Verification, numbered};

/// The figures of one volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeWorth {
    /// Whether the newest usable backup contains everything that was selected; `None` without a usable backup.
    pub newest_whole: Option<bool>,
    /// Whether the newest usable backup is encrypted; `None` without a usable backup, and in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_encrypted: Option<bool>,
    /// Start of the newest whole backup that is neither bad nor dated in the future.
    pub last_whole: Option<DateTime<Utc>>,
    /// Its age at the end of the run.
    pub last_whole_age_seconds: Option<i64>,
    /// The last verification that found a backup good. A quick check counts only if there was no other verification.
    #[serde(default, with = "numbered")]
    pub last_verification: Option<Verification>,
    /// The last restore test or boot of a backup that is still good; `None` in reports of older versions.
    #[serde(default, with = "numbered", skip_serializing_if = "Option::is_none")]
    pub last_proof: Option<Verification>,
    /// Backups that a verification found bad, or whose files contradict each other.
    pub bad: u64,
    /// Backups that a sudden change pins, until `volbak accept`.
    pub pinned: u64,
}
