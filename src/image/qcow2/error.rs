//! What can be wrong with a qcow2 image.

use std::io;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Qcow2Error {
    /// It does not begin with qcow2's magic number.
    #[error("it is not a qcow2 image")]
    NotQcow2,
    /// It is one, of a kind that is not read here.
    #[error("{what}; {todo}")]
    Unsupported {
        /// What it has.
        what: String,
        /// What to do.
        todo: &'static str,
    },
    /// It contradicts itself.
    #[error("{place}: {what}; `qemu-img check` shows what is wrong with it")]
    Damaged {
        /// The structure, and its place in the file.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something of it lies behind the end of the file: a copy that ended early, or a damaged table.
    #[error(
        "{place} reaches to byte {end}, and the file has {file_bytes} bytes: it was cut off, or is damaged; copy it again, \
         completely"
    )]
    CutOff {
        /// The structure.
        place: String,
        /// Where it ends.
        end: u64,
        /// The length of the file.
        file_bytes: u64,
    },
    /// The file cannot be read.
    #[error("it cannot be read at byte {offset}")]
    Io {
        /// Where the read began.
        offset: u64,
        /// The system's own error.
        source: io::Error,
    },
}

impl Qcow2Error {
    pub(super) fn damaged(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Damaged { place: place.into(), what: what.into() }
    }
}

/// Makes an error of a read at `offset`.
pub(super) fn unreadable(offset: u64) -> impl FnOnce(io::Error) -> Qcow2Error {
    move |source| Qcow2Error::Io { offset, source }
}
