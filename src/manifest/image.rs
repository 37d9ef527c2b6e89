//! The facts of an image backup in a manifest.

use serde::{Deserialize, Serialize};

use crate::source::PoolFacts;

/// The facts of an image backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The bytes that the volume's content uses, which were read (but `unread_bytes`). All others are zeros in the archive.
    pub used_bytes: u64,
    /// The bytes in members of the archive that are not zeros.
    pub data_bytes: u64,
    /// Regions of which every byte counts as used, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_whole: Vec<String>,
    /// The used bytes that were not read: the thin pool showed that they are those of the previous backup.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread_bytes: u64,
    /// The thin pool of the volume; `None` if the index has no digests of what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<PoolRecord>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A thin pool, and its history up to a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolRecord {
    #[serde(flatten)]
    pub(crate) facts: PoolFacts,
    /// The snapshot was written to after its mapping was read: the mapping is not that of the archive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) was_written: bool,
}
