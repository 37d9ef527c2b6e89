//! Carries content forward from the previous backup, so that it need not be read and compressed again.
//!
//! [`parent`] reads the previous index once and records where its groups are; [`group`] reads one of them. A
//! *group* can be carried only as a whole: one member with all entries in it, or the members of one large entry.
//! `decide` compares the entries of the walk with those of a group; it does not write. `copy` puts an unchanged
//! group into the archive, after [`super::members`] has checked its members. `tally` counts what was carried.
//! `segment` decides what an object store copies, and `stretch` what is re-read there. `known_data` finds the members
//! of large files that changed and of raw images, which are read completely, by the digest of their data.
//!
//! Memory: 24 bytes per group or member of a large file or image, for at most a million of both.

pub(super) mod candidate;
pub(super) mod copy;
pub(super) mod decide;
pub mod group;
pub(super) mod known_data;
pub mod parent;
pub(super) mod segment;
mod stretch;
mod tally;

/// The schedule for re-reading unchanged content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Everything is re-read within this many days; 0 means never.
    pub every_days: u32,
    /// The day of the previous backup, counted from any fixed day.
    pub parent_day: i64,
    /// Today, counted from the same day.
    pub today: i64,
}

impl Share {
    /// Whether a group is to be re-read today. The key of its first path assigns it one day of the period. Groups
    /// that fell due since the previous backup are due too.
    pub fn is_due(&self, key: u64) -> bool {
        if self.every_days == 0 {
            return false;
        }
        let every = i64::from(self.every_days);
        let days = self.today - self.parent_day;
        // After a clock went back, it is unknown what was read when.
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
