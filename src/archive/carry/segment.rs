//! Decides which unchanged groups an object store copies, and which are read again.
//!
//! A part of an upload has a least length, unless it is the last. So unchanged groups that are adjacent in the previous
//! archive are held until they are long enough for a copy; shorter ranges are read again. What was read since the last copy
//! must be as long before the next copy: the groups that follow a change are read again for that. An isolated change
//! therefore costs about the least length of a part.

use std::collections::VecDeque;

use crate::archive::members::OpenPart;

/// What a part has at least in the S3 API.
const LEAST_BYTES: u64 = 5 << 20;
/// A group that is longer in the tar stream is not read again to fill a part: the part gets padding instead.
const MOST_TO_FILL: u64 = 64 << 20;
/// The approximate maximum size of the entries of groups that are held. If it is exceeded, they are read: their data are
/// few.
const MOST_HELD: usize = 32 << 20;

/// A group of the previous archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) struct Piece {
    /// Its offset in that archive.
    pub(in crate::archive) offset: u64,
    /// Its length there.
    pub(in crate::archive) length: u64,
    /// Its length in the tar stream.
    pub(in crate::archive) tar_length: u64,
    /// The approximate memory that its entries take.
    pub(in crate::archive) weight: usize,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// What happens to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) enum Step {
    /// It continues the copy.
    Copy,
    /// It is held. Call [`Plan::settle`] if [`Plan::is_enough`].
    Hold,
    /// The held groups are read first, before it is offered again.
    ReadHeld,
}

/// What happens to the held groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) enum Settled {
    /// They are copied.
    Copy,
    /// The first of them, so many, are read.
    Read(usize),
}

/// The groups that are held, and the copy that goes on.
#[derive(Debug)]
pub(in crate::archive) struct Plan {
    /// The end of the copy in the previous archive, if the last thing that was written is one.
    copied_to: Option<u64>,
    held: VecDeque<Piece>,
    held_bytes: u64,
    held_weight: usize,
    least_bytes: u64,
}

impl Plan {
    pub(in crate::archive) fn new() -> Self {
        Self { copied_to: None, held: VecDeque::new(), held_bytes: 0, held_weight: 0, least_bytes: LEAST_BYTES }
    }

    /// Takes the next unchanged group.
    pub(in crate::archive) fn offer(&mut self, piece: Piece) -> Step {
        if self.held.is_empty() && self.copied_to == Some(piece.offset) {
            self.copied_to = Some(piece.end());
            return Step::Copy;
        }
        let follows = self.held.back().is_none_or(|last| last.end() == piece.offset);
        let has_room = self.held.is_empty() || self.held_weight.saturating_add(piece.weight) <= MOST_HELD;
        if !follows || !has_room {
            return Step::ReadHeld;
        }
        self.held.push_back(piece);
        self.held_bytes = self.held_bytes.saturating_add(piece.length);
        self.held_weight = self.held_weight.saturating_add(piece.weight);
        Step::Hold
    }

    /// Notes that all held groups, and something else perhaps, are read.
    pub(in crate::archive) fn read_held(&mut self) {
        *self = Self { least_bytes: self.least_bytes, ..Self::new() };
    }

    /// Whether the held groups are long enough to be copied.
    pub(in crate::archive) fn is_enough(&self) -> bool {
        self.held_bytes >= self.least_bytes
    }

    /// Decides on the held groups, which are enough. `open` is what was written since the last copy; nothing waits.
    pub(in crate::archive) fn settle(&mut self, open: OpenPart) -> Settled {
        self.least_bytes = open.least_bytes;
        if !self.is_enough() {
            return Settled::Read(0);
        }
        let lacking = if open.bytes == 0 { 0 } else { open.least_bytes.saturating_sub(open.bytes) };
        let (mut count, mut filled) = (0, 0);
        for piece in &self.held {
            // Compressed again, they may be a little shorter.
            if filled >= lacking.saturating_add(lacking / 16) || self.is_too_long(piece) {
                break;
            }
            (count, filled) = (count + 1, filled + piece.length);
        }
        if count == 0 {
            let end = self.held.back().map(Piece::end);
            self.read_held();
            self.copied_to = end;
            return Settled::Copy;
        }
        for piece in self.held.drain(..count) {
            self.held_bytes -= piece.length;
            self.held_weight -= piece.weight;
        }
        self.copied_to = None;
        Settled::Read(count)
    }

    /// Whether it is too long to be read, and long enough for a copy by itself.
    fn is_too_long(&self, piece: &Piece) -> bool {
        piece.length >= self.least_bytes && piece.tar_length > MOST_TO_FILL
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_HELD, Piece, Plan, Settled, Step};
    use crate::archive::members::OpenPart;

    const MIB: u64 = 1 << 20;

    fn piece(offset: u64, length: u64) -> Piece {
        Piece { offset, length, tar_length: length * 2, weight: 100 }
    }

    fn open(bytes: u64) -> OpenPart {
        OpenPart { bytes, least_bytes: 5 * MIB }
    }

