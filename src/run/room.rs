//! What there is to say about the room of composed archives, after backups were removed.

use std::path::Path;

use crate::error::with_causes;
use crate::events::{Problem, Severity};
use crate::store::StoreError;
use crate::store::api::Freed;
use crate::store::shared::SEGMENTS_FOLDER;
use crate::units::ByteLen;

/// The problem, if room in the folder of a volume was not freed.
pub(super) fn about_freed(volume: &Path, freed: Result<Freed, StoreError>) -> Option<Problem> {
    let place = volume.join(SEGMENTS_FOLDER).display().to_string();
    match freed {
        Ok(Freed { wasted_bytes: 0, .. }) => None,
        Ok(Freed { wasted_bytes, .. }) => {
            let what = format!(
                "{} are not needed any more, and stay in use: this filesystem frees no ranges of a file, only whole segments",
                ByteLen(wasted_bytes)
            );
            Some(Problem::new(Severity::Notice, place, what))
        }
        Err(error) => Some(Problem::new(Severity::Warning, place, with_causes(&error))),
    }
}
