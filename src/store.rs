//! Stores backups.
//!
//! A destination is a directory. Each volume has a directory in it, and `.volbak/` holds the files that belong to
//! no single volume. One run at a time changes a destination: only the holder of the lock ([`RunLock`]) may add,
//! publish and remove. Reading needs no lock, since a published file is never changed.

pub mod api;
pub(crate) mod arrival;
pub mod at_once;
mod backup;
mod belongs;
pub mod catalog;
mod destination;
mod error;
pub mod local;
#[cfg(feature = "s3")]
pub mod object;
pub mod open;
pub mod pending;
pub mod pins;
pub mod presence;
pub mod records;
pub mod remains;
pub mod removal;
pub mod retention;

pub use api::{Folder, RunLock, Store};
pub use backup::{Backup, IsImage, RECORD, ReadError};
pub use destination::{Destination, OWN_DIRECTORY};
pub use error::StoreError;
