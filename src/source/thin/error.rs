//! Why the mapping of a thin snapshot is not known.

use std::io;
use std::path::PathBuf;

use crate::source::error::SourceError;

/// Why the mapping of a thin snapshot is not known. None of these makes a backup worse: all is read then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ThinError {
    /// A program is missing, or failed.
    #[error(transparent)]
    Tool(#[from] SourceError),
    /// The kernel does not tell a fact.
    #[error("this kernel does not tell {what}")]
    Kernel {
        /// The fact.
        what: &'static str,
        /// The error from the system.
        source: io::Error,
    },
    /// The volume has an external origin: chunks that are not mapped are read from it.
    #[error("the volume has an external origin")]
    ExternalOrigin,
    /// The pool is not in its usual state.
    #[error("the thin pool {0}")]
    Pool(&'static str),
    /// The pool's metadata snapshot is reserved, not by volbak.
    #[error(
        "another program has reserved the metadata snapshot of the thin pool; if none uses it, release it with \
         `dmsetup message -j {major} -m {minor} 0 release_metadata_snap`"
    )]
    Reserved {
        /// The pool's device.
        major: u32,
        /// The same.
        minor: u32,
    },
    /// The pool's metadata snapshot was not free in time.
    #[error("other backups used the metadata snapshot of the thin pool for {0} s")]
    Waited(u64),
    /// The mark of the reservation could not be read or written.
    #[error("{}: the mark of the reserved metadata snapshot cannot be kept", path.display())]
    Mark {
        /// Its file.
        path: PathBuf,
        /// The error from the system.
        source: io::Error,
    },
    /// Something is not as expected.
    #[error("{0}")]
    Unexpected(String),
    /// The output of `thin_dump` is not of the known form.
    #[error("line {line} of thin_dump's output: {what}")]
    Dump {
        /// The line number, from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The mapping could not be kept for the backup.
    #[error("the mapping of the thin volume cannot be kept in a temporary file")]
    Keep(#[source] io::Error),
    /// The backup was cancelled.
    #[error("cancelled")]
    Cancelled,
}
