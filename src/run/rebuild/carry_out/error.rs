//! Errors that end the carrying out of a plan.

use std::io;

use crate::reader::kernel::device_map::DeviceMapError;
use crate::reader::kernel::mounted::MountError;
use crate::run::restore::RestoreError;

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarryOutError {
    /// Writing failed.
    #[error("{what}")]
    Io {
        /// What was at work.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A tool could not be run, or failed.
    #[error("{region}: `{command}` failed: {said}")]
    Tool {
        /// The region.
        region: String,
        /// The command, as a person would type it.
        command: String,
        /// What it said.
        said: String,
    },
    /// The pieces of a volume could not be put together.
    #[error("{region}: its pieces cannot be put together")]
    Pieces {
        /// The region.
        region: String,
        /// Why.
        source: DeviceMapError,
    },
    /// The new filesystem cannot be mounted.
    #[error("{region}: the new filesystem cannot be mounted")]
    Mount {
        /// The region.
        region: String,
        /// Why.
        source: MountError,
    },
    /// The files could not be restored.
    #[error("{region}: its files")]
    Files {
        /// The region.
        region: String,
        /// Why.
        source: RestoreError,
    },
    /// Somebody wanted it to stop.
    #[error("stopped")]
    Stopped,
}

/// What a tool printed when it failed, and its exit status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ToolFailure(pub(super) String);

/// An I/O error with what was at work; an interruption is the wish to stop.
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> CarryOutError {
    let what = what.into();
    move |source| match source.kind() {
        io::ErrorKind::Interrupted => CarryOutError::Stopped,
        _ => CarryOutError::Io { what, source },
    }
}
