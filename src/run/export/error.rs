//! Why no image was made.

use std::io;

use crate::image::copy::CopyError;
use crate::image::make::MakeError;
use crate::run::backup::AroundError;
use crate::run::image_backup::OpenImageError;
use crate::run::image_file::ImageFileError;
use crate::run::rebuild::DeviceError;
use crate::run::rebuild::target::TargetError;
use crate::source::SourceError;

/// Why no image was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The source cannot be used, or did not stand still.
    #[error(transparent)]
    Frozen(#[from] SourceError),
    /// The image file that is the source cannot be read.
    #[error(transparent)]
    ImageFile(#[from] ImageFileError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(CopyError),
    /// What comes before the snapshot failed.
    #[error("what is run before the snapshot failed")]
    Before(#[source] AroundError),
    /// The backup could not be rebuilt.
    #[error("the backup could not be rebuilt as a disk")]
    Rebuild(#[from] DeviceError),
    /// The image backup cannot be read.
    #[error(transparent)]
    ImageBackup(#[from] OpenImageError),
    /// There is a file of that name.
    #[error("{0} is there already; --overwrite replaces it when the new image is complete")]
    Exists(String),
    /// The target cannot be written to.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The image could not be written.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The image could not be synced, read back or named.
    #[error("{what}")]
    Io {
        /// What was done to what.
        what: String,
        /// The system's own error.
        source: io::Error,
    },
    /// The image does not hold what was read.
    #[error("{0}: the image was read back, and does not hold what was read from the source; it was removed")]
    Different(String),
    /// It was cancelled.
    #[error("interrupted; no image was made")]
    Stopped,
}

/// Makes an error of what was done.
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ExportError {
    let what = what.into();
    move |source| ExportError::Io { what, source }
}
