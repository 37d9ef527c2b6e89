//! Why a region's content cannot be made anew.

use crate::shown;

/// A value of the manifest that no maker takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum MakeError {
    /// The UUID is missing.
    #[error("it has no UUID in the manifest, so nothing like it can be made")]
    NoUuid,
    /// The UUID.
    #[error("its UUID {} is none", shown::text(.0))]
    Uuid(String),
    /// The UUID that is in the metadata's blocks.
    #[error("its metadata's UUID {} is none", shown::text(.0))]
    MetadataUuid(String),
    /// The serial number of a FAT.
    #[error("its serial number {} is none", shown::text(.0))]
    Serial(String),
    /// The bits of a FAT's entries.
    #[error("FAT{} is not known", shown::text(.0))]
    FatBits(String),
    /// A FAT's clusters, in bytes.
    #[error("its clusters of {0} bytes are impossible")]
    Clusters(u32),
    /// The blocks of a btrfs, in bytes.
    #[error("its blocks of {0} bytes are impossible")]
    Blocks(u32),
    /// A size of an XFS.
    #[error("its {what} of {bytes} bytes is impossible")]
    Size {
        /// Of what.
        what: &'static str,
        /// The size in bytes.
        bytes: u32,
    },
    /// The checksum of a btrfs.
    #[error("its checksum {} is not known", shown::text(.0))]
    Checksum(String),
    /// The filesystem itself.
    #[error("nothing here makes {}", shown::text(.0))]
    Filesystem(String),
}
