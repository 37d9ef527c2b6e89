//! Which backups are kept because of a sudden change: the one that is pinned, or what is left of those before the change.

use crate::store::pins::Pin;
use crate::store::retention::{BackupFacts, Health};

/// Marks the backups that are kept until these changes are accepted.
pub(super) fn mark(backups: &mut [BackupFacts], pending: &[Pin]) {
    let mut kept: Vec<String> = pending.iter().flat_map(|pin| in_place_of(backups, pin)).collect();
    kept.extend(pending.iter().map(|pin| pin.kept.clone()));
    for backup in backups.iter_mut().filter(|backup| kept.contains(&backup.id)) {
        backup.pinned = true;
    }
}

/// The newest backup before the change that is not bad, and the newest whole one of these, if the pinned one is bad, damaged or
/// missing.
pub(super) fn in_place_of(backups: &[BackupFacts], pin: &Pin) -> Vec<String> {
    if backups.iter().any(|backup| backup.id == pin.kept && backup.health != Health::Bad) {
        return Vec::new();
    }
    let is_before = |backup: &&BackupFacts| {
        backup.taken_at < pin.changed_at && backup.id != pin.changed && backup.health != Health::Bad
    };
    let newest = backups.iter().filter(is_before).max_by_key(|backup| backup.taken_at);
    let newest_whole =
        backups.iter().filter(is_before).filter(|backup| backup.whole).max_by_key(|backup| backup.taken_at);
    let mut kept: Vec<String> = newest.into_iter().chain(newest_whole).map(|backup| backup.id.clone()).collect();
    kept.dedup();
    kept
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::mark;
    use crate::store::pins::Pin;
    use crate::store::retention::{BackupFacts, Health};

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    #[test]
    fn the_newest_before_the_change_and_the_newest_whole_one_stand_in() {
        let pin = Pin { kept: "5".to_owned(), changed: "6".to_owned(), changed_at: at(6), what: String::new() };
        let pinned = |change: &dyn Fn(&mut BackupFacts)| -> Vec<String> {
            let mut backups: Vec<BackupFacts> =
                (1..9).map(|day| BackupFacts::new(day.to_string(), at(day), at(day).date_naive())).collect();
            backups.iter_mut().for_each(change);
            mark(&mut backups, std::slice::from_ref(&pin));
            backups.into_iter().filter(|backup| backup.pinned).map(|backup| backup.id).collect()
        };
        assert_eq!(pinned(&|_| {}), ["5"]);
        assert_eq!(pinned(&|backup| backup.id = backup.id.replace('5', "gone")), ["gone"], "it is only called so");
        let bad = |ids: &[&str], backup: &mut BackupFacts| {
            if ids.contains(&backup.id.as_str()) {
                backup.health = Health::Bad;
            }
        };
        assert_eq!(pinned(&|backup| bad(&["5", "4"], backup)), ["3", "5"]);
        let partial = |backup: &mut BackupFacts| {
            bad(&["5"], backup);
            backup.whole = backup.id != "4";
        };
        assert_eq!(pinned(&partial), ["3", "4", "5"]);
        assert_eq!(pinned(&|backup| bad(&["1", "2", "3", "4", "5"], backup)), ["5"]);
    }
}
