//! The segments of a volume in an object store, as one listing shows them.

use super::names::UNNEEDED;
use crate::store::api::{Folder, Listing};

/// A segment of which less than one byte in so many is needed is not referred to any more: its room is freed once the
/// backups of today are gone.
const LEAST_NEEDED: u64 = 2;

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
    /// what is referred to is read again.
    pub(super) fn may_be_referred_to(&self, name: &str, needed_bytes: u64) -> bool {
        let Some((seen, listing)) = &self.seen else { return false };
        let is_mostly_needed = |length: u64| needed_bytes.saturating_mul(LEAST_NEEDED) >= length;
        listing.has(name)
            && !listing.has(&format!("{name}{UNNEEDED}"))
            && seen.length(name).is_some_and(is_mostly_needed)
    }
}
