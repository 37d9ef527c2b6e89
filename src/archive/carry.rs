//! What can be taken from the previous backup, so that it need not be read and compressed again.
//!
//! [`parent`] reads the previous index once and remembers where its groups are; [`group`] reads one of them. A *group* is
//! what can be carried as a whole: one member with all entries in it, or the members of one large entry. `decide` compares
//! tonight's entries with those of a group, and knows no writer. `copy` puts a group that is the same into the archive,
//! after [`super::members`] has checked its members. `tally` counts what was carried.
//!
//! Memory: 24 bytes for each group, for at most a million of them.

pub(super) mod candidate;
pub(super) mod copy;
pub(super) mod decide;
pub mod group;
pub mod parent;
mod tally;

/// How often what is unchanged by all signs is read all the same, and the days on which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// All is read within this many days; 0 is never.
    pub every_days: u32,
    /// The day of the previous backup, counted from any fixed day.
    pub parent_day: i64,
    /// Today, counted likewise.
    pub today: i64,
}

impl Share {
    /// Whether a group is to be read today: it has its own day of every so many, by the key of its first path. Days
    /// since the previous backup on which there was none are made up for.
    pub fn is_due(&self, key: u64) -> bool {
        if self.every_days == 0 {
            return false;
        }
        let every = i64::from(self.every_days);
        let days = self.today - self.parent_day;
        // A clock that went back says nothing of what was read when.
        if days < 0 || days >= every {
            return true;
        }
        // Both are below 2^32.
        let own_day = i64::try_from(key % u64::from(self.every_days)).unwrap_or(0);
        let since = (self.today - own_day).rem_euclid(every);
        since < days
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn every_group_has_its_day_once_in_so_many() {
        for key in 0..100 {
            let due =
                (100..107).filter(|today| Share { every_days: 7, parent_day: today - 1, today: *today }.is_due(key));
            assert_eq!(due.count(), 1, "{key}");
        }
    }

    #[test]
    fn days_without_a_backup_are_made_up_for() {
        for key in 0..20 {
            let share = |parent_day, today| Share { every_days: 7, parent_day, today }.is_due(key);
            for gap in 1..7 {
                assert_eq!(share(100, 100 + gap), (101..=100 + gap).any(|day| share(day - 1, day)), "{key} {gap}");
            }
            assert!(!share(100, 100), "nothing is due twice a day");
            assert!(share(100, 107) && share(100, 99));
            assert!(!Share { every_days: 0, parent_day: 0, today: 1000 }.is_due(key));
            assert!(Share { every_days: 1, parent_day: 9, today: 10 }.is_due(key));
        }
    }
}
