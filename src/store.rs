//! Where backups are kept.
//!
//! A destination is a directory. Under it each volume has a directory of its own, and volbak keeps what belongs to no
//! single volume in `.volbak/`. One run at a time works on a destination: whoever holds the lock ([`RunLock`])
//! may add, publish and remove; reading needs no lock, since nothing that has its final name is ever changed.

pub mod api;
pub mod at_once;
mod backup;
pub mod catalog;
mod destination;
mod error;
pub mod local;
pub mod open;
pub mod pending;
pub mod pins;
pub mod presence;
pub mod records;
pub mod remains;
pub mod removal;
pub mod retention;

pub use api::{Folder, RunLock, Store};
pub use backup::{Backup, RECORD, ReadError};
pub use destination::{Destination, OWN_DIRECTORY};
pub use error::StoreError;
