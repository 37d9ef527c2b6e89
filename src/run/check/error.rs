//! Errors that end a check without a result.

use std::io;

/// Why a backup was not checked to the end. Damage is no error: it is a [`super::Finding`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The check was cancelled.
    #[error("interrupted before the backup was verified")]
    Stopped,
    /// This process lacks memory, threads or descriptors: that says nothing about the backup.
    #[error("the backup cannot be verified here, and nothing is known about it")]
    Here(#[source] io::Error),
}
