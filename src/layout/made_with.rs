//! Parameters of single kinds of filesystems, in addition to [`MadeWith`](super::MadeWith). A restore applies them
//! and compares each field afterwards.

use serde::{Deserialize, Serialize};

/// XFS, from its superblock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct XfsMade {
    /// The stripe unit; 0 without one.
    pub stripe_unit_bytes: u64,
    /// The stripe width; 0 without one.
    pub stripe_width_bytes: u64,
    /// The size of an allocation group.
    pub group_bytes: u64,
    /// The number of allocation groups.
    pub groups: u32,
    /// The size of the log.
    pub log_bytes: u64,
    /// The allocation group that holds the log.
    pub log_group: u64,
    /// The log version, 1 or 2.
    pub log_version: u32,
    /// The stripe unit of the log; 0 without one.
    pub log_stripe_unit_bytes: u32,
    /// The maximum percentage of space for inodes; 0 means no limit.
    pub inode_percent_max: u8,
    /// The extent size of the realtime section, also set without such a section.
    pub realtime_extent_bytes: u64,
    /// The attr version: 0 (no attributes yet), 1 or 2.
    pub attr_version: u32,
    /// Whether project ids have 32 bits (`projid32bit`).
    pub project_id_32bit: bool,
    /// Whether superblock counters are updated lazily (`lazy-count`).
    pub lazy_count: bool,
    /// Whether file names ignore the case of ASCII letters (`version=ci`).
    pub case_insensitive: bool,
    /// The UUID in the metadata, if the filesystem's UUID was changed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_uuid: Option<String>,
    /// The quotas accounted or enforced, in xfs_admin's names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<String>,
}

/// FAT, from its boot sector. The manifest also keeps the boot sector itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FatMade {
    /// Sectors before the first FAT, including the boot sector.
    pub reserved_sectors: u32,
    /// The number of FATs.
    pub fats: u32,
    /// Sectors per FAT.
    pub sectors_per_fat: u32,
    /// FAT12 and FAT16: the number of root directory entries; 0 for FAT32.
    pub root_entries: u32,
    /// FAT32: the root directory's first cluster.
    pub root_cluster: u32,
    /// The media byte.
    pub media: u8,
    /// The disk geometry in the boot sector.
    pub sectors_per_track: u32,
    /// The disk geometry in the boot sector.
    pub heads: u32,
    /// Sectors before the filesystem, according to the boot sector.
    pub hidden_sectors: u32,
    /// FAT32: the sector of the backup boot sector; 0 without one.
    pub backup_boot_sector: u32,
    /// FAT32: the FSInfo sector; 0 without one.
    pub fsinfo_sector: u32,
    /// The OEM name, escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oem_name: Option<String>,
    /// The label in the boot sector, escaped. It may differ from the label in the root directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_label: Option<String>,
    /// The root directory entry with the label: 32 bytes in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_entry: Option<String>,
}

/// btrfs, from its superblock and chunk tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BtrfsMade {
    /// The profiles of data (`single`, `dup`): several during a conversion, none without data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data_profiles: Vec<String>,
    /// The profiles of metadata.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata_profiles: Vec<String>,
    /// The profiles of the chunk tree.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_profiles: Vec<String>,
    /// The UUID in the metadata, if the filesystem's UUID was changed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_uuid: Option<String>,
}

/// The array of a software RAID member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MdMade {
    /// The RAID level; negative for arrays without one (linear: -1).
    pub level: i32,
    /// The number of devices in the array.
    pub devices: u32,
    /// The index of this device, from 0; `None` for a spare or failed device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<u32>,
    /// The offset of the superblock in the member.
    pub superblock_at: u64,
}
