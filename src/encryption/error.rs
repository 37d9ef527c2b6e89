//! What can be wrong with keys, signatures and encrypted files.

use std::io;
use std::path::PathBuf;

use super::segment::MAX_RECIPIENTS;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A recipient that cannot be parsed.
    #[error("{0:?} is not a recipient: a recipient is the line `age1…` that age-keygen prints as the public key")]
    NotARecipient(String),
    /// A number of recipients that is not possible.
    #[error("there are {0} recipients, and there can be 1 to {MAX_RECIPIENTS}")]
    Number(usize),
    /// The same recipient twice.
    #[error("the recipient {0} is there twice")]
    Twice(String),
    /// A file that cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line of a file of identities.
    #[error(
        "{}, line {line}: not an identity. An identity is the line `AGE-SECRET-KEY-1…` that age-keygen writes", path.display()
    )]
    NotAnIdentity {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A file without an identity.
    #[error("{} has no identity: age-keygen -o FILE makes one", .0.display())]
    NoIdentity(PathBuf),
    /// A secret that others can read.
    #[error("others than its owner can read {}, which holds a secret key: `chmod 600 {}`", .0.display(), .0.display())]
    Readable(PathBuf),
    /// A key for signing that cannot be used.
    #[error(
        "{} is no key for signing: make one with `ssh-keygen -t ed25519 -N '' -C volbak -f {}`", .0.display(), .0.display()
    )]
    NotASigningKey(PathBuf),
    /// The program has no encryption.
    #[error("this volbak was built without encryption")]
    NotBuilt,
}

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Other bytes.
    #[error("it is not a signature as ssh-keygen -Y sign makes it")]
    NotASignature,
    /// The signature is not one of these bytes.
    #[error("the signature does not match: the manifest was changed, or is that of another backup")]
    Wrong,
    /// The program has no encryption.
    #[error("this volbak was built without encryption, and checks no signatures")]
    NotBuilt,
}

/// Why an age file cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockedError {
    /// There is no identity.
    #[error(
        "there is no identity to decrypt it with: give one with --identity FILE, or identities_file in [encryption]"
    )]
    NoIdentity,
    /// No identity fits, or the header is damaged.
    #[error("no identity that was given decrypts it, or its header is damaged")]
    NotForThese,
    /// The content is damaged.
    #[error("what is encrypted is damaged")]
    Damaged,
    /// The program has no encryption.
    #[error("this volbak was built without encryption")]
    NotBuilt,
}
