//! One mapping of ids, and a set of them that does not contradict itself.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// `OLD:NEW`, or `FIRST-LAST:FIRST-LAST` for ranges of the same length; the second `-LAST` is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    old: u32,
    new: u32,
    /// The number of further ids after the first.
    more: u32,
}

/// An invalid mapping of ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMapping {
    /// It has another form.
    #[error("{0:?} is not OLD:NEW, as 108:112, or a range, as 1000-1999:101000-101999")]
    Form(String),
    /// An id is out of range.
    #[error("{0:?} has a number that Linux does not have: numbers go from 0 to 4294967294, and ranges ascend")]
    Bounds(String),
    /// The two ranges have different lengths.
    #[error("{0:?} has ranges of different lengths")]
    Lengths(String),
    /// Two mappings cover the same id.
    #[error("two mappings contradict each other: {0} has more than one new number")]
    TwoNew(u32),
    /// Two mappings lead to the same id.
    #[error("two mappings lead to {0}: the files of both could not be told apart")]
    TwoOld(u32),
}

impl Mapping {
    /// A mapping of one id.
    pub(crate) fn single(old: u32, new: u32) -> Self {
        Self { old, new, more: 0 }
    }

    /// Whether it maps this id.
    pub(crate) fn covers(&self, id: u32) -> bool {
        id.checked_sub(self.old).is_some_and(|offset| offset <= self.more)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sums were checked when it was parsed.
        match self.more {
            0 => write!(f, "{}:{}", self.old, self.new),
            more => write!(f, "{}-{}:{}-{}", self.old, self.old + more, self.new, self.new + more),
        }
    }
}

impl FromStr for Mapping {
    type Err = BadMapping;

    fn from_str(text: &str) -> Result<Self, BadMapping> {
        let form = || BadMapping::Form(text.to_owned());
        let number = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(form());
            }
            let number = digits.parse::<u32>().ok().filter(|number| *number != u32::MAX);
            number.ok_or_else(|| BadMapping::Bounds(text.to_owned()))
        };
        let range = |side: &str| match side.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                let more = last.checked_sub(first).ok_or_else(|| BadMapping::Bounds(text.to_owned()))?;
                Ok((first, Some(more)))
            }
            None => Ok((number(side)?, None)),
        };
        let (old, new) = text.split_once(':').ok_or_else(form)?;
        let ((old, old_more), (new, new_more)) = (range(old)?, range(new)?);
        let more = old_more.unwrap_or(0);
        if new_more.is_some_and(|new_more| new_more != more) {
            return Err(BadMapping::Lengths(text.to_owned()));
        }
        if new.checked_add(more).is_none_or(|last| last == u32::MAX) {
            return Err(BadMapping::Bounds(text.to_owned()));
        }
        Ok(Self { old, new, more })
    }
}

/// A mapping of ids; ids not mapped are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Sorted by old id.
    pub(super) mappings: Vec<Mapping>,
}

impl IdMap {
    /// Fails if two mappings overlap on either side.
    pub fn new(mappings: &[Mapping]) -> Result<Self, BadMapping> {
        let mut sorted = mappings.to_vec();
        sorted.sort_unstable_by_key(|mapping| mapping.new);
        if let Some(pair) = sorted.windows(2).find(|pair| pair[1].new - pair[0].new <= pair[0].more) {
            return Err(BadMapping::TwoOld(pair[1].new));
        }
        sorted.sort_unstable_by_key(|mapping| mapping.old);
        match sorted.windows(2).find(|pair| pair[1].old - pair[0].old <= pair[0].more) {
            Some(pair) => Err(BadMapping::TwoNew(pair[1].old)),
            None => Ok(Self { mappings: sorted }),
        }
    }

    /// Adds single mappings for ids not covered yet; the first one for an id is used.
    pub fn add_others(&mut self, others: impl IntoIterator<Item = (u32, u32)>) {
        let mut singles = BTreeMap::new();
        for (old, new) in others {
            if !self.mappings.iter().any(|mapping| mapping.covers(old)) {
                singles.entry(old).or_insert(new);
            }
        }
        self.mappings.extend(singles.into_iter().map(|(old, new)| Mapping::single(old, new)));
        self.mappings.sort_unstable_by_key(|mapping| mapping.old);
    }

    /// The new id.
    pub fn get(&self, id: u32) -> u32 {
        let after = self.mappings.partition_point(|mapping| mapping.old <= id);
        match after.checked_sub(1).and_then(|at| self.mappings.get(at)) {
            // The sum was checked when it was parsed.
            Some(mapping) if mapping.covers(id) => mapping.new + (id - mapping.old),
            _ => id,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{BadMapping, IdMap, Mapping};

    fn map(texts: &[&str]) -> Result<IdMap, BadMapping> {
        let mappings: Result<Vec<Mapping>, _> = texts.iter().map(|text| text.parse()).collect();
        IdMap::new(&mappings?)
    }

    #[test]
    fn numbers_and_ranges_are_mapped_and_others_stay() {
        let ids = map(&["108:112", "112:108", "1000-1999:101000-101999", "5-7:50", "4294967294:3"]).unwrap();
        for (old, new) in [
            (108, 112),
            (112, 108),
            (999, 999),
            (1000, 101_000),
            (1999, 101_999),
            (2000, 2000),
            (5, 50),
            (7, 52),
            (8, 8),
            (4, 4),
            (u32::MAX - 1, 3),
            (0, 0),
        ] {
            assert_eq!(ids.get(old), new, "{old}");
        }
    }

    #[test]
    fn mappings_that_meet_are_refused() {
        assert_eq!(map(&["108:112", "108:113"]), Err(BadMapping::TwoNew(108)));
        assert_eq!(map(&["1-10:101-110", "10:500"]), Err(BadMapping::TwoNew(10)));
        assert_eq!(map(&["108:112", "109:112"]), Err(BadMapping::TwoOld(112)));
        assert_eq!(map(&["0-65535:100000", "70000-70001:165535"]), Err(BadMapping::TwoOld(165_535)));
        assert!(map(&["1-10:101-110", "11:111", "0:100"]).is_ok());
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for form in ["", "1", "1:", ":1", "a:1", "1:b", "-1:1", "1:2:3", "1-:2", "1 :2", "+1:2", "1-2-3:4"] {
            assert_eq!(form.parse::<Mapping>(), Err(BadMapping::Form(form.to_owned())), "{form}");
        }
        for bounds in ["4294967295:1", "1:4294967295", "5-4:1", "0-10:4294967290", "99999999999:1"] {
            assert_eq!(bounds.parse::<Mapping>(), Err(BadMapping::Bounds(bounds.to_owned())), "{bounds}");
        }
        for lengths in ["1-2:1-3", "1:1-2"] {
            assert_eq!(lengths.parse::<Mapping>(), Err(BadMapping::Lengths(lengths.to_owned())), "{lengths}");
        }
    }
}
