//! Decides which backups of a source are kept and which are removed. The decision is pure: it can be printed,
//! tested and refused before anything is deleted. The time is an argument; no clock, file or directory is read
//! here.
//!
//! A backup is removed only if **no** rule keeps it. The rules that keep a backup:
//!
//! - its own date is not more than `retention_days` days before today (calendar days, the host's);
//! - it is the newest of one of the last days, weeks, months or years that `keep_*` ask for;
//! - `volbak protect` keeps it, or it is the last one before a sudden change that was not accepted yet;
//! - its store keeps it from being deleted (object lock);
//! - it is one of the last good ones (see [`plan`]), or one of those of another volume that had the name of the source;
//! - its date is in the future, which means that a clock was wrong;
//! - it belongs to a set, and another member of the set is kept, or the set is the newest whole one of its group.
//!
//! Nothing is removed unless a new, complete backup of the same source was just published, or the source has been
//! gone for longer than `gone_days`. Across all sources, [`brake`] stops a run that would remove more than half of
//! all backups.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, NaiveDate, Utc};

mod calendar;
mod facts;
mod policy;
mod reason;
mod replaced;
mod sets;

use calendar::kept_by_calendar;
pub use facts::{BackupFacts, Health, SetFacts};
pub use policy::Policy;
pub use reason::{Reason, Refusal};
use replaced::last_of_replaced;
pub(crate) use sets::keep_sets;

/// How far ahead of now a backup's time may be: clocks are corrected by seconds or minutes.
const FUTURE_SLACK: Duration = Duration::hours(1);

/// The current time, in both forms of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time.
    pub utc: DateTime<Utc>,
    /// The host's calendar day.
    pub local_date: NaiveDate,
}

/// The occasion of a plan, which decides whether anything may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion<'a> {
    /// A new, complete backup of this source was just published under this id. It must be in the list.
    Published(&'a str),
    /// No new backup yet: what would be removed if one were published now (`--dry-run`, and [`brake`] before a run
    /// begins).
    Forecast,
    /// The source exists, and has no new backup.
    NothingNew,
    /// The source no longer exists on the host.
    Gone,
}

/// The decision for one backup, with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The backup's id.
    pub id: String,
    /// The total size of its files.
    pub size_bytes: u64,
    /// Whether it is removed.
    pub remove: bool,
    /// All rules that keep it, or the rule that removes it.
    pub reasons: Vec<Reason>,
}

/// The decisions for the backups of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The source's name.
    pub source: String,
    /// One decision per backup, oldest first.
    pub decisions: Vec<Decision>,
    /// Findings for the operator: why old backups were not removed, or that a clock looks wrong.
    pub refusals: Vec<Refusal>,
}

impl Plan {
    /// The ids to remove, oldest first.
    pub fn removals(&self) -> impl Iterator<Item = &str> {
        self.decisions.iter().filter(|decision| decision.remove).map(|decision| decision.id.as_str())
    }

    /// The total size of the removed files; less is freed where they share blocks with others.
    pub fn freed_bytes(&self) -> u64 {
        let freed = self.decisions.iter().filter(|decision| decision.remove).map(|decision| decision.size_bytes);
        freed.fold(0, u64::saturating_add)
    }
}

