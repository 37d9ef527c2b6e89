//! Why an image was not imported.

use std::io;

use crate::image::copy::CopyError;
use crate::run::image_file::ImageFileError;
use crate::run::rebuild::target::TargetError;

/// Why an image was not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageFileError),
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target is shorter than the disk.
    #[error("{target} has {target_bytes} bytes, and the disk in the image has {disk_bytes}; nothing was written")]
    TooSmall {
        /// The target.
        target: String,
        /// Its length.
        target_bytes: u64,
        /// The length of the disk.
        disk_bytes: u64,
    },
    /// No guest would find the partitions.
    #[error(
        "its partition table counts in sectors of {source_bytes} bytes, and {target} has sectors of {target_bytes}: restore to an image, \
         or to a device of the same kind; nothing was written"
    )]
    OtherSectors {
        /// The target.
        target: String,
        /// The sector size of the table.
        source_bytes: u64,
        /// That of the target.
        target_bytes: u32,
    },
    /// It was begun and not finished: the target, with what became of it and what to do next.
    #[error("{0}")]
    Unfinished(String, #[source] CopyError),
    /// The target cannot be read back: the same.
    #[error("{0}; it cannot be read back")]
    ReadBack(String, #[source] io::Error),
    /// It does not hold what was written: the same.
    #[error("{0}; it was read back, and does not hold what was written")]
    Different(String),
}
