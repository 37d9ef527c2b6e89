//! How new backups are encrypted.

use std::path::PathBuf;

use super::error::KeyError;
use super::keys::Recipients;
use super::signing::Signer;

/// For whom backups are encrypted, with what they are signed, and where this host keeps what it needs to carry forward.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncryptionOptions {
    /// Each of them can decrypt a backup alone.
    pub recipients: Recipients,
    /// The file with the host's private key, as ssh-keygen writes it.
    pub signing_key: PathBuf,
    /// The folder of the plain indexes of the last backups.
    pub index_cache: PathBuf,
}

impl EncryptionOptions {
    /// The defaults.
    pub fn for_recipients(recipients: Recipients) -> Self {
        Self {
            recipients,
            signing_key: PathBuf::from("/etc/volbak/signing_key"),
            index_cache: PathBuf::from("/var/lib/volbak/indexes"),
        }
    }

    /// The host's key, which is read from its file.
    pub fn signer(&self) -> Result<Signer, KeyError> {
        Signer::from_file(&self.signing_key)
    }
}
