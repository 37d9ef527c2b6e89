//! Signatures of manifests: SSHSIG with an Ed25519 key, which `ssh-keygen -Y verify` checks.
//!
//! Source: OpenSSH, PROTOCOL.sshsig.

use std::fmt;
use std::path::Path;

use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::error::{KeyError, SignatureError};
use super::secret::read_secret;

/// The namespace, which keeps a signature from passing for one of something else.
const NAMESPACE: &str = "volbak";
/// The longest key file.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The host's key for signing.
#[derive(Clone)]
pub struct Signer(PrivateKey);

impl Signer {
    /// Reads a private key as ssh-keygen writes it, without a passphrase. Only its owner may be able to read it.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let text = read_secret(path, MAX_FILE_BYTES)?;
        let key = PrivateKey::from_openssh(text).ok();
        let fits = |key: &PrivateKey| key.algorithm() == Algorithm::Ed25519 && !key.is_encrypted();
        key.filter(fits).map(Self).ok_or_else(|| KeyError::NotASigningKey(path.to_owned()))
    }

    /// Its public key.
    pub fn public(&self) -> PublicSigner {
        PublicSigner(self.0.public_key().clone())
    }

    /// The signature of `bytes`, armored.
    pub(crate) fn sign(&self, bytes: &[u8]) -> std::io::Result<String> {
        let signed = self.0.sign(NAMESPACE, HashAlg::Sha512, bytes).map_err(std::io::Error::other)?;
        signed.to_pem(LineEnding::LF).map_err(std::io::Error::other)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signer({})", self.public())
    }
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for Signer {}

/// The public key of a signer.
#[derive(Clone, Debug)]
pub struct PublicSigner(PublicKey);

impl PublicSigner {
    /// Parses `ssh-ed25519 …`, a line of a `.pub` file or of a file of allowed signers.
    pub fn parse(line: &str) -> Option<Self> {
        let key = line.find("ssh-ed25519 ").and_then(|at| PublicKey::from_openssh(&line[at..]).ok())?;
        (key.algorithm() == Algorithm::Ed25519).then_some(Self(key))
    }
}

impl PartialEq for PublicSigner {
    fn eq(&self, other: &Self) -> bool {
        self.0.key_data() == other.0.key_data()
    }
}

impl Eq for PublicSigner {}

impl fmt::Display for PublicSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = self.0.clone();
        key.set_comment("");
        let text = key.to_openssh().map_err(|_| fmt::Error)?;
        formatter.write_str(text.trim_end())
    }
}

/// Who signed `bytes`. The caller decides whether that signer is trusted.
pub(crate) fn signer_of(bytes: &[u8], signature: &[u8]) -> Result<PublicSigner, SignatureError> {
    let signature = SshSig::from_pem(signature).map_err(|_| SignatureError::NotASignature)?;
    if signature.algorithm() != Algorithm::Ed25519 {
        return Err(SignatureError::NotASignature);
    }
    let key = PublicKey::from(signature.public_key().clone());
    key.verify(NAMESPACE, bytes, &signature).map_err(|_| SignatureError::Wrong)?;
    Ok(PublicSigner(key))
}
