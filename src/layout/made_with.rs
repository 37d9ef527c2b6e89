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

/// FAT, as its boot sector says it. The boot sector itself is among the bytes that the manifest keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FatMade {
    /// The sectors before the first FAT, boot sector included.
    pub reserved_sectors: u32,
    /// How many FATs there are.
    pub fats: u32,
    /// The length of each, in sectors.
    pub sectors_per_fat: u32,
    /// FAT12 and FAT16: how many entries the root directory has room for; 0 for FAT32.
    pub root_entries: u32,
    /// FAT32: the root directory's first cluster.
    pub root_cluster: u32,
    /// The media byte.
    pub media: u8,
    /// The geometry that the boot sector gives to the disk.
    pub sectors_per_track: u32,
    /// Likewise.
    pub heads: u32,
    /// The sectors before the filesystem, as the boot sector has it.
    pub hidden_sectors: u32,
    /// FAT32: the sector of the boot sector's copy; 0 without one.
    pub backup_boot_sector: u32,
    /// FAT32: the sector with the count of free clusters; 0 without one.
    pub fsinfo_sector: u32,
    /// The name of the system that made it; escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oem_name: Option<String>,
    /// The label in the boot sector, which may be another than that in the root directory; escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_label: Option<String>,
    /// The root directory's entry with the label: 32 bytes in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_entry: Option<String>,
}

/// btrfs, as its superblock and its chunk tree say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BtrfsMade {
    /// The profiles of data (`single`, `dup`); several where a conversion was begun, none where there are no data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data_profiles: Vec<String>,
    /// Those of metadata.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata_profiles: Vec<String>,
    /// Those of the chunk tree.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_profiles: Vec<String>,
    /// The UUID in its metadata, where the UUID was changed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_uuid: Option<String>,
}

/// The array that a member of a software RAID belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MdMade {
    /// The RAID level; negative for what has none (linear: -1).
    pub level: i32,
    /// How many devices the array has.
    pub devices: u32,
    /// Which of them this one is, from 0 on; `None` for a spare and for one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<u32>,
    /// Where the superblock is in the member.
    pub superblock_at: u64,
}
