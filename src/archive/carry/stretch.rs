//! Which unchanged groups are re-read where ranges of the previous archive are copied: one stretch of it a day, which goes
//! on where the last one ended. Single groups all over it, as [`super::Share`] chooses them, would leave no range to copy.

use super::Share;

/// The stretch of the previous archive that is re-read today, in offsets of its tar stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) struct Stretch {
    from: u64,
    len: u64,
    total: u64,
    /// Where the next stretch begins, in the new tar stream.
    next: Option<u64>,
}

impl Stretch {
    /// `from`: where the last stretch ended in the tar stream of the previous archive, which has `total` bytes.
    pub(in crate::archive) fn new(share: &Share, from: u64, total: u64) -> Self {
        let days = share.today - share.parent_day;
        let every = i64::from(share.every_days);
        let len = match u64::try_from(days) {
            _ if every == 0 => 0,
            Ok(days) if days < u64::from(share.every_days) => {
                u64::try_from((u128::from(total) * u128::from(days)).div_ceil(u128::from(share.every_days)))
                    .unwrap_or(total)
            }
            // After a clock went back, it is unknown what was read when.
            _ => total,
        };
        Self { from: if from < total { from } else { 0 }, len, total, next: None }
    }

    /// Whether the group at this offset is re-read. `written` bytes of the new tar stream are written.
    pub(in crate::archive) fn is_due(&mut self, offset: u64, written: u64) -> bool {
        let since = if offset >= self.from { offset - self.from } else { offset + (self.total - self.from) };
        if since < self.len {
            return true;
        }
        // The first group behind the stretch, which may have wrapped around the end.
        let end = self.from.saturating_add(self.len);
        let is_behind = if end >= self.total { offset < self.from } else { offset >= end };
        if is_behind && self.next.is_none() {
            self.next = Some(written);
        }
        false
    }

    /// Where the next stretch begins in the new tar stream.
    pub(in crate::archive) fn next(&self) -> u64 {
        self.next.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Share, Stretch};

    fn share(days: i64) -> Share {
        Share { every_days: 7, parent_day: 100, today: 100 + days }
    }

    #[test]
    fn seven_nights_read_everything_once_though_the_archive_grows() {
        let (mut from, mut read) = (0, vec![0_u32; 1000]);
        for night in 0..7 {
            // Each night has ten new groups at its start, which are read anyway.
            let mut stretch = Stretch::new(&share(1), from, 1000 + 10 * night);
            for at in 0..1000 + 10 * night {
                let is_due = stretch.is_due(at, at + 10);
                if is_due && at >= 10 * night {
                    read[usize::try_from(at - 10 * night).unwrap()] += 1;
                }
            }
            from = stretch.next();
        }
        assert!(read.iter().all(|count| (1..=2).contains(count)), "{read:?}");
        assert!(read.iter().filter(|count| **count == 2).count() < 100);
    }

    #[test]
    fn days_without_a_backup_are_made_up_for() {
        let due = |days, every_days| {
            let mut stretch = Stretch::new(&Share { every_days, ..share(days) }, 900, 1000);
            (0..1000).filter(|at| stretch.is_due(*at, *at)).count()
        };
        assert_eq!((due(0, 7), due(1, 7), due(3, 7), due(7, 7), due(30, 7)), (0, 143, 429, 1000, 1000));
        assert_eq!((due(-1, 7), due(30, 0)), (1000, 0));
    }
}
