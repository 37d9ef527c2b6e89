//! The record of each region in a manifest.

use serde::{Deserialize, Serialize};

use crate::layout::Handling;

/// The record of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// Its name in the layout.
    pub name: String,
    /// The actual handling: a filesystem that could not be read is a raw image here.
    pub handling: Handling,
    /// Its place in the archive: the directory of its files (`.`, `./p1`), or the image's path.
    pub archive_path: Option<String>,
    /// The directory of its readable files (`.`, `./p1`), if they are in the archive in addition to its raw image
    /// because other files are encrypted, or hidden by one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_path: Option<String>,
    /// Used bytes according to the filesystem.
    pub used_bytes: Option<u64>,
    /// Whether its raw image has only the blocks that its filesystem uses, and zeros in place of free ones. False without an
    /// image, and in backups of older versions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub used_blocks_only: bool,
    /// Whether its journal was replayed into a temporary copy.
    pub journal_replayed_in_copy: bool,
    /// Whether its filesystem was in use at the moment shown by the backup: the last writes may be incomplete on
    /// disk. `None` without files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<bool>,
    /// The reader of its files: `ext4` is volbak's own, `kernel` a mount. `None` without files, and in backups of
    /// older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
    /// Whether the archive has the attributes of a FAT or exFAT (hidden, system, archive).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_fat_attributes: bool,
    /// The quota limits of an ext4. `None` without limits, for other filesystems, and in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[doc(hidden)]
    pub quota_limits: Option<Box<QuotaRecord>>,
    /// Facts of a btrfs besides its files. `None` if there are none, for other filesystems, and in backups of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[doc(hidden)]
    pub btrfs: Option<Box<BtrfsRecord>>,
}

/// The quota limits of a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRecord {
    /// The number of users, groups and projects with limits.
    pub count: u64,
    /// The first thousand, as arguments of setquota(8): `-u`, `-g` or `-P`, the id, blocks soft and hard, inodes
    /// soft and hard.
    #[serde(default)]
    pub setquota: Vec<String>,
    /// The grace times other than a week, as arguments of setquota(8): `-t`, `-u`, `-g` or `-P`, seconds for blocks and
    /// for inodes. Empty in backups of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grace: Vec<String>,
}

/// Facts of a btrfs besides its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BtrfsRecord {
    /// The id of the default subvolume; `None` for the top-level one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_subvolume: Option<u64>,
    /// Whether quotas are enabled. Their limits are not in a backup.
    #[serde(default)]
    pub quotas: bool,
    /// The directories in the archive that are subvolumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subvolumes: Vec<SubvolumeRecord>,
}

/// A subvolume. Its UUIDs are for information: a restored subvolume gets new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubvolumeRecord {
    /// Its path from the filesystem's root, escaped as in the index.
    pub path: String,
    /// Its id, which fstab may name (`subvolid=`).
    pub id: u64,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Its UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The UUID of the subvolume that it is a snapshot of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_uuid: Option<String>,
    /// The UUID of the sent subvolume (`btrfs receive`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_uuid: Option<String>,
}

impl RegionRecord {
    /// The directory of its files in the archive; `None` without files.
    pub(crate) fn files_path(&self) -> Option<&str> {
        match self.handling {
            Handling::Files => self.archive_path.as_deref(),
            _ => self.files_path.as_deref(),
        }
    }
}
