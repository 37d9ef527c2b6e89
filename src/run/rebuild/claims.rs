//! Checks the ranges to be written. All must be on the target. Two that overlap are refused, unless both write the
//! original bytes.

use crate::shown;
use crate::units::ByteRange;

/// Further conflicts are only counted.
const CONFLICTS_MAX: usize = 20;

/// The ranges to be written.
#[derive(Debug)]
pub(super) struct Claims {
    target_bytes: u64,
    all: Vec<Claim>,
}

#[derive(Debug)]
struct Claim {
    range: ByteRange,
    name: String,
    /// It writes the original bytes, so it agrees with any other that does.
    as_it_was: bool,
}

impl Claims {
    /// Empty, for a target of this length.
    pub(super) fn new(target_bytes: u64) -> Self {
        Self { target_bytes, all: Vec::new() }
    }

    /// `name` writes `range`.
    pub(super) fn add(&mut self, range: ByteRange, name: &str, as_it_was: bool) {
        self.all.push(Claim { range, name: name.to_owned(), as_it_was });
    }

    /// The conflicts, one line each.
    pub(super) fn conflicts(&mut self) -> Vec<String> {
        self.all.sort_by_key(|claim| (claim.range.start, claim.range.len));
        let mut found = Vec::new();
        let end_of = |claim: &Claim| claim.range.end().unwrap_or(u64::MAX);
        // The one of each kind with the furthest end so far: if any overlaps, that one does.
        let mut furthest: [Option<&Claim>; 2] = [None, None];
        for claim in self.all.iter().filter(|claim| claim.range.len > 0) {
            let name = shown::path(claim.name.as_bytes());
            if claim.range.end().is_none_or(|end| end > self.target_bytes) {
                let size = self.target_bytes;
                found.push(format!("{name}: {} are not on the target, which has {size} bytes", claim.range));
            }
            for (is_as_it_was, other) in [(false, furthest[0]), (true, furthest[1])] {
                if let Some(other) = other.filter(|other| end_of(other) > claim.range.start)
                    && !(is_as_it_was && claim.as_it_was)
                {
                    let other = shown::path(other.name.as_bytes());
                    found.push(format!("{name} and {other} share bytes, and cannot both be made anew"));
                }
            }
            let slot = &mut furthest[usize::from(claim.as_it_was)];
            if slot.is_none_or(|other| end_of(other) < end_of(claim)) {
                *slot = Some(claim);
            }
        }
        let more = found.len().saturating_sub(CONFLICTS_MAX);
        found.truncate(CONFLICTS_MAX);
        if more > 0 {
            found.push(format!("and {more} more of the kind"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Claims;
    use crate::units::ByteRange;

    fn conflicts(claims: &[(u64, u64, bool)]) -> usize {
        let mut all = Claims::new(1000);
        for (start, len, as_it_was) in claims {
            all.add(ByteRange::new(*start, *len), "x\n", *as_it_was);
        }
        let found = all.conflicts();
        assert!(found.iter().all(|line| !line.contains('\n')));
        found.len()
    }

    #[test]
    fn overlaps_and_ranges_off_the_target_are_reported() {
        assert_eq!(conflicts(&[(0, 10, false), (10, 990, false)]), 0);
        assert_eq!(conflicts(&[(0, 11, false), (10, 5, false)]), 1);
        assert_eq!(conflicts(&[(0, 11, true), (10, 5, true)]), 0);
        assert_eq!(conflicts(&[(0, 11, true), (10, 5, false)]), 1);
        // A long range overlaps each of several short ones.
        assert_eq!(conflicts(&[(0, 900, false), (10, 5, true), (20, 5, true), (30, 5, true)]), 3);
        assert_eq!(conflicts(&[(990, 11, false)]), 1);
        assert_eq!(conflicts(&[(u64::MAX - 1, u64::MAX, false)]), 1);
        assert_eq!(conflicts(&vec![(0, 5, false); 100]), 21);
    }
}
