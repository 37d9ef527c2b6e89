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
    #[error(
        "no image was made, since not all of it can be read; `volbak snapshot --image` keeps what can be read and lists what \
         cannot, and `volbak export` of that backup makes an image"
    )]
    Source(#[source] CopyError),
    /// What comes before the snapshot failed.
    #[error("a hook before the snapshot failed")]
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
    /// Each export of it is of another moment.
    #[error(
        "{0}: an export of a volume cannot be resumed: the snapshot that it read is gone, and a new one is of another moment; \
         omit --resume, or make a backup with `volbak snapshot --image` and export that, which can be resumed"
    )]
    NotResumable(String),
    /// What was begun is of something else.
    #[error(
        "{0} was begun from another source, or from this one before it changed, and is not resumed; without --resume it is \
         removed, and the export begins anew"
    )]
    OtherSource(String),
    /// What was begun is another kind of image.
    #[error(
        "{0} was begun with another format, cluster size, compression or choice of blocks, and is not resumed; use the same \
         options, or omit --resume: then it is removed, and the export begins anew"
    )]
    OtherOptions(String),
    /// Another process writes it.
    #[error("{0} is being written by another export to the same file, on this host or another; wait for its end")]
    UnderWay(String),
    /// What was begun may be written to by others.
    #[error("{left} is not resumed: {what}; remove it, or omit --resume")]
    Untrusted {
        /// What was begun.
        left: String,
        /// Why it is not trusted.
        what: String,
    },
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

impl ExportError {
    /// Whether what was written until then can be gone on with.
    pub(super) fn leaves_a_beginning(&self) -> bool {
        matches!(
            self,
            Self::Stopped
                | Self::Io { .. }
                | Self::Source(CopyError::Read { .. })
                | Self::Make(MakeError::Copy(CopyError::Read { .. } | CopyError::Write(_) | CopyError::Stopped))
        )
    }
}

/// Makes an error of what was done.
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ExportError {
    let what = what.into();
    move |source| ExportError::Io { what, source }
}
