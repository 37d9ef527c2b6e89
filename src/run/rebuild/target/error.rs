//! Why a target cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::source::SourceError;

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It cannot be opened as a source either.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is unsuitable.
    #[error("{name}: {what}")]
    Unfit {
        /// The target as given by the user.
        name: String,
        /// The reason.
        what: String,
    },
    /// The system refused an operation.
    #[error("{}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It has content, and the user did not allow to erase it.
    #[error(
        "{name} is not empty, and all of it would be lost: {}; to allow that, use --yes-erase={erase_name}",
        on_it.join("; ")
    )]
    NotEmpty {
        /// The target as given by the user.
        name: String,
        /// The value that the option requires.
        erase_name: String,
        /// The content.
        on_it: Vec<String>,
    },
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    let path = path.to_owned();
    move |source| TargetError::Io { path, source }
}
