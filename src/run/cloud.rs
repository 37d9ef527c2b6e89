//! What a run, and who reads backups, has to do with the cloud: its map is taken, saved, and read again.

pub(crate) mod choice;
#[cfg(feature = "openstack")]
mod collect;
#[cfg(not(feature = "openstack"))]
#[path = "cloud/without.rs"]
mod collect;
pub(crate) mod instances;
pub(crate) mod names;
pub(crate) mod night;
#[cfg(feature = "openstack")]
pub mod recover;
mod saved;
#[cfg(feature = "openstack")]
pub mod to_volume;

pub(in crate::run) use collect::readable_credentials;
pub use collect::{Taken, take};
pub use saved::{SavedError, When, load, save};

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The cloud does not answer as it should.
    #[cfg(feature = "openstack")]
    #[error(transparent)]
    Cloud(#[from] crate::openstack::CloudError),
    /// The program was built without the client.
    #[error("this volbak was built without the cargo feature `openstack`: it cannot ask a cloud")]
    NotBuilt,
}
