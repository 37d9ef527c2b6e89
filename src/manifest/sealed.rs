//! The manifest of an encrypted backup: facts that anyone may read, and those that only recipients can.

use serde::{Deserialize, Serialize};

use super::image::ImageRecord;
use super::region::RegionRecord;
use crate::cloud::VolumeInCloud;
use crate::encryption::LockedError;
use crate::events::Problem;
use crate::layout::Layout;

/// How a backup is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionRecord {
    /// The public keys of those who can decrypt it, sorted.
    pub recipients: Vec<String>,
    /// The public key of the host that signed this manifest, as in a `.pub` file.
    pub signer: String,
    /// The length of the table of segments.
    pub segments_bytes: u64,
    /// SHA-256 of the table of segments.
    pub segments_sha256: String,
    /// Whether the backup is the image of a volume, not an archive of files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_image: bool,
    /// The other facts: an age file of JSON, in base64. Empty in the copy that the host keeps.
    pub private: String,
}

/// The facts that only recipients can read.
#[derive(Serialize, Deserialize)]
pub(super) struct Private {
    pub(super) layout: Layout,
    pub(super) regions: Vec<RegionRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<ImageRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cloud: Option<Box<VolumeInCloud>>,
    pub(super) exclude: Vec<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) index_bytes: u64,
    pub(super) index_sha256: String,
}

/// Why a manifest cannot be decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// There is no key that decrypts it.
    #[error("it is encrypted for {}: {why}", recipients.join(" and "))]
    Locked {
        /// The cause.
        why: LockedError,
        /// Who can decrypt it.
        recipients: Vec<String>,
    },
    /// The decrypted facts are not what volbak writes.
    #[error("the encrypted part of the manifest is damaged")]
    Damaged,
}
