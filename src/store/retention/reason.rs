//! Why a backup is kept or removed, in words for a person.

use std::fmt;

use chrono::NaiveDate;

/// One rule's word on one backup.
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
        /// How many of them are kept.
        keep: u32,
    },
    /// Kept: the newest of its day.
    KeepDaily {
        /// For how many days that have one.
        keep: u32,
    },
    /// Kept: the newest of its week.
    KeepWeekly {
        /// For how many weeks that have one.
        keep: u32,
    },
    /// Kept: the newest of its month.
    KeepMonthly {
        /// For how many months that have one.
        keep: u32,
    },
    /// Kept: the newest of its year.
    KeepYearly {
        /// For how many years that have one.
        keep: u32,
    },
    /// Kept: it is protected.
    Protected,
    /// Kept: the last one before a sudden change that was not accepted yet.
    BeforeSuddenChange,
    /// Kept: no other backup of this source was verified since.
    LastVerified,
    /// Kept: no newer backup of this source is complete.
    LastGood,
    /// Kept: the newer ones lack something that was selected.
    LastWhole,
    /// Kept: it was just made, whatever its date.
    JustMade,
    /// Kept: the newest before the one that was just made.
    LastBeforeTheNewOne,
    /// Kept: its date is in the future, so that no age can be told.
    InTheFuture,
    /// Kept: the source is gone, and its backups have a longer time.
    GoneNotLongEnough {
        /// That time.
        keep_days: u32,
    },
    /// Kept: no rule keeps it, but nothing of this source may be removed now; the plan's refusals say why.
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
    /// Removed: the source is gone, and its longer time is over too.
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
            Self::KeepDaily { keep } => write!(f, "the last of its day ({keep} days are kept)"),
            Self::KeepWeekly { keep } => write!(f, "the last of its week ({keep} weeks are kept)"),
            Self::KeepMonthly { keep } => write!(f, "the last of its month ({keep} months are kept)"),
            Self::KeepYearly { keep } => write!(f, "the last of its year ({keep} years are kept)"),
            Self::Protected => f.write_str("protected"),
            Self::BeforeSuddenChange => f.write_str("the last before a sudden change; `volbak accept` releases it"),
            Self::LastVerified => f.write_str("the last that was verified and is good"),
            Self::LastGood => f.write_str("the last good one"),
            Self::LastWhole => f.write_str("the last whole one: the newer ones are partial"),
            Self::JustMade => f.write_str("just made"),
            Self::LastBeforeTheNewOne => f.write_str("the last good one before the new one"),
            Self::InTheFuture => f.write_str("dated in the future"),
            Self::GoneNotLongEnough { keep_days } => {
                write!(f, "its volume is gone; kept until the newest is older than {}", days(i64::from(*keep_days)))
            }
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

/// Why nothing is removed, or what looks wrong. Each is for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no new backup of this source.
    NothingNew,
    /// The backup that is said to be new is not in the list, or is dated in the future.
    NewOneNotThere {
        /// Its id.
        id: String,
    },
    /// The backup that is said to be new is bad.
    NewOneIsBad {
        /// Its id.
        id: String,
    },
    /// Two backups have one id, so that the wrong one could be removed.
    SameIdTwice {
        /// The id.
        id: String,
    },
    /// The source is gone; its backups stay for now.
    Gone {
        /// In how many days they may go.
        left_days: i64,
        /// How many there are.
        backups: usize,
    },
    /// A backup is dated in the future. It is kept; the rest is handled as ever.
    InTheFuture {
        /// Its id.
        id: String,
        /// Its date.
        date: NaiveDate,
    },
    /// More days than the retention lie between the new backup and the one before it, which is kept.
    Gap {
        /// How many.
        days: i64,
        /// The date before the gap.
        from: NaiveDate,
        /// The new one's date.
        to: NaiveDate,
    },
    /// All plans together would remove more than half of all backups.
    TooMany {
        /// How many would be removed.
        removed: usize,
        /// Of how many.
        all: usize,
    },
}

impl Refusal {
    /// Whether it is an ordinary state of things (no new backup, a volume that is gone and whose time is not over),
    /// rather than something that somebody should look into.
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
            Self::SameIdTwice { id } => write!(f, "nothing was removed, since two backups are called {id}"),
            Self::Gone { left_days, backups } => {
                write!(f, "the volume is gone; its {backups} backups are kept for another {}", days(*left_days))
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
