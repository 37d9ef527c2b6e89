//! Errors that end a check without a result.

use std::io;

/// Why a check did not finish. Damage is no error: it is a [`super::Finding`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The check was cancelled.
    #[error("interrupted before the backup was verified")]
    Stopped,
    /// A lack of memory, threads or descriptors. It says nothing about the backup.
    #[error("the backup could not be verified on this host: it may be good or bad")]
    Here(#[source] io::Error),
}
