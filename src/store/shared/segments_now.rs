//! The segments of a volume in an object store, as one listing shows them.

use std::collections::BTreeMap;

use super::facts::SegmentFacts;
use super::names::{SEGMENTS_FOLDER, UNNEEDED};
use super::recipe::{MOST_SEGMENTS, is_segment_name};
use crate::manifest::ObjectRecord;
use crate::store::api::{Folder, Listing, ObjectState, Store};
use crate::store::error::StoreError;
use crate::store::open::OpenError;

/// A segment of which less than one byte in so many is needed is not referred to any more: its room is freed once the
/// backups of today are gone.
const LEAST_NEEDED: u64 = 2;

/// Changed segments of a backup that are told.
const MOST_CHANGED: usize = 16;

/// Which segments may be referred to.
pub(super) struct SegmentsNow {
    /// As it was listed; `None` if that failed.
    seen: Option<(Folder, Listing)>,
}

impl SegmentsNow {
    /// Of the folder of segments.
    pub(super) fn of(segments: &Folder) -> Self {
        // What was seen a minute ago may lack a mark.
        let segments = segments.detached();
        let seen = segments.survey(&[]).ok().map(|seen| seen.unwrap_or_else(|| segments.detached()));
        let seen = seen.and_then(|seen| Some((seen.list().ok()?, seen)));
        Self { seen: seen.map(|(listing, seen)| (seen, listing)) }
    }

    /// Whether a new archive may refer to a segment of which the previous one needs so many bytes. If it cannot be known,
    /// what is referred to is read again. The object of a segment that may be referred to is noted.
    pub(super) fn may_be_referred_to(&self, name: &str, needed_bytes: u64, facts: &SegmentFacts) -> bool {
        let Some((seen, listing)) = &self.seen else { return false };
        let is_mostly_needed = |length: u64| needed_bytes.saturating_mul(LEAST_NEEDED) >= length;
        listing.has(name)
            && !listing.has(&format!("{name}{UNNEEDED}"))
            && seen.length(name).is_some_and(is_mostly_needed)
            && is_as_known(&**seen, name, facts)
    }

    /// The segments that are other objects than the known ones.
    pub(super) fn overwritten(&self, facts: &SegmentFacts) -> Vec<String> {
        let Some((seen, listing)) = &self.seen else { return Vec::new() };
        let is_other = |name: &String| matches!(seen.etag(name), Ok(Some(etag)) if facts.is_other(name, &etag));
        facts.names().into_iter().filter(|name| listing.has(name) && is_other(name)).collect()
    }
}

/// Whether a segment is the known object, or none is known: then this one is from now on.
fn is_as_known(segments: &dyn Store, name: &str, facts: &SegmentFacts) -> bool {
    match segments.etag(name) {
        Ok(Some(etag)) if facts.is_other(name, &etag) => false,
        Ok(Some(etag)) => {
            facts.note(name, ObjectRecord { etag, version: None });
            true
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Of these segments of a volume, the first that are other objects now, or were deleted, as the store has them.
pub(in crate::store) fn changed_segments(
    volume: &dyn Store,
    recorded: &BTreeMap<String, ObjectRecord>,
) -> Result<Vec<(String, ObjectState)>, StoreError> {
    let Some(segments) = volume.folder(SEGMENTS_FOLDER, false)? else { return Ok(Vec::new()) };
    let seen = segments.survey(&[])?;
    let seen = seen.as_ref().unwrap_or(&segments);
    let mut changed = Vec::new();
    for (name, object) in recorded.iter().filter(|(name, _)| is_segment_name(name)).take(MOST_SEGMENTS) {
        match seen.etag(name) {
            Ok(Some(etag)) if object.has_other_etag(&etag) => {}
            Ok(_) => continue,
            Err(OpenError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
        // With its versions.
        let states = segments.objects(name)?;
        changed.extend(states.and_then(|mut states| states.by_name.remove_entry(name)));
        if changed.len() >= MOST_CHANGED {
            break;
        }
    }
    Ok(changed)
}
