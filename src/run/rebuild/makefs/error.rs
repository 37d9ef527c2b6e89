//! Why a region's content cannot be made.

use crate::shown;

/// A value in the manifest that no tool accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum MakeError {
    /// The UUID is missing.
    #[error("it has no UUID in the manifest, so nothing like it can be made")]
    NoUuid,
    /// The UUID is invalid.
    #[error("its UUID {} is invalid", shown::text(.0))]
    Uuid(String),
    /// The UUID of the metadata is invalid.
    #[error("its metadata's UUID {} is invalid", shown::text(.0))]
    MetadataUuid(String),
    /// The serial number of a FAT is invalid.
    #[error("its serial number {} is invalid", shown::text(.0))]
    Serial(String),
    /// The FAT type is unknown.
    #[error("FAT{} is not known", shown::text(.0))]
    FatBits(String),
    /// The cluster size of a FAT, in bytes.
    #[error("its clusters of {0} bytes are impossible")]
    Clusters(u32),
    /// The block size of a btrfs, in bytes.
    #[error("its blocks of {0} bytes are impossible")]
    Blocks(u32),
    /// A size of an XFS.
    #[error("its {what} of {bytes} bytes is impossible")]
    Size {
        /// The kind of size.
        what: &'static str,
        /// The size in bytes.
        bytes: u32,
    },
    /// The checksum algorithm of a btrfs.
    #[error("its checksum {} is not known", shown::text(.0))]
    Checksum(String),
    /// The type of filesystem is not supported.
    #[error("volbak cannot make {}", shown::text(.0))]
    Filesystem(String),
}
