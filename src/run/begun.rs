//! The record of a run that is under way. A run that is cut off, by a loss of power for example, leaves it behind: that is how
//! `status` learns of it before the next run.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::owner::{Owner, OwnerState};
use crate::store::{Destination, OWN_DIRECTORY, StoreError};

/// In `.volbak/`.
const FILE: &str = "begun.json";
const MAX_BYTES: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Begun {
    started: DateTime<Utc>,
    /// The process, as [`Owner`] displays it.
    owner: String,
}

/// Records that this process began a run at `started`. The caller holds the lock.
pub(crate) fn record(destination: &Destination, started: DateTime<Utc>) -> Result<(), StoreError> {
    // Without /proc nobody can tell later whether the process has ended.
    let Ok(owner) = Owner::this_process() else { return Ok(()) };
    let bytes = serde_json::to_vec(&Begun { started, owner: owner.to_string() }).unwrap_or_default();
    destination.volume_directory(OWN_DIRECTORY)?.replace_file(FILE, &bytes)
}

/// Records that the run ended by itself.
pub(crate) fn clear(destination: &Destination) -> Result<(), StoreError> {
    match destination.existing_volume_directory(OWN_DIRECTORY)? {
        Some(own) => own.remove(FILE),
        None => Ok(()),
    }
}

/// When the last run of this host began, if it was cut off: its process has ended, and it did not say so. A record that cannot
/// be understood counts as none, since nothing is lost with it.
pub(crate) fn cut_off(destination: &Destination) -> Result<Option<DateTime<Utc>>, StoreError> {
    let Some(own) = destination.existing_volume_directory(OWN_DIRECTORY)? else { return Ok(None) };
    let bytes = own.read_file(FILE, MAX_BYTES)?.unwrap_or_default();
    let (Ok(begun), Ok(me)) = (serde_json::from_slice::<Begun>(&bytes), Owner::this_process()) else { return Ok(None) };
    let is_gone = begun.owner.parse().is_ok_and(|owner: Owner| owner.state(&me) == OwnerState::Gone);
    Ok(is_gone.then_some(begun.started))
}
