//! Where backups are kept.
//!
//! A destination is a directory. Under it each volume has a directory of its own, and volbak keeps what belongs to no
//! single volume in `.volbak/`. One run at a time works on a destination: whoever holds the lock ([`local::RunLock`])
//! may add, publish and remove; reading needs no lock, since nothing that has its final name is ever changed.

pub mod at_once;
mod backup;
pub mod catalog;
mod error;
pub mod local;
pub mod open;
pub mod pending;
pub mod pins;
pub mod presence;
pub mod records;
pub mod removal;
pub mod retention;
mod share;
mod writer;

pub use backup::{Backup, RECORD, ReadError};
pub use error::StoreError;
