//! The types of encrypted backups in a build without encryption: no key exists, and nothing is decrypted.
#![allow(clippy::unused_self, reason = "the same methods as with encryption")]

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::outside::BlockRead;

mod error;
mod options;
#[allow(dead_code, reason = "segments are not written without encryption")]
pub(crate) mod segment;
pub(crate) mod table;

pub use self::error::{KeyError, LockedError, SignatureError};
pub use self::options::EncryptionOptions;
pub use self::table::WrittenTable;

mod keys {
    pub(super) use super::Recipients;
}

mod signing {
    pub(super) use super::Signer;
}

/// Nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients(());

impl Recipients {
    /// Always fails.
    pub fn parse(_: &[String]) -> Result<Self, KeyError> {
        Err(KeyError::NotBuilt)
    }

    /// There are none.
    pub fn names(&self) -> &[String] {
        &[]
    }

    pub(crate) fn seal_member(&self, _: &str, _: &[u8], _: usize, _: &mut Vec<u8>) -> usize {
        0
    }

    pub(crate) fn seal(&self, _: &[u8]) -> io::Result<Vec<u8>> {
        Err(not_built())
    }

    pub(crate) fn seal_stream(&self, _: impl Read, _: impl Write) -> io::Result<()> {
        Err(not_built())
    }
}

/// No secret keys.
#[derive(Debug)]
pub struct Identities(());

impl Identities {
    /// Always fails.
    pub fn from_file(_: &Path) -> Result<Self, KeyError> {
        Err(KeyError::NotBuilt)
    }

    /// There are none.
    pub fn recipients(&self) -> Vec<String> {
        Vec::new()
    }
}

/// No key for signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer(());

impl Signer {
    /// Always fails.
    pub fn from_file(_: &Path) -> Result<Self, KeyError> {
        Err(KeyError::NotBuilt)
    }

    /// There is none.
    pub fn public(&self) -> PublicSigner {
        PublicSigner(())
    }

    pub(crate) fn sign(&self, _: &[u8]) -> io::Result<String> {
        Err(not_built())
    }
}

/// No signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicSigner(());

impl PublicSigner {
    /// Always `None`.
    pub fn parse(_: &str) -> Option<Self> {
        None
    }
}

impl fmt::Display for PublicSigner {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

fn not_built() -> io::Error {
    io::Error::other(KeyError::NotBuilt)
}

pub(crate) fn signer_of(_: &[u8], _: &[u8]) -> Result<PublicSigner, SignatureError> {
    Err(SignatureError::NotBuilt)
}

pub(crate) fn open(_: &[u8], _: u64, _: &mut Vec<u8>) -> Result<(), LockedError> {
    Err(LockedError::NotBuilt)
}

/// Nothing.
#[derive(Debug)]
pub struct Opened(());

impl Opened {
    pub(crate) fn new(_: Arc<dyn BlockRead>) -> Result<Self, LockedError> {
        Err(LockedError::NotBuilt)
    }
}

impl BlockRead for Opened {
    fn len_bytes(&self) -> u64 {
        0
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(not_built())
    }
}

/// No keys.
pub mod keyring {
    use super::{Identities, PublicSigner};

    /// Cannot be called.
    pub fn unlock(_: Identities) {}

    /// Cannot be called.
    pub fn trust(_: PublicSigner) {}

    /// There are none.
    pub fn has_identities() -> bool {
        false
    }

    pub(crate) fn signers() -> Vec<PublicSigner> {
        Vec::new()
    }
}
