//! Why a backup is kept or removed, in words.

use std::fmt;

use crate::shown::counted;
use chrono::{DateTime, NaiveDate, Utc};

/// The verdict of one rule about one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Kept: not older than the retention.
    Young {
        /// Calendar days since its date.
        age_days: i64,
        /// The retention.
        retention_days: u32,
    },
    /// Kept: one of the newest.
    KeepLast {
        /// The number to keep.
        keep: u32,
    },
    /// Kept: the newest of its day.
    KeepDaily {
        /// The number of days with a backup.
        keep: u32,
    },
    /// Kept: the newest of its week.
    KeepWeekly {
        /// The number of weeks with a backup.
        keep: u32,
    },
    /// Kept: the newest of its month.
    KeepMonthly {
        /// The number of months with a backup.
        keep: u32,
    },
    /// Kept: the newest of its year.
    KeepYearly {
        /// The number of years with a backup.
        keep: u32,
    },
    /// Kept: it is protected.
    Protected,
    /// Kept: the last one before a sudden change that was not accepted yet.
    BeforeSuddenChange,
    /// Kept: its store keeps it from being deleted.
    Locked {
        /// Until then.
        until: DateTime<Utc>,
    },
    /// Kept: no other backup of this source was verified since.
    LastVerified,
    /// Kept: no newer backup of this source is complete.
    LastGood,
    /// Kept: the newer ones lack something that was selected.
    LastWhole,
    /// Kept: a newer backup is of another volume of this name.
    LastOfReplaced {
        /// Until the newest good one of its volume is older than this many days.
        keep_days: u32,
    },
    /// Kept: it was just made, whatever its date.
    JustMade,
    /// Kept: the newest before the one just made.
    LastBeforeTheNewOne,
    /// Kept: its date is in the future, so its age is unknown.
    InTheFuture,
    /// Kept: the source is gone, and its backups are kept for longer.
    GoneNotLongEnough {
        /// That period in days.
        keep_days: u32,
    },
    /// Kept: another member of its set is kept.
    SetKept {
        /// The source of that member.
        with: String,
    },
    /// Kept: no newer set of its group is whole.
    LastWholeSet,
    /// Kept: no rule keeps it, but nothing of this source may be removed now; the plan's refusals give the reason.
    OnHold {
        /// Calendar days since its date.
        age_days: i64,
    },
    /// Removed: older than the retention, and no other rule keeps it.
    Old {
        /// Calendar days since its date.
        age_days: i64,
        /// The retention.
        retention_days: u32,
    },
    /// Removed: the source is gone, and the longer period has passed too.
    GoneLongEnough {
        /// Calendar days since its date.
        age_days: i64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Young { age_days, retention_days } => {
                write!(f, "{} old, kept for {}", days(*age_days), days(i64::from(*retention_days)))
            }
            Self::KeepLast { keep } => write!(f, "one of the last {keep}"),
            Self::KeepDaily { keep } => {
                write!(f, "the last of its day ({} kept)", counted(u64::from(*keep), "day is", "days are"))
            }
            Self::KeepWeekly { keep } => {
                write!(f, "the last of its week ({} kept)", counted(u64::from(*keep), "week is", "weeks are"))
            }
            Self::KeepMonthly { keep } => {
                write!(f, "the last of its month ({} kept)", counted(u64::from(*keep), "month is", "months are"))
            }
            Self::KeepYearly { keep } => {
                write!(f, "the last of its year ({} kept)", counted(u64::from(*keep), "year is", "years are"))
            }
            Self::Protected => f.write_str("protected"),
            Self::BeforeSuddenChange => f.write_str("the last before a sudden change; `volbak accept` releases it"),
            Self::Locked { until } => write!(f, "locked in its store until {}", until.format("%Y-%m-%d %H:%M UTC")),
            Self::LastVerified => f.write_str("the last that was verified and is good"),
            Self::LastGood => f.write_str("the last good one"),
            Self::LastWhole => f.write_str("the last whole one: the newer ones are partial"),
            Self::LastOfReplaced { keep_days } => {
                let kept = days(i64::from(*keep_days));
                write!(f, "the last good one of another volume of this name; kept until that is older than {kept}")
            }
            Self::JustMade => f.write_str("just made"),
            Self::LastBeforeTheNewOne => f.write_str("the last good one before the new one"),
            Self::InTheFuture => f.write_str("dated in the future"),
            Self::GoneNotLongEnough { keep_days } => {
                write!(f, "its volume is gone; kept until the newest is older than {}", days(i64::from(*keep_days)))
            }
            Self::SetKept { with } => write!(f, "its set is kept: {with} is"),
            Self::LastWholeSet => f.write_str("of the last whole set of its group"),
            Self::OnHold { age_days } => write!(f, "{} old, but nothing is removed now", days(*age_days)),
            Self::Old { age_days, retention_days } => {
                write!(f, "{} old, more than {}", days(*age_days), days(i64::from(*retention_days)))
            }
            Self::GoneLongEnough { age_days } => {
                write!(f, "its volume is gone, and it is {} old", days(*age_days))
            }
        }
    }
}

