//! The destination of a night: opened if it is mounted, and checked again before it is written to.

use std::path::Path;

use super::error::NightError;
use crate::config::Config;
use crate::error::with_causes;
use crate::report::Abort;
use crate::store::Destination;
use crate::store::StoreError;
use crate::store::presence::is_on_mount;

/// Opens it for a listing. Fails if it does not exist, or is not mounted although required.
pub(super) fn open(config: &Config) -> Result<Destination, NightError> {
    config.open_mounted_destination().map_err(|error| match error {
        StoreError::NotMounted(path) => NightError::NotMounted(path),
        other => other.into(),
    })
}

/// Opens it for a run. The error goes into the report.
pub(super) fn open_for_run(config: &Config) -> Result<Destination, Abort> {
    config.open_mounted_destination().map_err(|error| match error {
        StoreError::Missing(_) | StoreError::NotMounted(_) => Abort::NotMounted,
        other => Abort::Other(with_causes(&other)),
    })
}

/// Whether the destination is still mounted and the one that was opened.
pub(super) fn is_present(config: &Config, destination: &Destination) -> bool {
    let mounted = |path: &Path| !config.require_mount || is_on_mount(path).unwrap_or(false);
    (!destination.is_local() || mounted(destination.root())) && destination.is_still_there().unwrap_or(false)
}
