//! The facts of an image backup in a manifest.

use serde::{Deserialize, Serialize};

/// The facts of an image backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The bytes that the volume's content uses, which were read. All others are zeros in the archive.
    pub used_bytes: u64,
    /// The bytes in members of the archive that are not zeros.
    pub data_bytes: u64,
    /// Regions of which every byte counts as used, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_whole: Vec<String>,
}
