//! Why something was not written.

use std::io;

use rustix::io::Errno;

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum WriteError {
    /// The device cannot be read or written: nothing more can be done.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The kernel must do it.
    #[error("{0}")]
    LeftToKernel(String),
    /// This entry cannot be created, for the reason that the kernel gives for the same.
    #[error("{0}")]
    Refused(Errno),
}

impl WriteError {
    /// For a filesystem or an entry that is left to the kernel.
    pub(super) fn left(what: impl Into<String>) -> Self {
        Self::LeftToKernel(what.into())
    }
}
