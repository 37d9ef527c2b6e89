//! The layout of a source: its partition table, its regions, and the content of each region. This module does not
//! write, mount or run programs. It reads bytes that a tenant controls and trusts none of them.
//!
//! The structures serialise to the JSON that `volbak inspect --json` prints and the manifest keeps.

mod budget;
mod choice;
mod damage;
mod detect;
mod gaps;
pub mod gpt;
pub mod lvm2;
mod made_with;
pub mod mbr;
mod nested;
mod partitions;
pub mod probe;
mod problems;
mod region;
mod render;
mod scan;
mod text;
pub(crate) mod window;

use serde::{Deserialize, Serialize};

use crate::events::Problem;
use crate::units::Extent;

pub use damage::recorded_damage;
pub use detect::{LayoutError, detect, detect_within};
pub use made_with::{BtrfsMade, FatMade, MdMade, XfsMade};
pub use region::RegionBlocks;
pub use render::render_table;
pub use scan::SCAN_BYTES;

/// The layout of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The source itself.
    pub source: SourceFacts,
    /// Its partition table.
    pub table: Table,
    /// All regions, by number. A logical volume follows the region that holds its PV. Non-zero gaps between
    /// partitions come last, with number 0.
    pub regions: Vec<Region>,
    /// Bytes outside every region that a restore of the disk needs: boot code and partition tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<PreservedBytes>,
    /// Damage, contradictions and exceeded bounds, and how each was handled.
    pub problems: Vec<Problem>,
}

impl Layout {
    /// A layout of nothing.
    pub(crate) fn empty() -> Self {
        Self {
            source: SourceFacts { path: String::new(), size_bytes: 0, sector_size: 512 },
            table: Table::default(),
            regions: Vec::new(),
            outside: Vec::new(),
            problems: Vec::new(),
        }
    }
}

/// Facts of the source that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// The path or `VG/LV` as the user gave it; bytes that are not UTF-8 are escaped.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// The logical sector size, the unit of the table's LBAs.
    pub sector_size: u32,
}

/// The partition table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The format.
    pub kind: TableKind,
    /// GPT: the disk GUID, lower case. MBR: the disk signature, eight hex digits. `None` without a table.
    pub uuid: Option<String>,
    /// GPT: which copy of the entries was used.
    pub used_copy: Option<UsedCopy>,
}

/// The format of a partition table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// GUID partition table (UEFI 2.10, section 5.3).
    Gpt,
    /// Master boot record (UEFI 2.10, section 5.2.1, and the extended boot records in use since MS-DOS 3.3).
    Mbr,
    /// No table: the whole source is one region.
    #[default]
    None,
}

/// Which copy of a GPT was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsedCopy {
    /// The one at the start of the disk.
    Primary,
    /// The backup at the end of the disk, since the primary is damaged or missing.
    Backup,
}

/// One or several extents of the source, seen as one small disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its name in the archive and in messages: `p1`, `disk`, `p2.vg0-home`, `p3.tail`. Holds no `/` and no control character.
    pub name: String,
    /// The partition's number as the kernel and partx give it; 0 for a source without a table. A logical volume has
    /// the number of the region that holds its PV.
    pub number: u32,
    /// The region that contains this one: an extended partition, the region with the PV, or the RAID member. For a
    /// tail: the region whose content ends before it.
    pub parent: Option<String>,
    /// Set if the region is a logical volume inside the source.
    pub lv: Option<NestedLv>,
    /// The first byte on the source.
    pub start_bytes: u64,
    /// Its length: the sum of the extents' lengths.
    pub size_bytes: u64,
    /// Its extents on the source, in the region's order.
    pub extents: Vec<Extent>,
    /// MBR: the system id (`0x83`). GPT: the type GUID in lower case. Empty without a table.
    #[serde(rename = "type")]
    pub type_id: String,
    /// The type in words (`Linux filesystem`), empty when unknown.
    pub type_name: String,
    /// GPT: the partition's name.
    pub partition_name: String,
    /// GPT: the partition's GUID, lower case. MBR: disk signature and number as blkid prints them (`1234abcd-01`).
    pub partition_uuid: String,
    /// MBR: the boot indicator is 0x80. GPT: the attribute "legacy BIOS bootable" (bit 2) is set.
    pub bootable: bool,
    /// Its content.
    pub holds: Holds,
    /// How a backup handles it.
    pub handling: Handling,
}