/// Why nothing is removed, or what looks wrong, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The source has no new backup.
    NothingNew,
    /// The new backup is not in the list, or its date is in the future.
    NewOneNotThere {
        /// Its id.
        id: String,
    },
    /// The new backup is bad.
    NewOneIsBad {
        /// Its id.
        id: String,
    },
    /// Whether a backup is bad is not known, so the wrong one could count as the last good one.
    HealthUnknown {
        /// Its id.
        id: String,
    },
    /// Two backups have the same id, so the wrong one could be removed.
    SameIdTwice {
        /// The id.
        id: String,
    },
    /// The source is gone; its backups are kept for now.
    Gone {
        /// The days until they may be removed.
        left_days: i64,
        /// The number of backups.
        backups: usize,
    },
    /// A backup's date is in the future. It is kept; the others are treated as usual.
    InTheFuture {
        /// Its id.
        id: String,
        /// Its date.
        date: NaiveDate,
    },
    /// The gap between the new backup and the one before it is longer than the retention. The earlier one is kept.
    Gap {
        /// The gap in days.
        days: i64,
        /// The date before the gap.
        from: NaiveDate,
        /// The date of the new backup.
        to: NaiveDate,
    },
    /// All plans together would remove more than half of all backups.
    TooMany {
        /// The number to be removed.
        removed: usize,
        /// The number of all backups.
        all: usize,
    },
}

impl Refusal {
    /// Whether it is a normal condition (no new backup, or a gone volume within its period) rather than one that
    /// needs attention.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::NothingNew | Self::Gone { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingNew => f.write_str("nothing was removed, since there is no new backup"),
            Self::NewOneNotThere { id } => {
                write!(f, "nothing was removed, since the new backup {id} is not among those that were found")
            }
            Self::NewOneIsBad { id } => write!(f, "nothing was removed, since the new backup {id} is bad"),
            Self::HealthUnknown { id } => write!(
                f,
                "nothing was removed, since the record of {id}'s verifications cannot be read; `volbak verify` of it writes a new \
                 one, or says why not"
            ),
            Self::SameIdTwice { id } => write!(f, "nothing was removed, since two backups are called {id}"),
            Self::Gone { left_days, backups } => {
                write!(
                    f,
                    "the volume is gone; its {} kept for another {}",
                    counted(*backups as u64, "backup is", "backups are"),
                    days(*left_days)
                )
            }
            Self::InTheFuture { id, date } => {
                write!(f, "{id} is dated {date}, in the future: a clock was wrong; it is kept")
            }
            Self::Gap { days: gap, from, to } => write!(
                f,
                "{} lie between the backups of {from} and {to}: a long outage, or the clock is wrong",
                days(*gap)
            ),
            Self::TooMany { removed, all } => write!(
                f,
                "{removed} of all {all} backups would be removed, more than half; nothing was removed. If that is \
                 meant, say --force"
            ),
        }
    }
}

/// `1 day`, `7 days`.
fn days(count: i64) -> String {
    if count == 1 { "1 day".to_owned() } else { format!("{count} days") }
}