    /// What is read and copied of 1 MiB groups, of which those in `changed` are read anyway: lengths, each with whether it is
    /// copied.
    fn planned(groups: u64, changed: &[u64], least_bytes: u64) -> Vec<(bool, u64)> {
        let (mut plan, mut held, mut done) = (Plan::new(), 0, Vec::<(bool, u64)>::new());
        let mut add = |is_copy, bytes| match done.last_mut() {
            Some((last, sum)) if *last == is_copy => *sum += bytes,
            _ => done.push((is_copy, bytes)),
        };
        let mut fresh = 0;
        for at in 0..groups {
            if changed.contains(&at) {
                plan.read_held();
                add(false, (held + 1) * MIB);
                (fresh, held) = (fresh + held + 1, 0);
                continue;
            }
            match plan.offer(piece(at * MIB, MIB)) {
                Step::Copy => add(true, MIB),
                Step::Hold => held += 1,
                Step::ReadHeld => unreachable!("all are adjacent"),
            }
            while plan.is_enough() && held > 0 {
                match plan.settle(OpenPart { bytes: fresh * MIB, least_bytes }) {
                    Settled::Copy => {
                        add(true, held * MIB);
                        (held, fresh) = (0, 0);
                    }
                    Settled::Read(count) => {
                        add(false, count as u64 * MIB);
                        (held, fresh) = (held - count as u64, fresh + count as u64);
                        if count == 0 {
                            break;
                        }
                    }
                }
            }
        }
        add(false, held * MIB);
        done.retain(|(_, bytes)| *bytes > 0);
        done
    }

    #[test]
    fn an_isolated_change_costs_about_the_least_part() {
        assert_eq!(planned(2000, &[], 5 * MIB), [(true, 2000 * MIB)]);
        assert_eq!(planned(2000, &[999], 5 * MIB), [(true, 999 * MIB), (false, 6 * MIB), (true, 995 * MIB)]);
        assert_eq!(planned(2000, &[0], 5 * MIB), [(false, 6 * MIB), (true, 1994 * MIB)]);
        assert_eq!(planned(2000, &[1999], 5 * MIB), [(true, 1999 * MIB), (false, MIB)]);
        assert_eq!(planned(2000, &[999], 32 * MIB), [(true, 999 * MIB), (false, 33 * MIB), (true, 968 * MIB)]);
    }

    #[test]
    fn every_part_before_the_last_has_its_least_length_wherever_changes_are() {
        for seed in 0..200_u64 {
            let is_changed =
                |at: &u64| (at.wrapping_mul(seed * 2 + 0x9e37_79b9_7f4a_7c15) >> 40).is_multiple_of(seed + 2);
            let changed: Vec<u64> = (0..300).filter(is_changed).collect();
            for least in [5, 8, 32] {
                let done = planned(300, &changed, least * MIB);
                assert_eq!(done.iter().map(|(_, bytes)| bytes).sum::<u64>(), 300 * MIB);
                let most = done.len().saturating_sub(1);
                assert!(done[..most].iter().all(|(_, bytes)| *bytes >= least.min(5) * MIB), "{seed} {least}: {done:?}");
            }
        }
    }

    #[test]
    fn ranges_that_are_not_adjacent_or_have_too_many_entries_are_read() {
        let mut plan = Plan::new();
        assert_eq!(plan.offer(piece(0, MIB)), Step::Hold);
        assert_eq!(plan.offer(piece(2 * MIB, MIB)), Step::ReadHeld);
        plan.read_held();
        assert_eq!(plan.offer(Piece { weight: MOST_HELD, ..piece(2 * MIB, MIB) }), Step::Hold);
        assert_eq!(plan.offer(piece(3 * MIB, MIB)), Step::ReadHeld);
        plan.read_held();
        // After a copy, one that is not adjacent begins another one.
        assert_eq!(plan.offer(piece(0, 6 * MIB)), Step::Hold);
        assert_eq!(plan.settle(open(0)), Settled::Copy);
        assert_eq!((plan.offer(piece(6 * MIB, 1)), plan.offer(piece(8 * MIB, 6 * MIB))), (Step::Copy, Step::Hold));
        assert_eq!(plan.settle(open(0)), Settled::Copy);
    }

    #[test]
    fn a_huge_file_is_not_read_to_fill_a_part() {
        let huge = Piece { tar_length: 1 << 34, ..piece(2 * MIB, 1 << 33) };
        let mut plan = Plan::new();
        assert_eq!((plan.offer(piece(0, 2 * MIB)), plan.offer(huge)), (Step::Hold, Step::Hold));
        assert_eq!(plan.settle(open(MIB)), Settled::Read(1), "what lies before it fills a part");
        assert_eq!(plan.settle(open(3 * MIB)), Settled::Copy, "with padding");
        // One that compresses to little cannot be copied by itself.
        let zeros = Piece { tar_length: 1 << 30, ..piece(0, MIB) };
        assert_eq!((plan.offer(zeros), plan.is_enough()), (Step::Hold, false));
    }
}
