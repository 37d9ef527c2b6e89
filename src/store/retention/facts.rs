//! The facts of a backup that retention goes by.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// The known state of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It was read in full and compared, or restored as a test, without a problem.
    Good,
    /// No problem is known, but it was never read in full: a quick check is no proof.
    Unverified,
    /// A check found it damaged or incomplete. It never counts as a backup.
    Bad,
    /// It may be bad: the record of its verifications cannot be read.
    Unknown,
}

/// A backup of the source, from the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFacts {
    /// Its name among the backups of its source; compared as a whole, never as a prefix.
    pub id: String,
    /// Its time, from its manifest.
    pub taken_at: DateTime<Utc>,
    /// The date in its name: the host's calendar day of the backup.
    pub local_date: NaiveDate,
    /// Its known state.
    pub health: Health,
    /// Whether it contains everything that was selected; a partial backup does not.
    pub whole: bool,
    /// Kept by `volbak protect`.
    pub protected: bool,
    /// The last one before a sudden change, until `volbak accept`.
    pub pinned: bool,
    /// Until when its store keeps it from being deleted.
    pub locked_until: Option<DateTime<Utc>>,
    /// The total size of its files.
    pub size_bytes: u64,
    /// The set that it is a member of.
    pub set: Option<SetFacts>,
    /// The UUID of its logical volume. Several volumes may have had the name of the source.
    pub volume: Option<String>,
}

impl BackupFacts {
    /// A whole backup that was not verified and that no rule of its own keeps. Its size is not known.
    pub fn new(id: String, taken_at: DateTime<Utc>, local_date: NaiveDate) -> Self {
        Self {
            id,
            taken_at,
            local_date,
            health: Health::Unverified,
            whole: true,
            protected: false,
            pinned: false,
            locked_until: None,
            size_bytes: 0,
            set: None,
            volume: None,
        }
    }
}

/// The set of a backup: it is kept and retired as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetFacts {
    /// The group.
    pub group: String,
    /// The same in all backups of the set.
    pub id: String,
    /// The sources that belong to it.
    pub members: Vec<String>,
}
