//! What single kinds of filesystems were made with, beyond what [`MadeWith`](super::MadeWith) has for all of them.
//! A restore makes the same again, and compares each field that is here afterwards.

use serde::{Deserialize, Serialize};

/// XFS, as its superblock says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct XfsMade {
    /// The stripe unit; 0 without one.
    pub stripe_unit_bytes: u64,
    /// The stripe width; 0 without one.
    pub stripe_width_bytes: u64,
    /// The length of an allocation group.
    pub group_bytes: u64,
    /// How many allocation groups there are.
    pub groups: u32,
    /// The length of the log.
    pub log_bytes: u64,
    /// The allocation group that the log is in.
    pub log_group: u64,
    /// The version of the log's format, 1 or 2.
    pub log_version: u32,
    /// The stripe unit of the log; 0 without one.
    pub log_stripe_unit_bytes: u32,
    /// How much of the space inodes may take, in percent; 0 is without a limit.
    pub inode_percent_max: u8,
    /// The length of an extent of the realtime section, also where there is no such section.
    pub realtime_extent_bytes: u64,
    /// The version of the layout of extended attributes: 0 (none yet), 1 or 2.
    pub attr_version: u32,
    /// Whether project ids have 32 bits.
    pub project_id_32bit: bool,
    /// Whether the superblock's counters are kept up lazily.
    pub lazy_count: bool,
    /// Whether names that differ in the case of ASCII letters alone are one name.
    pub case_insensitive: bool,
    /// The UUID in its metadata, where the UUID was changed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_uuid: Option<String>,
    /// The quotas that were accounted or enforced, by the names that xfs_admin has for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<String>,
}
