//! Which backups of a source are kept and which are removed: a pure decision that can be printed, tested and refused
//! before anything is deleted. The time is an argument; nothing here reads a clock, a file or a directory.
//!
//! A backup is removed only when **no** rule keeps it. The rules that keep:
//!
//! - its own date is not more than `retention_days` days before today (calendar days, the host's);
//! - it is the newest of one of the last days, weeks, months or years that `keep_*` ask for;
//! - `volbak protect` keeps it, or it is the last one before a sudden change that was not accepted yet;
//! - it is one of the last good ones (see [`plan`]);
//! - its date lies in the future, so that somebody's clock was wrong.
//!
//! And nothing at all is removed unless a new, complete backup of the same source was just published, or the source is
//! gone for longer than `gone_days`. Across all sources, [`brake`] stops a run that would remove more than half of all
//! there is.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

mod reason;

pub use reason::{Reason, Refusal};

/// How far a backup's time may lie ahead of now and still be believed: clocks are set back by seconds and minutes.
const FUTURE_SLACK: Duration = Duration::hours(1);

/// What is known of a backup's worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It was read in full and compared, or restored for a test, and is good.
    Good,
    /// Nothing is known to be wrong, and it was never read in full: a quick check proves nothing.
    Unverified,
    /// It was verified, or looked at, and is damaged or incomplete. It never counts as a backup.
    Bad,
}

/// One backup of the source, as the catalog found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// What names it among all backups of its source; compared whole, never as a prefix.
    pub id: String,
    /// When it was taken, by its manifest.
    pub taken_at: DateTime<Utc>,
    /// The date in its name: the calendar day on the host when it was taken.
    pub local_date: NaiveDate,
    /// What is known of its worth.
    pub health: Health,
    /// Whether all that was selected is in it; a partial one lacks something.
    pub whole: bool,
    /// Kept by `volbak protect`.
    pub protected: bool,
    /// The last one before a sudden change, until `volbak accept`.
    pub pinned: bool,
    /// All its files together.
    pub size_bytes: u64,
}

/// How long a source's backups are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Backups not older than this many days are kept.
    pub retention_days: u32,
    /// So many of the newest backups are kept whatever their age.
    pub keep_last: u32,
    /// The newest backup of each of the last so many days that have one.
    pub keep_daily: u32,
    /// The newest backup of each of the last so many ISO weeks that have one.
    pub keep_weekly: u32,
    /// The newest backup of each of the last so many months that have one.
    pub keep_monthly: u32,
    /// The newest backup of each of the last so many years that have one.
    pub keep_yearly: u32,
    /// A gone source's backups are kept until the newest of them is older than this many days.
    pub gone_days: u32,
    /// Whether even the last good backup of a gone source goes after `gone_days`.
    pub remove_last_of_gone: bool,
}

/// A week.
impl Default for Policy {
    fn default() -> Self {
        Self::days(7)
    }
}

impl Policy {
    /// Keeps by age alone, and what is gone for 90 days, but at least as long as the rest.
    pub fn days(retention_days: u32) -> Self {
        Self {
            retention_days,
            keep_last: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
            gone_days: retention_days.max(90),
            remove_last_of_gone: false,
        }
    }
}

/// The moment to decide for, both as the clock seam gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time.
    pub utc: DateTime<Utc>,
    /// The calendar day on the host.
    pub local_date: NaiveDate,
}

/// Why a plan is asked for, which decides whether anything may be removed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion<'a> {
    /// A new, complete backup of this source was just published under this id. It must be among the backups.
    Published(&'a str),
    /// None is there yet: what would be removed if one came now (`--dry-run`, and [`brake`] before a run begins).
    Forecast,
    /// The source still exists, and has no new backup.
    NothingNew,
    /// The source no longer exists on the host.
    Gone,
}

/// What becomes of one backup, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The backup's id.
    pub id: String,
    /// All its files together.
    pub size_bytes: u64,
    /// Whether it is to be removed.
    pub remove: bool,
    /// Every rule that spoke: all that keep it, or the one that lets it go.
    pub reasons: Vec<Reason>,
}

