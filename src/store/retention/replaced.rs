//! Backups of other volumes that have, or had, the name of the source: a volume that was recreated or migrated, or that of
//! another host with the same hostname.

use std::collections::BTreeMap;

use super::{BackupFacts, Health, Now, Policy, age_days};

/// Of each volume but that of the newest backup: the newest backup that is not bad, and the newest whole one of these, until
/// its newest backup is older than `gone_days`. `believed` is ordered by date.
pub(super) fn last_of_replaced<'a>(believed: &[&'a BackupFacts], policy: &Policy, now: Now) -> Vec<&'a str> {
    let mut by_volume: BTreeMap<&str, Vec<&'a BackupFacts>> = BTreeMap::new();
    for backup in believed {
        if let Some(volume) = &backup.volume {
            by_volume.entry(volume).or_default().push(backup);
        }
    }
    if let Some(present) = believed.iter().rev().find_map(|backup| backup.volume.as_deref()) {
        by_volume.remove(present);
    }
    let is_recent = |backups: &&Vec<&BackupFacts>| {
        backups.last().is_some_and(|newest| age_days(newest, now) <= i64::from(policy.gone_days))
    };
    by_volume
        .values()
        .filter(is_recent)
        .flat_map(|backups| {
            let not_bad = || backups.iter().rev().filter(|backup| backup.health != Health::Bad);
            not_bad().next().into_iter().chain(not_bad().find(|backup| backup.whole))
        })
        .map(|backup| backup.id.as_str())
        .collect()
}
