//! Backups of other volumes that have, or had, the name of the source: a volume that was recreated or migrated, or that of
//! another host with the same hostname.

use std::collections::BTreeMap;

use super::{BackupFacts, Health, Now, Policy, age_days};

/// Of each volume but that of the newest backup: the newest backup that is not bad, until it is older than `gone_days`, and as long
/// as that the newest whole one. Bad ones do not count at all: they are removed. `believed` is ordered by date.
pub(super) fn last_of_replaced<'a>(believed: &[&'a BackupFacts], policy: &Policy, now: Now) -> Vec<&'a str> {
    let newest_first = || believed.iter().rev().copied().filter(|backup| backup.health != Health::Bad);
    let mut by_volume: BTreeMap<&str, Vec<&'a BackupFacts>> = BTreeMap::new();
    for backup in newest_first() {
        if let Some(volume) = &backup.volume {
            by_volume.entry(volume).or_default().push(backup);
        }
    }
    if let Some(present) = newest_first().next().and_then(|backup| backup.volume.as_deref()) {
        by_volume.remove(present);
    }
    let kept = by_volume.values().filter_map(|backups| {
        let newest = backups.first().filter(|newest| age_days(newest, now) <= i64::from(policy.gone_days))?;
        let newest_whole = backups.iter().find(|backup| backup.whole);
        Some([Some(newest), newest_whole])
    });
    kept.flatten().flatten().map(|backup| backup.id.as_str()).collect()
}
