//! Verifications of backups, as reports and the config name them.

use std::fmt;

use chrono::{DateTime, Local, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// The level of a verification. Each level includes the previous ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckLevel {
    /// All files exist, lengths agree, and checksum, index and manifest match the manifest's digests.
    Quick,
    /// The archive's SHA-1, each member, the tar structure, and each entry compared with the index.
    #[default]
    Full,
    /// The archive is restored into a new filesystem, which is then checked and compared with the index.
    RestoreTest,
    /// Its disk is also restored and started in an emulator, until its system is up.
    Boot,
}

impl CheckLevel {
    /// 1 to 4, as metrics and stored reports have it.
    pub(crate) fn number(self) -> u8 {
        self as u8 + 1
    }

    fn of_number(number: u8) -> Self {
        match number {
            0 | 1 => Self::Quick,
            2 => Self::Full,
            3 => Self::RestoreTest,
            _ => Self::Boot,
        }
    }
}

impl fmt::Display for CheckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick check",
            Self::Full => "full",
            Self::RestoreTest => "restore-test",
            Self::Boot => "booted",
        })
    }
}

/// A verification that found nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Its time.
    pub at: DateTime<Utc>,
    /// Its level.
    pub level: CheckLevel,
}

impl Verification {
    /// Its date on this host.
    pub(super) fn day(&self) -> NaiveDate {
        self.at.with_timezone(&Local).date_naive()
    }
}

/// The form in stored reports, where the level is a number.
pub(super) mod numbered {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{CheckLevel, Verification};

    #[derive(Serialize, Deserialize)]
    struct Numbered {
        at: DateTime<Utc>,
        level: u8,
    }

    #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Verification>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|Verification { at, level }| Numbered { at, level: level.number() }).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Verification>, D::Error> {
        let stored = Option::<Numbered>::deserialize(deserializer)?;
        Ok(stored.map(|Numbered { at, level }| Verification { at, level: CheckLevel::of_number(level) }))
    }
}
