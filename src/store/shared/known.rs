//! The members of the previous archive that come next, by the digest of their bytes.
//!
//! Most of what is read again gives the same members as the night before, in the same order. So it is enough to know those
//! that come next there, and memory does not grow with the archive.

use std::collections::{HashMap, VecDeque};

use crate::archive::members::{KnownMember, KnownMembersOf};

/// Members that are known at a time: those of some hundred MiB.
const AHEAD: usize = 16 << 10;
/// How many of these may lie behind what was found last.
const BEHIND: usize = 4 << 10;

/// A window over the members of the previous archive.
pub(super) struct Known {
    next: KnownMembersOf,
    window: VecDeque<KnownMember>,
    by_digest: HashMap<[u8; 32], u64>,
    /// The end of what was found last.
    found_to: u64,
}

impl Known {
    pub(super) fn new(members: KnownMembersOf) -> Self {
        Self { next: members, window: VecDeque::new(), by_digest: HashMap::new(), found_to: 0 }
    }

    /// The offset of a member with these bytes.
    pub(super) fn find(&mut self, length: u64, digest: &[u8; 32]) -> Option<u64> {
        self.fill();
        let offset = *self.by_digest.get(digest)?;
        let at = self.window.partition_point(|member| member.offset < offset);
        let member = self.window.get(at)?;
        (member.offset == offset && member.length == length && member.digest == *digest).then_some(offset)
    }

    /// Goes on behind `offset`.
    pub(super) fn go_on(&mut self, offset: u64) {
        self.found_to = self.found_to.max(offset);
    }

    /// Drops what lies far behind, and reads on.
    fn fill(&mut self) {
        let mut behind = self.window.partition_point(|member| member.offset < self.found_to);
        while behind > BEHIND {
            self.drop_first();
            behind -= 1;
        }
        while self.window.len() < AHEAD {
            let Some(member) = self.next.next() else { break };
            // An index that was checked ascends.
            if self.window.back().is_some_and(|last| last.offset >= member.offset) {
                continue;
            }
            if member.offset.saturating_add(member.length) <= self.found_to && self.window.len() >= BEHIND {
                self.drop_first();
            }
            // Of members with the same bytes, the last.
            self.by_digest.insert(member.digest, member.offset);
            self.window.push_back(member);
        }
    }

    fn drop_first(&mut self) {
        let Some(first) = self.window.pop_front() else { return };
        if self.by_digest.get(&first.digest) == Some(&first.offset) {
            self.by_digest.remove(&first.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, Known, KnownMember};

    fn digest(number: u64) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn those_that_come_next_are_known() {
        let count = 5 * AHEAD as u64;
        let members = (0..count).map(|number| KnownMember { offset: 10 * number, length: 10, digest: digest(number) });
        let mut known = Known::new(Box::new(members));
        assert_eq!(known.find(10, &digest(0)), Some(0));
        assert_eq!(known.find(11, &digest(0)), None);
        assert_eq!(known.find(10, &digest(AHEAD as u64)), None, "too far ahead");
        for number in (0..count).step_by(1000) {
            known.go_on(10 * number);
            assert_eq!(known.find(10, &digest(number + 7)), Some(10 * (number + 7)).filter(|_| number + 7 < count));
            assert!(known.window.len() <= AHEAD && known.by_digest.len() <= AHEAD);
        }
        // A jump over more than the window.
        let members = (0..count).map(|number| KnownMember { offset: 10 * number, length: 10, digest: digest(number) });
        let mut known = Known::new(Box::new(members));
        known.go_on(10 * (count - 5));
        assert_eq!(known.find(10, &digest(count - 3)), Some(10 * (count - 3)));
        assert_eq!(known.find(10, &digest(count)), None);
    }
}
