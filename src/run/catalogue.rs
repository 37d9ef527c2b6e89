//! The catalogue of a destination, which spares `list` and `status` a request for each backup.

use super::collect::tell;
use crate::error::with_causes;
use crate::events::{Observer, Severity};
use crate::store::Destination;

/// Notes what a verb changed. A catalogue that is not written costs later requests alone, so this is a warning.
/// Returns whether it was written.
pub fn note(destination: &Destination, verb: &str, observer: &dyn Observer) -> bool {
    let written = destination.store().write_catalogue();
    if let Err(error) = &written {
        let what = "the catalogue of the destination was not written, so `volbak list` takes longer";
        tell(observer, Severity::Warning, verb.to_owned(), format!("{what}: {}", with_causes(error)));
    }
    written.is_ok()
}
