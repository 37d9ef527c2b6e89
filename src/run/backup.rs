//! Backs up one source.

mod archive;
mod change;
mod course;
pub(super) mod earlier;
mod ends;
mod error;
pub(super) mod freeze_limit;
mod frozen;
mod image;
mod in_time;
mod limit;
mod names;
mod options;
mod outcome;
mod own_directory;
mod previous;
pub(super) mod record;
mod region;
mod regions;
pub(super) mod same_source;
mod sudden;
pub(super) mod taken;
mod thin;
mod under_way;

pub use self::error::BackupError;
pub use self::limit::TimeLimit;
pub use self::options::{AroundError, AroundFreeze, BackupOptions, BackupWorld};
pub use self::outcome::BackupOutcome;
use crate::source::Source;
use crate::store::Destination;

/// Backs up `source` into `destination`. The caller holds its lock.
pub fn back_up_source(
    source: &Source,
    destination: &Destination,
    options: &BackupOptions,
    world: &BackupWorld,
) -> Result<BackupOutcome, BackupError> {
    match &options.time_limit {
        Some(limit) => in_time::within(limit, course::work, source, destination, options, world),
        None => course::work(source, destination, options, world),
    }
}