/// What is to be done with the backups of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The source's name.
    pub source: String,
    /// One decision a backup, oldest first.
    pub decisions: Vec<Decision>,
    /// What somebody should know: why nothing was removed though something is old, or that a clock looks wrong.
    pub refusals: Vec<Refusal>,
}

impl Plan {
    /// The ids to remove, oldest first.
    pub fn removals(&self) -> impl Iterator<Item = &str> {
        self.decisions.iter().filter(|decision| decision.remove).map(|decision| decision.id.as_str())
    }

    /// How many bytes the files have that are removed; less is freed where they share blocks with others.
    pub fn freed_bytes(&self) -> u64 {
        let freed = self.decisions.iter().filter(|decision| decision.remove).map(|decision| decision.size_bytes);
        freed.fold(0, u64::saturating_add)
    }
}

/// Decides about all backups of one source. `backups` may be in any order and hold nothing of another source.
///
/// What counts as a last good one, and is never removed: the newest that was verified and is good, and the newest whole
/// one of these; the newest that is not bad, and the newest whole one of these; the one just published, also when the clock was wrong and others are newer by their dates; and the newest
/// besides that, since one backup alone, made under a clock that may be wrong, is too little to throw the others away for.
/// With a backup a night the last three rules only keep what is young anyway.
pub fn plan(source: &str, backups: &[Backup], policy: &Policy, now: Now, occasion: Occasion<'_>) -> Plan {
    let mut sorted: Vec<&Backup> = backups.iter().collect();
    sorted.sort_by(|a, b| (a.taken_at, &a.id).cmp(&(b.taken_at, &b.id)));
    let (believed, future): (Vec<&Backup>, Vec<&Backup>) =
        sorted.iter().copied().partition(|backup| !is_in_the_future(backup, now));

    let mut refusals: Vec<Refusal> =
        future.iter().map(|backup| Refusal::InTheFuture { id: backup.id.clone(), date: backup.local_date }).collect();
    let hold = reason_to_remove_nothing(&sorted, &believed, policy, now, occasion);
    refusals.extend(hold.clone());
    if let (Occasion::Published(id), None) = (occasion, &hold) {
        refusals.extend(gap_before(id, &believed, policy));
    }

    let awaited = (occasion == Occasion::Forecast).then(|| Backup {
        id: String::new(),
        taken_at: now.utc,
        local_date: now.local_date,
        health: Health::Unverified,
        whole: true,
        protected: false,
        pinned: false,
        size_bytes: 0,
    });
    let with_awaited: Vec<&Backup> = believed.iter().copied().chain(awaited.as_ref()).collect();
    let calendar = kept_by_calendar(&with_awaited, policy);
    let last_good = LastGood::of(&believed, occasion);
    let drops_last = occasion == Occasion::Gone && policy.remove_last_of_gone;
    let decisions = sorted
        .iter()
        .map(|&backup| {
            let mut reasons = Vec::new();
            if is_in_the_future(backup, now) {
                reasons.push(Reason::InTheFuture);
            }
            if backup.protected {
                reasons.push(Reason::Protected);
            }
            if backup.pinned {
                reasons.push(Reason::BeforeSuddenChange);
            }
            let age_days = age_days(backup, now);
            if occasion == Occasion::Gone {
                if hold.is_some() || age_days <= i64::from(policy.gone_days) {
                    reasons.push(Reason::GoneNotLongEnough { keep_days: policy.gone_days });
                }
            } else {
                if age_days <= i64::from(policy.retention_days) {
                    reasons.push(Reason::Young { age_days, retention_days: policy.retention_days });
                }
                reasons.extend(calendar.iter().filter(|(id, _)| *id == backup.id).map(|(_, reason)| reason.clone()));
            }
            if !drops_last {
                reasons.extend(last_good.reasons(&backup.id));
            }
            let remove = reasons.is_empty() && hold.is_none();
            if reasons.is_empty() {
                reasons.push(match &hold {
                    Some(_) => Reason::OnHold { age_days },
                    None if occasion == Occasion::Gone => Reason::GoneLongEnough { age_days },
                    None => Reason::Old { age_days, retention_days: policy.retention_days },
                });
            }
            Decision { id: backup.id.clone(), size_bytes: backup.size_bytes, remove, reasons }
        })
        .collect();
    Plan { source: source.to_owned(), decisions, refusals }
}