/// The logical volume of a volume group that lies inside the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedLv {
    /// The volume group's name.
    pub vg: String,
    /// The logical volume's name.
    pub lv: String,
}

/// A run of the source's bytes kept in the manifest itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreservedBytes {
    /// What the bytes are (`boot sector`, `GPT primary header`).
    pub what: String,
    /// Its first byte on the source.
    pub start_bytes: u64,
    /// Their number before compression.
    pub size_bytes: u64,
    /// The encoding of `data`: `gzip+base64`, decoded by `base64 -d | gunzip`.
    pub encoding: String,
    /// The bytes.
    pub data: String,
}

/// The content of a region, recognised by signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// The kind of content.
    pub kind: HoldsKind,
    /// The filesystem type as mount(8) knows it (`ext4`, `xfs`, `btrfs`, `vfat`, `ntfs`), or blkid's name for other
    /// content. `None` for empty and unknown.
    pub fs: Option<String>,
    /// Its UUID, as blkid prints it.
    pub uuid: Option<String>,
    /// Its label, escaped where it is not UTF-8.
    pub label: Option<String>,
    /// The version of the format, where it has one.
    pub version: Option<String>,
    /// The length of the content according to its own headers, if they state one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The parameters to make the same filesystem again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[doc(hidden)]
    pub made_with: Option<MadeWith>,
}

/// The parameters that mkfs takes. Each kind of filesystem has some of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeWith {
    /// ext, XFS: block size. btrfs: sector size. FAT: cluster size. Swap: page size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// XFS and FAT: sector size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_bytes: Option<u32>,
    /// ext and XFS: inode size. btrfs: node size. For XFS directory blocks see [`Self::directory_block_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode_bytes: Option<u32>,
    /// XFS: directory block size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_block_bytes: Option<u32>,
    /// ext: the number of inodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// ext: the number of blocks reserved for root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_blocks: Option<u64>,
    /// ext with bigalloc: cluster size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_bytes: Option<u32>,
    /// ext: the length of the journal in blocks; `None` without an internal journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_blocks: Option<u64>,
    /// ext4 with `fast_commit`: how many blocks of the journal are for fast commits. `None` in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_commit_blocks: Option<u64>,
    /// ext: the superblock, 1024 bytes in base64. It holds everything that tune2fs sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superblock: Option<String>,
    /// btrfs: the name of the checksum algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// The enabled features, by mkfs's names. Unnamed ext features are `FEATURE_I31`; unnamed XFS and btrfs
    /// features are `incompat-0x8000`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Parameters of XFS. `None` in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xfs: Option<Box<XfsMade>>,
    /// Parameters of FAT. `None` in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fat: Option<Box<FatMade>>,
    /// Parameters of btrfs. `None` in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub btrfs: Option<Box<BtrfsMade>>,
    /// The array of a software RAID member. `None` in backups of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md: Option<Box<MdMade>>,
}

/// The kind of a region's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldsKind {
    /// A filesystem of a known type.
    Filesystem,
    /// Swap space.
    Swap,
    /// A LUKS container.
    Luks,
    /// An LVM2 physical volume.
    Lvm2Pv,
    /// A member of a Linux software RAID.
    Mdraid,
    /// Empty: every byte is zero.
    Empty,
    /// Content that no probe recognises.
    #[default]
    Unknown,
}

/// How a backup handles a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handling {
    /// Its files are archived.
    Files,
    /// Its bytes are archived as a sparse image.
    #[default]
    RawImage,
    /// Only its facts are kept, in the manifest: there is no data to keep (swap, empty).
    MetadataOnly,
    /// It contains other regions, which are archived themselves.
    Container,
}
