//! Selects the backups to verify now: those verified longest ago, so that each has its turn.

use chrono::{DateTime, TimeDelta, Utc};

use crate::run::check::{CheckLevel, record};
use crate::store::Backup;
use crate::store::retention::is_future;

/// Backups without a verdict after which no others take their turn.
pub const MOST_WITHOUT_VERDICT: usize = 20;

/// A backup that may be due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueBackup {
    /// The backup.
    pub files: Backup,
    /// Its start; `None` without a manifest.
    pub taken_at: Option<DateTime<Utc>>,
    /// Its last verification at the level of this one or above, whatever the verdict.
    pub last_look: Option<DateTime<Utc>>,
}

impl DueBackup {
    /// Reads the facts about a backup. `level` is the level of the verification.
    pub fn read(files: Backup, level: CheckLevel) -> Self {
        let taken_at = files.manifest().map(|manifest| manifest.started_at);
        let last_look = record::of(&files).and_then(|record| record.last_look(level));
        Self { files, taken_at, last_look }
    }
}

/// The backups that are due, in order: first those never verified, then by the time of the last verification, then
/// by age, and then by name. The order is deterministic. With `older_than`, only those whose last verification is older than
/// this, or that have none.
pub fn in_turn(mut candidates: Vec<DueBackup>, older_than: Option<TimeDelta>, now: DateTime<Utc>) -> Vec<Backup> {
    // The clock was wrong then.
    for candidate in &mut candidates {
        candidate.last_look = candidate.last_look.filter(|look| !is_future(*look, now));
    }
    if let Some(age) = older_than {
        // No verification is older than the earliest time.
        let limit = now.checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
        candidates.retain(|candidate| candidate.last_look.is_none_or(|look| look < limit));
    }
    candidates.sort_by(|a, b| {
        let key = |one: &DueBackup| (one.last_look, one.taken_at);
        let name = |one: &DueBackup| (one.files.directory().to_owned(), one.files.stem().to_owned());
        key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b)))
    });
    candidates.into_iter().map(|candidate| candidate.files).collect()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::{DueBackup, in_turn};
    use crate::store::Backup;

    fn day(number: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(number)
    }

    fn candidate(stem: &str, taken: Option<i64>, look: Option<i64>) -> DueBackup {
        let files = Backup::in_directory("d", stem);
        DueBackup { files, taken_at: taken.map(day), last_look: look.map(day) }
    }

    fn chosen(days: Option<i64>) -> Vec<String> {
        let all = vec![
            candidate("seen-twice", Some(1), Some(90)),
            candidate("seen-long-ago", Some(5), Some(10)),
            candidate("new-b", Some(80), None),
            candidate("new-a", Some(80), None),
            candidate("old", Some(2), None),
            candidate("no-manifest", None, None),
        ];
        in_turn(all, days.map(TimeDelta::days), day(100)).into_iter().map(|files| files.stem().to_owned()).collect()
    }

    #[test]
    fn those_that_never_had_a_look_come_first_and_then_the_longest_ago() {
        let order = ["no-manifest", "old", "new-a", "new-b", "seen-long-ago", "seen-twice"];
        assert_eq!(chosen(None), order);
    }

    #[test]
    fn a_look_is_old_when_it_is_longer_ago_than_was_said() {
        assert_eq!(chosen(Some(9)).last().unwrap(), "seen-twice");
        assert_eq!(chosen(Some(10)).last().unwrap(), "seen-long-ago");
        assert_eq!(chosen(Some(i64::from(u32::MAX))).len(), 4);
    }
}
