//! Encrypted backups: segments that are age files, signatures as ssh-keygen makes them, and the keys of this process.
//!
//! Format: age (`age-encryption.org/v1`), with X25519 recipients. `segment` knows the header of a segment, and needs no
//! key. `keys` encrypts for recipients, and decrypts with the identities of the [`keyring`]. `signing` signs the
//! manifest with the host's key. `table` lists the segments of an archive in plain text.

mod error;
pub mod keyring;
mod keys;
mod options;
mod secret;
pub(crate) mod segment;
mod signing;
mod stream;
pub(crate) mod table;

pub use self::error::{KeyError, LockedError, SignatureError};
pub use self::keys::{Identities, Recipients};
pub use self::options::EncryptionOptions;
pub(crate) use self::signing::signer_of;
pub use self::signing::{PublicSigner, Signer};
pub(crate) use self::stream::{Opened, open};
pub use self::table::WrittenTable;