/// Looks at all plans of a run together: `Some` when they would remove more than half of all backups there are, and
/// nothing may then be removed without being told to by force.
///
/// Give it [`Occasion::Forecast`] plans of every source before the first removal: a wrong clock or a mistake in the
/// config shows there, before it costs anything.
pub fn brake(plans: &[Plan]) -> Option<Refusal> {
    let all: usize = plans.iter().map(|plan| plan.decisions.len()).sum();
    let removed: usize = plans.iter().map(|plan| plan.removals().count()).sum();
    (removed > all / 2).then_some(Refusal::TooMany { removed, all })
}

/// The last day on which all backups of a gone source are kept, for the report. `None` when there are none, or when
/// that day is over and what is left stays for good.
pub fn gone_kept_until(backups: &[Backup], policy: &Policy, now: Now) -> Option<NaiveDate> {
    let newest = backups.iter().map(|backup| backup.local_date).max()?;
    let until = newest.checked_add_signed(Duration::days(i64::from(policy.gone_days)))?;
    (until >= now.local_date).then_some(until)
}

fn is_in_the_future(backup: &Backup, now: Now) -> bool {
    is_future(backup.taken_at, now.utc)
}

/// Whether a backup taken at this time comes from a clock that was wrong: more than an hour ahead of `now`.
pub fn is_future(taken_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    taken_at > now.checked_add_signed(FUTURE_SLACK).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Whole calendar days; below zero when the host's day is behind the backup's.
fn age_days(backup: &Backup, now: Now) -> i64 {
    now.local_date.signed_duration_since(backup.local_date).num_days()
}

fn reason_to_remove_nothing(
    sorted: &[&Backup],
    believed: &[&Backup],
    policy: &Policy,
    now: Now,
    occasion: Occasion<'_>,
) -> Option<Refusal> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = sorted.iter().find(|backup| !seen.insert(&backup.id)) {
        return Some(Refusal::SameIdTwice { id: twice.id.clone() });
    }
    match occasion {
        Occasion::NothingNew => Some(Refusal::NothingNew),
        Occasion::Forecast => None,
        Occasion::Published(id) => match believed.iter().find(|backup| backup.id == id) {
            None => Some(Refusal::NewOneNotThere { id: id.to_owned() }),
            Some(new) if new.health == Health::Bad => Some(Refusal::NewOneIsBad { id: id.to_owned() }),
            Some(_) => None,
        },
        // A group that is not active for a night makes all its volumes look gone, also those with yearly backups that
        // are older than gone_days: the newest of all must be.
        Occasion::Gone => {
            let newest_age = sorted.iter().map(|backup| age_days(backup, now)).min()?;
            let left_days = i64::from(policy.gone_days) - newest_age;
            (left_days >= 0).then_some(Refusal::Gone { left_days: left_days.saturating_add(1), backups: sorted.len() })
        }
    }
}

/// A hole of more than the retention between the new backup and the one before it: a long outage, or a wrong clock.
fn gap_before(id: &str, believed: &[&Backup], policy: &Policy) -> Option<Refusal> {
    let at = believed.iter().position(|backup| backup.id == id)?;
    let new = believed.get(at)?;
    let before = believed.get(..at)?.iter().rev().find(|backup| backup.health != Health::Bad)?;
    let days = new.local_date.signed_duration_since(before.local_date).num_days();
    (days > i64::from(policy.retention_days)).then_some(Refusal::Gap {
        days,
        from: before.local_date,
        to: new.local_date,
    })
}

