//! Errors that prevent planning.

use crate::run::rebuild::shift::TooSmall;
use crate::run::rebuild::table::TableError;
use crate::units::ByteLen;

/// A reason that prevents further planning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum PlanError {
    /// Two regions have the same name.
    #[error("two regions are called {0}")]
    SameName(String),
    /// The manifest's records do not match its layout.
    #[error("the manifest lacks a record for some region")]
    Records,
    /// A region's place is invalid.
    #[error("{region}: {what}")]
    Place {
        /// The region's name for messages.
        region: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The table's sector size in bytes is invalid.
    #[error("its table counts in sectors of {0} bytes, which no disk has")]
    SectorSize(u64),
    /// The target has another sector size.
    #[error(
        "its table counts in sectors of {source_bytes} bytes and the target has sectors of {target_bytes}: restore to an \
         image, or to a device of the same kind"
    )]
    OtherSectors {
        /// The source's sector size.
        source_bytes: u64,
        /// The target's.
        target_bytes: u32,
    },
    /// The image of the whole source is larger than the target.
    #[error(
        "the target is too small: it has {target}, and all {whole} of the source are kept as one image, which cannot be made \
         smaller"
    )]
    ImageTooLong {
        /// The target's size.
        target: ByteLen,
        /// The source's size.
        whole: ByteLen,
    },
    /// The partitions do not fit.
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
    /// The table cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The first sector is missing.
    #[error("the manifest does not hold its first sector")]
    NoFirstSector,
}
