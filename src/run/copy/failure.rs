//! Why a backup was not copied.

use std::io;
use std::path::PathBuf;

use crate::encryption::KeyError;
use crate::manifest::ManifestError;
use crate::store::open::OpenError;
use crate::store::{ReadError, StoreError};

/// What a copy into an object store does after an interruption.
const STARTS_AGAIN: &str = "starts this backup again: an object store keeps no part of a file";

/// Why a backup was not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// Interrupted.
    #[error("interrupted; the next copy {}", if *continues { "continues where this one stopped" } else { STARTS_AGAIN })]
    Stopped {
        /// Whether the target keeps the part that was copied.
        continues: bool,
    },
    /// The copy has a name of its own, which the signature covers, and this host signs nothing.
    #[error(
        "a copy in {} has a name of its own, which the signature of an encrypted backup covers. Set `signing_key` and `recipients` in \
         [encryption], so that this host can sign the copy, or copy the backup to a directory", .0.display()
    )]
    NoSigningKey(PathBuf),
    /// The copy has to be signed, and the key of this host cannot be used.
    #[error("the copy cannot be signed: the signing key of this host cannot be used")]
    Key(#[from] KeyError),
    /// This host puts its signature only on what a trusted host signed.
    #[error("{} {why}. This host does not sign a copy of it", path.display())]
    Unsigned {
        /// The signature of the source.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of the source cannot be opened.
    #[error("the source cannot be opened")]
    Open(#[from] OpenError),
    /// A small file of the source cannot be read.
    #[error("{}", path.display())]
    Small {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ReadError,
    },
    /// The manifest is no longer the one that was listed.
    #[error("{} changed while it was copied: copy again", .0.display())]
    Changed(PathBuf),
    /// The manifest is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Reading the source failed.
    #[error("reading {} failed at byte {offset}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The offset.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The bytes of the source are not those that were backed up.
    #[error(
        "{} is not what was backed up: its {digest} is {found}, and the manifest says {expected}; it was not copied: \
         `volbak verify` says what is wrong", path.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// `SHA-1` or `SHA-256`.
        digest: &'static str,
        /// That of the bytes that were read.
        found: String,
        /// That of the manifest.
        expected: String,
    },
    /// The target is gone or another one.
    #[error("{} is no longer the directory that was opened: it was unmounted, or something was mounted over it", .0.display())]
    TargetGone(PathBuf),
    /// Writing failed.
    #[error("writing to {} failed", path.display())]
    Write {
        /// The folder in the target.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The target refused.
    #[error(transparent)]
    Target(#[from] StoreError),
}

impl TransferError {
    /// Whether no other backup can be copied after this error.
    pub(super) fn ends_all(&self) -> bool {
        match self {
            Self::Stopped { .. } | Self::TargetGone(_) | Self::Write { .. } => true,
            Self::Target(error) => !matches!(error, StoreError::Taken(_) | StoreError::SameName { .. }),
            _ => false,
        }
    }

    /// Whether what was written is of no use to a later copy: the room is needed, or the bytes are wrong.
    pub(super) fn spoils(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Target(_) | Self::Digest { .. } | Self::Changed(_))
    }
}
