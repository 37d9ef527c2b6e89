//! What a manifest says of each region.

use serde::{Deserialize, Serialize};

use crate::layout::Handling;

/// What became of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// Its name in the layout.
    pub name: String,
    /// What was really done: a filesystem that could not be read is a raw image here.
    pub handling: Handling,
    /// Where it is in the archive: the directory of its files (`.`, `./p1`) or the image's path.
    pub archive_path: Option<String>,
    /// The directory of its files (`.`, `./p1`), where those that can be read are in the archive besides its raw image:
    /// others are encrypted, or hidden by another one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_path: Option<String>,
    /// How much the filesystem itself says is in use, in bytes.
    pub used_bytes: Option<u64>,
    /// Whether its journal was replayed in a temporary copy.
    pub journal_replayed_in_copy: bool,
    /// Whether its filesystem was in use at the moment that the backup shows: what was written last may then be on the disk
    /// in part only. `None` where there are no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<bool>,
    /// The reader of its files: `ext4` is volbak's own, `kernel` a mount. `None` where there are none, and in backups of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
    /// Whether the attributes of a FAT or exFAT (hidden, system, archive) are in the archive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_fat_attributes: bool,
    /// The limits of an ext4's quotas. `None` where there are none, elsewhere, and in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_limits: Option<Box<QuotaRecord>>,
    /// What a btrfs has besides files. `None` where it has nothing of that, elsewhere, and in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub btrfs: Option<Box<BtrfsRecord>>,
}

/// The limits of a filesystem's quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRecord {
    /// How many users, groups and projects have limits.
    pub count: u64,
    /// The first thousand, as arguments of setquota(8): `-u`, `-g` or `-P`, the number, blocks soft and hard, inodes soft and hard.
    #[serde(default)]
    pub setquota: Vec<String>,
}

/// What a btrfs has besides files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BtrfsRecord {
    /// The id of the subvolume that is mounted when none is named; `None` for the top one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_subvolume: Option<u64>,
    /// Whether quotas are on. Their limits are not in a backup.
    #[serde(default)]
    pub quotas: bool,
    /// The directories in the archive that are subvolumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subvolumes: Vec<SubvolumeRecord>,
}

/// A subvolume. Its UUIDs are for information: a restored one has new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubvolumeRecord {
    /// Its path from the filesystem's root, escaped as in the index.
    pub path: String,
    /// Its id, which fstab may name (`subvolid=`).
    pub id: u64,
    /// Whether nothing in it may be changed.
    pub read_only: bool,
    /// Its UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The UUID of the one that it is a snapshot of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_uuid: Option<String>,
    /// The UUID of the one that it was received from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_uuid: Option<String>,
}

impl RegionRecord {
    /// Where its files are in the archive; `None` where there are none.
    pub fn files_path(&self) -> Option<&str> {
        match self.handling {
            Handling::Files => self.archive_path.as_deref(),
            _ => self.files_path.as_deref(),
        }
    }
}
