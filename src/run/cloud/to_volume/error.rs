//! Errors of a restore into a volume.

use crate::openstack::CloudError;
use crate::source::SourceError;

/// Why a volume cannot be restored into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToVolumeError {
    /// The cloud.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Cinder was asked for a new volume, and its answer was lost.
    #[error(
        "whether Cinder made the volume {name} is not known: `openstack volume list --name {name}` shows it; delete it if it is there \
         twice, and name it by its ID otherwise"
    )]
    MadeOrNot {
        /// Its name.
        name: String,
        /// The failure.
        source: Box<CloudError>,
    },
    /// LVM cannot say where the volume is.
    #[error(transparent)]
    Lvm(#[from] SourceError),
    /// The user may not do what such a restore needs.
    #[error(
        "nothing was changed: the user lacks the right volume_extension:volume_admin_actions:reset_status of Cinder; a restore \
         into a volume needs a user with the role admin, see docs/cloud.md"
    )]
    MissingRight,
    /// What is asked for is not possible, or not safe.
    #[error("{0}")]
    Refused(String),
}

pub(super) fn refused<T>(what: impl Into<String>) -> Result<T, ToVolumeError> {
    Err(ToVolumeError::Refused(what.into()))
}