/// Decides about all backups of one source. `backups` may be in any order, and must all be of this source. Of volumes that
/// had its name before, the last good ones are kept for `gone_days`.
///
/// These count as last good backups and are never removed:
///
/// - the newest that was verified and is good, and the newest whole one of these;
/// - the newest that is not bad, and the newest whole one of these;
/// - the one just published, even if a wrong clock made others look newer;
/// - the newest before that one: a single backup, made under a clock that may be wrong, does not justify removing
///   all others.
///
/// With a backup every night, the last three rules only keep backups that are young anyway.
pub fn plan(source: &str, backups: &[BackupFacts], policy: &Policy, now: Now, occasion: Occasion<'_>) -> Plan {
    let mut sorted: Vec<&BackupFacts> = backups.iter().collect();
    sorted.sort_by(|a, b| (a.taken_at, &a.id).cmp(&(b.taken_at, &b.id)));
    let (believed, future): (Vec<&BackupFacts>, Vec<&BackupFacts>) =
        sorted.iter().copied().partition(|backup| !is_in_the_future(backup, now));

    let mut refusals: Vec<Refusal> =
        future.iter().map(|backup| Refusal::InTheFuture { id: backup.id.clone(), date: backup.local_date }).collect();
    let hold = reason_to_remove_nothing(&sorted, &believed, policy, now, occasion);
    refusals.extend(hold.clone());
    if let (Occasion::Published(id), None) = (occasion, &hold) {
        refusals.extend(gap_before(id, &believed, policy));
    }

    let awaited = (occasion == Occasion::Forecast).then(|| BackupFacts::new(String::new(), now.utc, now.local_date));
    let with_awaited: Vec<&BackupFacts> = believed.iter().copied().chain(awaited.as_ref()).collect();
    let calendar = kept_by_calendar(&with_awaited, policy);
    let last_good = LastGood::of(&believed, occasion);
    let last_of_replaced = last_of_replaced(&believed, policy, now);
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
            reasons.extend(backup.locked_until.filter(|until| *until > now.utc).map(|until| Reason::Locked { until }));
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
            if last_of_replaced.contains(&backup.id.as_str()) {
                reasons.push(Reason::LastOfReplaced { keep_days: policy.gone_days });
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

/// Checks all plans of a run together: `Some` if they would remove more than half of all backups. Nothing may then
/// be removed without `--force`.
///
/// Call it with [`Occasion::Forecast`] plans of every source before the first removal, so that a wrong clock or a
/// mistake in the config shows before any loss.
pub fn brake(plans: &[Plan]) -> Option<Refusal> {
    let all: usize = plans.iter().map(|plan| plan.decisions.len()).sum();
    let removed: usize = plans.iter().map(|plan| plan.removals().count()).sum();
    (removed > all / 2).then_some(Refusal::TooMany { removed, all })
}

/// The last day on which all backups of a gone source are kept, for the report. `None` if there are none, or if
/// that day has passed and the rest is kept for good.
pub fn gone_kept_until(backups: &[BackupFacts], policy: &Policy, now: Now) -> Option<NaiveDate> {
    let newest = backups.iter().map(|backup| backup.local_date).max()?;
    let until = newest.checked_add_signed(Duration::days(i64::from(policy.gone_days)))?;
    (until >= now.local_date).then_some(until)
}

fn is_in_the_future(backup: &BackupFacts, now: Now) -> bool {
    is_future(backup.taken_at, now.utc)
}

/// Whether a backup's time shows a wrong clock: more than an hour ahead of `now`.
pub fn is_future(taken_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    taken_at > now.checked_add_signed(FUTURE_SLACK).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Whole calendar days; negative if the host's day is before the backup's.
fn age_days(backup: &BackupFacts, now: Now) -> i64 {
    now.local_date.signed_duration_since(backup.local_date).num_days()
}

fn reason_to_remove_nothing(
    sorted: &[&BackupFacts],
    believed: &[&BackupFacts],
    policy: &Policy,
    now: Now,
    occasion: Occasion<'_>,
) -> Option<Refusal> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = sorted.iter().find(|backup| !seen.insert(&backup.id)) {
        return Some(Refusal::SameIdTwice { id: twice.id.clone() });
    }
    if let Some(unknown) = sorted.iter().find(|backup| backup.health == Health::Unknown) {
        return Some(Refusal::HealthUnknown { id: unknown.id.clone() });
    }
    match occasion {
        Occasion::NothingNew => Some(Refusal::NothingNew),
        Occasion::Forecast => None,
        Occasion::Published(id) => match believed.iter().find(|backup| backup.id == id) {
            None => Some(Refusal::NewOneNotThere { id: id.to_owned() }),
            Some(new) if new.health == Health::Bad => Some(Refusal::NewOneIsBad { id: id.to_owned() }),
            Some(_) => None,
        },
        // A volume group that is inactive for a night makes all its volumes look gone, including those with
        // yearly backups older than gone_days. So the age of the newest backup decides.
        Occasion::Gone => {
            let newest_age = sorted.iter().map(|backup| age_days(backup, now)).min()?;
            let left_days = i64::from(policy.gone_days) - newest_age;
            (left_days >= 0).then_some(Refusal::Gone { left_days: left_days.saturating_add(1), backups: sorted.len() })
        }
    }
}

/// A gap longer than the retention between the new backup and the one before it: a long outage, or a wrong clock.
fn gap_before(id: &str, believed: &[&BackupFacts], policy: &Policy) -> Option<Refusal> {
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

/// Backups that must not be removed because nothing better is left.
struct LastGood<'a> {
    verified: Option<&'a str>,
    verified_whole: Option<&'a str>,
    newest: Option<&'a str>,
    newest_whole: Option<&'a str>,
    new: Option<&'a str>,
    before_the_new_one: Option<&'a str>,
}

impl<'a> LastGood<'a> {
    fn of(believed: &[&'a BackupFacts], occasion: Occasion<'_>) -> Self {
        let newest_first = || believed.iter().rev().copied();
        let not_bad = || newest_first().filter(|backup| backup.health != Health::Bad);
        let published = match occasion {
            Occasion::Published(new) => believed.iter().map(|backup| backup.id.as_str()).find(|id| *id == new),
            Occasion::Forecast | Occasion::NothingNew | Occasion::Gone => None,
        };
        let verified = || newest_first().filter(|backup| backup.health == Health::Good);
        let id = |backup: &'a BackupFacts| backup.id.as_str();
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

#[cfg(test)]
mod tests;