/// The backups that must not go because nothing better is left.
struct LastGood<'a> {
    verified: Option<&'a str>,
    verified_whole: Option<&'a str>,
    newest: Option<&'a str>,
    newest_whole: Option<&'a str>,
    new: Option<&'a str>,
    before_the_new_one: Option<&'a str>,
}

impl<'a> LastGood<'a> {
    fn of(believed: &[&'a Backup], occasion: Occasion<'_>) -> Self {
        let newest_first = || believed.iter().rev().copied();
        let not_bad = || newest_first().filter(|backup| backup.health != Health::Bad);
        let published = match occasion {
            Occasion::Published(new) => believed.iter().map(|backup| backup.id.as_str()).find(|id| *id == new),
            Occasion::Forecast | Occasion::NothingNew | Occasion::Gone => None,
        };
        let verified = || newest_first().filter(|backup| backup.health == Health::Good);
        let id = |backup: &'a Backup| backup.id.as_str();
        Self {
            verified: verified().next().map(id),
            verified_whole: verified().find(|backup| backup.whole).map(id),
            newest: not_bad().next().map(id),
            newest_whole: not_bad().find(|backup| backup.whole).map(id),
            new: published,
            before_the_new_one: published.and_then(|new| not_bad().find(|backup| backup.id != new)).map(id),
        }
    }

    fn reasons(&self, id: &str) -> impl Iterator<Item = Reason> {
        let is = |held: Option<&str>| held == Some(id);
        [
            (is(self.verified) || is(self.verified_whole)).then_some(Reason::LastVerified),
            is(self.newest).then_some(Reason::LastGood),
            (is(self.newest_whole) && !is(self.newest)).then_some(Reason::LastWhole),
            (is(self.new) && !is(self.newest)).then_some(Reason::JustMade),
            (is(self.before_the_new_one) && !is(self.newest)).then_some(Reason::LastBeforeTheNewOne),
        ]
        .into_iter()
        .flatten()
    }
}

/// What `keep_*` keep, bad ones never. `keep_last` keeps the newest, and as many of the newest whole ones. Of each of the
/// last days, weeks, months and years that have a backup, the newest whole one is kept, or else the newest.
fn kept_by_calendar(believed: &[&Backup], policy: &Policy) -> Vec<(String, Reason)> {
    let newest_first = || believed.iter().rev().copied().filter(|backup| backup.health != Health::Bad);
    let last = usize::try_from(policy.keep_last).unwrap_or(usize::MAX);
    let whole = newest_first().filter(|backup| backup.whole).take(last);
    let mut kept: Vec<(String, Reason)> = Vec::new();
    for backup in newest_first().take(last).chain(whole) {
        if !kept.iter().any(|(id, _)| *id == backup.id) {
            kept.push((backup.id.clone(), Reason::KeepLast { keep: policy.keep_last }));
        }
    }
    let mut periods = |keep: u32, period_of: fn(NaiveDate) -> (i32, u32), reason: fn(u32) -> Reason| {
        let keep_periods = usize::try_from(keep).unwrap_or(usize::MAX);
        let mut chosen: BTreeMap<(i32, u32), &Backup> = BTreeMap::new();
        for backup in newest_first() {
            let period = period_of(backup.local_date);
            let is_better = match chosen.get(&period) {
                Some(known) => !known.whole && backup.whole,
                None => chosen.len() < keep_periods,
            };
            if is_better {
                chosen.insert(period, backup);
            }
        }
        kept.extend(chosen.into_values().map(|backup| (backup.id.clone(), reason(keep))));
    };
    periods(policy.keep_daily, |date| (date.year(), date.ordinal()), |keep| Reason::KeepDaily { keep });
    periods(
        policy.keep_weekly,
        |date| (date.iso_week().year(), date.iso_week().week()),
        |keep| Reason::KeepWeekly { keep },
    );
    periods(policy.keep_monthly, |date| (date.year(), date.month()), |keep| Reason::KeepMonthly { keep });
    periods(policy.keep_yearly, |date| (date.year(), 0), |keep| Reason::KeepYearly { keep });
    kept
}

#[cfg(test)]
mod tests;
