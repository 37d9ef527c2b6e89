//! The order of volumes in a night that may not have the time for all.

use chrono::{DateTime, Utc};

use super::select::SelectedVolume;
use crate::report::{Outcome, Standing};
use crate::run::prune::{Shelf, shelf_of};

/// Sorts by the last turn, longest ago first. A turn is a started backup, whatever its result. By successful
/// backups alone, a volume that its time limit interrupts each night would come first each night, and others never.
pub(super) fn put_in_order(chosen: &mut [SelectedVolume], shelves: &[Shelf], standing: &Standing, now: DateTime<Utc>) {
    chosen.sort_by_cached_key(|one| {
        let name = &one.facts.lv;
        let newest = shelf_of(shelves, name).and_then(|shelf| shelf.backups.last());
        last_turn([newest.map(|newest| newest.taken_at), attempt(standing, name)], now)
    });
}

/// The start of the volume's last backup, as recorded by earlier nights.
fn attempt(standing: &Standing, name: &str) -> Option<DateTime<Utc>> {
    let volume = standing.volumes.get(name)?;
    // Older versions recorded only the last run, which may not have reached it.
    volume.last_attempt.or_else(|| (!matches!(volume.outcome, Outcome::NotStarted(_))).then_some(volume.at))
}

/// The latest turn. A turn in the future comes from a wrong clock, and would keep the volume last until then.
fn last_turn(turns: [Option<DateTime<Utc>>; 2], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    turns.into_iter().flatten().filter(|turn| *turn <= now).max()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration, Utc};

    use super::last_turn;

    #[test]
    fn a_turn_without_a_backup_counts_and_one_in_the_future_does_not() {
        let now = DateTime::<Utc>::UNIX_EPOCH + Duration::days(100);
        let ago = |days| Some(now - Duration::days(days));
        assert_eq!(last_turn([ago(30), ago(1)], now), ago(1));
        assert_eq!(last_turn([ago(1), None], now), ago(1));
        assert_eq!(last_turn([ago(-4), ago(3)], now), ago(3));
        assert_eq!(last_turn([ago(-4), None], now), None);
        // Without a turn it comes first.
        assert!(last_turn([None, None], now) < last_turn([ago(3000), None], now));
    }
}
