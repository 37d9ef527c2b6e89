//! Signs the copy of an encrypted backup that has a name of its own: the signature of the source covers the source's name.

use std::path::Path;

use super::failure::TransferError;
use crate::encryption::{EncryptionOptions, Signer, keyring, signer_of};
use crate::store::Backup;

/// The key of this host, if a trusted host signed these bytes of the manifest of `source`.
pub(super) fn signer_for(
    source: &Backup,
    manifest: &[u8],
    encryption: Option<&EncryptionOptions>,
    target: &Path,
) -> Result<Signer, TransferError> {
    let Some(encryption) = encryption else { return Err(TransferError::NoSigningKey(target.to_owned())) };
    let own = encryption.signer()?;
    let path = source.signature_path();
    let signature = source.read_signature().map_err(|source| TransferError::Small { path: path.clone(), source })?;
    match signer_of(manifest, &signature) {
        Ok(signer) if signer == own.public() || keyring::signers().contains(&signer) => Ok(own),
        Ok(signer) => {
            let why = format!("is of {signer}, which is not a trusted signer (--signer FILE)");
            Err(TransferError::Unsigned { path, why })
        }
        Err(error) => Err(TransferError::Unsigned { path, why: format!("is not right: {error}") }),
    }
}
