//! The rules `keep_last`, `keep_daily`, `keep_weekly`, `keep_monthly` and `keep_yearly`.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};

use super::facts::{BackupFacts, Health};
use super::policy::Policy;
use super::reason::Reason;

/// The backups kept by `keep_*`; bad ones never are. `keep_last` keeps the newest, and as many of the newest whole
/// ones. Of each of the last days, weeks, months and years with a backup, the newest whole one is kept, or the
/// newest if none is whole.
pub(super) fn kept_by_calendar(believed: &[&BackupFacts], policy: &Policy) -> Vec<(String, Reason)> {
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
        let mut chosen: BTreeMap<(i32, u32), &BackupFacts> = BTreeMap::new();
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
