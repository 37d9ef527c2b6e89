//! Why a backup cannot be mounted.

use std::io;

use super::tree::TooManyEntries;
use crate::archive::image::blocks::ImageOpenError;
use crate::run::browse::BrowseError;
use crate::store::open::OpenError;

/// Why a backup cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// Its index cannot be read, or is not the one of the manifest.
    #[error(transparent)]
    Index(#[from] BrowseError),
    /// A file of it cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has more entries than are supported.
    #[error(transparent)]
    TooMany(#[from] TooManyEntries),
    /// A member is longer than any that volbak writes.
    #[error("its archive cannot be read")]
    Archive(#[source] io::Error),
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageOpenError),
}
