//! Errors of browsing.

use std::io;

use crate::archive::read::index_file::IndexError;
use crate::run::restore::select::BadPattern;
use crate::store::IsImage;
use crate::store::open::OpenError;

/// Why a backup cannot be browsed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrowseError {
    /// A file of the backup cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is an image.
    #[error(transparent)]
    Image(#[from] IsImage),
    /// The files of an image cannot be read.
    #[error(transparent)]
    ImageFiles(Box<dyn std::error::Error + Send + Sync>),
    /// The index is damaged.
    #[error("the index is damaged; `volbak verify` says more")]
    Index(#[from] IndexError),
    /// The index does not match the manifest.
    #[error("the index was changed since it was written: its SHA-256 is not the one in the manifest")]
    IndexChanged,
    /// An invalid pattern.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The path does not exist.
    #[error("the backup has no {0}")]
    NotFound(String),
    /// The path has no content.
    #[error("{path} is {what}, not a file")]
    NotAFile {
        /// The path.
        path: String,
        /// Its type.
        what: &'static str,
    },
    /// The content in the archive differs from what was backed up.
    #[error("{path} is damaged in the archive: {what}")]
    Damaged {
        /// The path.
        path: String,
        /// The difference.
        what: String,
    },
    /// Reading or writing failed.
    #[error("{path} could not be printed")]
    Io {
        /// The path.
        path: String,
        /// The cause.
        source: io::Error,
    },
}
