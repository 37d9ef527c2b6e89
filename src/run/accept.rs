//! Accepts sudden changes: backups before them are no longer kept for that reason.

use crate::outside::Clock;
use crate::store::Destination;
use crate::store::StoreError;
use crate::store::catalog::{CatalogEntry, list_volume};
use crate::store::pins::Pin;

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The volume has no sudden change to accept.
    #[error("{volume} has no sudden change to accept{}", others(pending))]
    NothingPending {
        /// The volume.
        volume: String,
        /// The volumes that have one.
        pending: Vec<String>,
    },
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Accepts the sudden changes of the volume `name`; returns them, oldest first. From the next run, retention may
/// remove the backups kept because of them.
pub fn accept(destination: &Destination, name: &str, clock: &dyn Clock) -> Result<Vec<Pin>, AcceptError> {
    let _lock = destination.lock(clock.now())?;
    let mut pins = destination.pins()?;
    if let Some(folder) = destination.existing_volume_directory(name)? {
        let entries = list_volume(&*folder, name)?;
        let manifests = entries.iter().filter_map(CatalogEntry::manifest);
        let mut of_volume = pins.of(name).cloned().unwrap_or_default();
        if !of_volume.add_unwritten(manifests).is_empty() {
            pins.set(name, of_volume);
        }
    }
    let accepted = pins.accept(name);
    if accepted.is_empty() {
        let pending = pins.all_pending().map(|(name, _)| name.to_owned()).collect();
        return Err(AcceptError::NothingPending { volume: name.to_owned(), pending });
    }
    destination.set_pins(&pins)?;
    Ok(accepted)
}

fn others(pending: &[String]) -> String {
    if pending.is_empty() { String::new() } else { format!("; these have one: {}", pending.join(", ")) }
}
