//! What a run knows of the segments of its volume before it refers to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::manifest::ObjectRecord;

/// The segments that new archives do not refer to, and the objects that segments were published as.
#[derive(Debug, Default)]
pub(super) struct SegmentFacts(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    all_left: bool,
    left: BTreeSet<String>,
    objects: BTreeMap<String, ObjectRecord>,
}

impl SegmentFacts {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves these, or all.
    pub(super) fn leave(&self, names: Option<Vec<String>>) {
        let mut facts = self.facts();
        match names {
            Some(names) => facts.left.extend(names),
            None => facts.all_left = true,
        }
    }

    /// Whether new archives do not refer to this segment.
    pub(super) fn is_left(&self, name: &str) -> bool {
        let facts = self.facts();
        facts.all_left || facts.left.contains(name)
    }

    /// Notes the object of a segment. A segment of which two are known is left.
    pub(super) fn note(&self, name: &str, object: ObjectRecord) {
        let mut facts = self.facts();
        let is_other = facts.objects.get(name).map(|known| known.has_other_etag(&object.etag));
        match is_other {
            None if !object.etag.is_empty() => drop(facts.objects.insert(name.to_owned(), object)),
            Some(true) => drop(facts.left.insert(name.to_owned())),
            None | Some(false) => {}
        }
    }

    /// As [`Self::note`] of each.
    pub(super) fn note_all(&self, recorded: &[(&str, &ObjectRecord)]) {
        for (name, object) in recorded {
            self.note(name, (*object).clone());
        }
    }

    /// Whether the segment with this ETag is another object than the known one.
    pub(super) fn is_other(&self, name: &str, etag: &str) -> bool {
        self.facts().objects.get(name).is_some_and(|known| known.has_other_etag(etag))
    }

    /// The segments whose objects are known.
    pub(super) fn names(&self) -> Vec<String> {
        self.facts().objects.keys().cloned().collect()
    }

    /// The known objects of these segments.
    pub(super) fn objects_of(&self, names: &BTreeSet<String>) -> BTreeMap<String, ObjectRecord> {
        let facts = self.facts();
        names.iter().filter_map(|name| Some((name.clone(), facts.objects.get(name)?.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::SegmentFacts;
    use crate::manifest::ObjectRecord;

    #[test]
    fn a_segment_of_which_two_objects_are_known_is_left() {
        let (facts, object) =
            (SegmentFacts::default(), |etag: &str| ObjectRecord { etag: etag.to_owned(), version: None });
        facts.note("a", object(""));
        assert!(!facts.is_other("a", "1"), "a store without ETags says nothing");
        facts.note("a", object("1"));
        facts.note("a", object(""));
        assert!(
            !facts.is_left("a") && facts.is_other("a", "2") && !facts.is_other("a", "1") && !facts.is_other("b", "1")
        );
        facts.note("a", object("2"));
        assert!(facts.is_left("a") && !facts.is_left("b"));
        assert_eq!(facts.objects_of(&["a".to_owned(), "b".to_owned()].into())["a"], object("1"));
    }
}
