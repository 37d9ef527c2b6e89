//! Places on a smaller target: which partitions become smaller, and how far the following ones move.

use crate::units::{ByteLen, ByteRange};

/// Partitions start at multiples of this, and shrink by multiples of it, so that they stay aligned.
const ALIGNMENT_BYTES: u64 = 1 << 20;

/// A partition that may become smaller, or only move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Movable {
    /// Its name.
    pub name: String,
    /// Its place on the source.
    pub range: ByteRange,
    /// Its minimum size; its full size if it cannot become smaller.
    pub min_bytes: u64,
}

/// The partitions do not fit on the target even at their minimum sizes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the target is too small: the partitions end {over} after its usable end, and can be made smaller by {spare} only ({})",
    each.join("; ")
)]
pub(crate) struct TooSmall {
    /// How far the last partition extends past the target's usable end.
    over: ByteLen,
    /// How much smaller all of them together can become.
    spare: ByteLen,
    /// The need of each, in words.
    each: Vec<String>,
}

/// How much smaller each partition becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    /// The offset of a partition on the source, and the length removed at its end; ascending.
    takes: Vec<(u64, u64)>,
}

impl Shift {
    /// Shrinks partitions until all end before `usable_end`: from the last one backwards, each by as much as
    /// possible. The error states the figures.
    pub(super) fn fit(mut parts: Vec<Movable>, usable_end: u64) -> Result<Self, TooSmall> {
        parts.sort_by_key(|part| part.range.start);
        let end = parts.iter().filter_map(|part| part.range.end()).max().unwrap_or(0);
        let wanted = end.saturating_sub(usable_end);
        let mut left = wanted.next_multiple_of(ALIGNMENT_BYTES);
        let mut takes = Vec::new();
        for part in parts.iter().rev() {
            let spare = part.range.len.saturating_sub(part.min_bytes);
            let take = (spare - spare % ALIGNMENT_BYTES).min(left);
            if take > 0 {
                takes.push((part.range.start, take));
                left -= take;
            }
        }
        if left > 0 {
            let each = |part: &Movable| {
                let needed = if part.min_bytes < part.range.len { "needs" } else { "cannot be smaller than" };
                format!("{} has {} and {needed} {}", part.name, ByteLen(part.range.len), ByteLen(part.min_bytes))
            };
            let each: Vec<String> = parts.iter().map(each).collect();
            let spare = wanted.next_multiple_of(ALIGNMENT_BYTES) - left;
            return Err(TooSmall { over: ByteLen(wanted), spare: ByteLen(spare), each });
        }
        takes.reverse();
        Ok(Self { takes })
    }

    /// The new position of `offset`. For a range, convert both ends: a partition that became smaller ends earlier.
    pub(super) fn moved(&self, offset: u64) -> u64 {
        let before = self.takes.partition_point(|(start, _)| *start < offset);
        let sum = self.takes[..before].iter().fold(0_u64, |sum, (_, take)| sum.saturating_add(*take));
        offset.saturating_sub(sum)
    }

    /// The new position of a range.
    pub(super) fn moved_range(&self, range: ByteRange) -> ByteRange {
        let start = self.moved(range.start);
        let end = self.moved(range.start.saturating_add(range.len));
        ByteRange::new(start, end.saturating_sub(start))
    }
}

#[cfg(test)]
mod tests {
    use super::{Movable, Shift};
    use crate::units::ByteRange;

    const MIB: u64 = 1 << 20;

    fn part(name: &str, start: u64, len: u64, min: u64) -> Movable {
        Movable { name: name.to_owned(), range: ByteRange::new(start * MIB, len * MIB), min_bytes: min * MIB }
    }

    fn disk() -> Vec<Movable> {
        vec![part("p1", 1, 100, 100), part("p2", 101, 500, 200), part("p3", 601, 99, 99)]
    }

    #[test]
    fn partitions_with_free_space_shrink_and_the_rest_moves() {
        let shift = Shift::fit(disk(), 500 * MIB + 5).unwrap();
        assert_eq!(shift.moved_range(ByteRange::new(MIB, 100 * MIB)), ByteRange::new(MIB, 100 * MIB));
        assert_eq!(shift.moved_range(ByteRange::new(101 * MIB, 500 * MIB)), ByteRange::new(101 * MIB, 300 * MIB));
        assert_eq!(shift.moved_range(ByteRange::new(601 * MIB, 99 * MIB)), ByteRange::new(401 * MIB, 99 * MIB));
        assert_eq!(Shift::fit(disk(), 700 * MIB), Ok(Shift::default()));
    }

    #[test]
    fn a_disk_that_does_not_fit_is_refused_with_figures() {
        let why = Shift::fit(disk(), 300 * MIB).unwrap_err().to_string();
        assert!(why.contains("end 400 MiB after") && why.contains("smaller by 300 MiB"), "{why}");
        assert!(why.contains("p2 has 500 MiB and needs 200 MiB") && why.contains("p3 has 99 MiB and cannot"), "{why}");
    }

    #[test]
    fn ends_that_do_not_fit_in_64_bits_do_no_harm() {
        let odd = Movable { name: "p".to_owned(), range: ByteRange::new(u64::MAX, 5), min_bytes: 0 };
        assert!(Shift::fit(vec![odd], 0).is_ok());
    }
}
