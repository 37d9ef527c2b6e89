//! The record of a run in progress. A run that is interrupted, for example by a power cut, leaves it behind, so
//! that `status` can report that before the next run.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::owner::{Owner, OwnerState};
use crate::store::{Destination, OWN_DIRECTORY, StoreError};

/// Its name in `.volbak/`.
const FILE: &str = "begun.json";
const MAX_BYTES: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Begun {
    started: DateTime<Utc>,
    /// The process, in the form of [`Owner`].
    owner: String,
}

/// Records that this process began a run at `started`. The caller holds the lock.
pub(crate) fn record(destination: &Destination, started: DateTime<Utc>) -> Result<(), StoreError> {
    // Without /proc, a later process cannot find out whether this one has ended.
    let Ok(owner) = Owner::this_process() else { return Ok(()) };
    let bytes = serde_json::to_vec(&Begun { started, owner: owner.to_string() }).unwrap_or_default();
    destination.volume_directory(OWN_DIRECTORY)?.replace_file(FILE, &bytes)
}

/// Records that the run ended normally.
pub(crate) fn clear(destination: &Destination) -> Result<(), StoreError> {
    match destination.existing_volume_directory(OWN_DIRECTORY)? {
        Some(own) => own.remove(FILE),
        None => Ok(()),
    }
}

/// The start of the last run of this host if it was interrupted: its process has ended without clearing the record.
/// An invalid record counts as none, since nothing is lost with it.
pub(crate) fn cut_off(destination: &Destination) -> Result<Option<DateTime<Utc>>, StoreError> {
    let Some(own) = destination.existing_volume_directory(OWN_DIRECTORY)? else { return Ok(None) };
    let bytes = own.read_file(FILE, MAX_BYTES)?.unwrap_or_default();
    let (Ok(begun), Ok(me)) = (serde_json::from_slice::<Begun>(&bytes), Owner::this_process()) else { return Ok(None) };
    let is_gone = begun.owner.parse().is_ok_and(|owner: Owner| owner.state(&me) == OwnerState::Gone);
    Ok(is_gone.then_some(begun.started))
}
