//! Stores backups.
//!
//! A destination is a directory, or a prefix in an object store. Each volume has a folder in it, and `.volbak/` holds the
//! files that belong to no single volume. One run at a time changes a destination: only the holder of the lock
//! ([`RunLock`]) may add, publish and remove. Reading needs no lock, since a published file is never changed. In an object
//! store the lock is advice: there, the names of a run are its own (`stem`), so that two runs never mix their files.

pub mod api;
pub(crate) mod arrival;
pub mod at_once;
mod backup;
mod belongs;
pub mod catalog;
mod destination;
mod error;
pub mod index_cache;
mod listing;
pub mod local;
mod lock;
pub mod names;
#[cfg(feature = "s3")]
pub mod object;
pub mod open;
mod options;
pub(crate) mod passing;
pub mod pending;
pub mod pins;
pub mod presence;
mod publication;
pub mod records;
pub mod remains;
pub mod removal;
pub mod retention;
mod retried;
pub mod shared;
mod stem;
pub(crate) mod unread;

pub use crate::manifest::LockMode;
pub use api::{Folder, RunLock, Store};
pub use backup::{Backup, IsImage, RECORD, ReadError};
pub(crate) use destination::readable_credentials;
pub use destination::{Destination, OWN_DIRECTORY, is_in_object_store};
pub use error::StoreError;
pub(crate) use lock::begin_lock;
pub use options::{LockOptions, StoreOptions};
pub(crate) use stem::{is_run, of_copy, run, without_run};
