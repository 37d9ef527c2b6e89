//! What lies on a source: its partition table, the regions in it, and what each of them holds. Nothing here writes,
//! mounts or runs a program: it reads bytes that a tenant controls, and trusts none of them.
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
mod window;

use serde::{Deserialize, Serialize};

use crate::events::Problem;
use crate::units::Extent;

pub use damage::recorded_damage;
pub use detect::{LayoutError, detect, detect_within};
pub use made_with::{BtrfsMade, FatMade, MdMade, XfsMade};
pub use region::RegionBlocks;
pub use render::render_table;
pub use scan::SCAN_BYTES;

/// All that was found on a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The source itself.
    pub source: SourceFacts,
    /// Its partition table.
    pub table: Table,
    /// Every region, in the order of their numbers; a logical volume's come right after the region that holds its PV,
    /// and gaps between partitions that are not zero come last, with number 0.
    pub regions: Vec<Region>,
    /// Bytes outside every region that a restore needs to make the disk what it was: boot code, partition tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<PreservedBytes>,
    /// What is damaged, contradictory or out of bounds, and what was made of it.
    pub problems: Vec<Problem>,
}

/// Facts of the source that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// The path or `VG/LV` as the user gave it; bytes that are not UTF-8 are escaped.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// The logical sector size that the table's numbers count in.
    pub sector_size: u32,
}

/// The partition table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Which format.
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
    /// The one at its end, since the primary is damaged or missing.
    Backup,
}

/// A run of bytes of the source, or several, seen as one small disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its name in the archive and in messages: `p1`, `disk`, `p2.vg0-home`, `p3.tail`. Holds no `/` and no control character.
    pub name: String,
    /// The partition's number as the kernel and partx give it; 0 for a source without a table. A logical volume has
    /// the number of the region that holds its PV.
    pub number: u32,
    /// The region that this one lies in: an extended partition, the region with the PV or the mirror's member, or the
    /// one whose content ends before this one, its tail, begins.
    pub parent: Option<String>,
    /// The logical volume inside the source that this region is.
    pub lv: Option<NestedLv>,
    /// The first byte on the source.
    pub start_bytes: u64,
    /// How long it is; the sum of the extents' lengths.
    pub size_bytes: u64,
    /// Where its bytes are on the source, in the region's own order.
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
    /// What it holds.
    pub holds: Holds,
    /// What a backup does with it.
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
    /// What it is (`boot sector`, `GPT primary header`), in words.
    pub what: String,
    /// Its first byte on the source.
    pub start_bytes: u64,
    /// How many bytes, before they were compressed.
    pub size_bytes: u64,
    /// How `data` is to be read: `gzip+base64`, which `base64 -d | gunzip` undoes.
    pub encoding: String,
    /// The bytes.
    pub data: String,
}

/// What a region holds, by its signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// The kind of content.
    pub kind: HoldsKind,
    /// The filesystem's name as mount(8) knows it (`ext4`, `xfs`, `btrfs`, `vfat`, `ntfs`), or the name that blkid
    /// gives to other content. `None` for empty and unknown.
    pub fs: Option<String>,
    /// Its UUID, as blkid prints it.
    pub uuid: Option<String>,
    /// Its label, escaped where it is not UTF-8.
    pub label: Option<String>,
    /// The version of the format, where it has one.
    pub version: Option<String>,
    /// How long the content says that it is, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// A filesystem's own parameters, for making one like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_with: Option<MadeWith>,
}

/// What a filesystem was made with, as its mkfs takes it. Each kind has some of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeWith {
    /// ext, XFS: the block. btrfs: the sector. FAT: the cluster. Swap: the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// XFS and FAT: the sector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_bytes: Option<u32>,
    /// ext and XFS: an inode. btrfs: a node of its trees. XFS's directories have [`Self::directory_block_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode_bytes: Option<u32>,
    /// XFS: a directory's block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_block_bytes: Option<u32>,
    /// ext: how many inodes there are room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// ext: how many blocks only root may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_blocks: Option<u64>,
    /// ext with bigalloc: the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_bytes: Option<u32>,
    /// ext: how many blocks its journal has; `None` where there is none in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_blocks: Option<u64>,
    /// ext: the superblock, 1024 bytes in base64. What tune2fs sets is all in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superblock: Option<String>,
    /// btrfs: the checksum's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// The features that are on, by the names that mkfs has for them. One without a name is left out; of XFS and btrfs
    /// it has the name of its bit, `incompat-0x8000`, of ext `FEATURE_I31`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// What XFS alone has. `None` in backups of older versions, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xfs: Option<Box<XfsMade>>,
    /// What FAT alone has. `None` in backups of older versions, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fat: Option<Box<FatMade>>,
    /// What btrfs alone has. `None` in backups of older versions, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub btrfs: Option<Box<BtrfsMade>>,
    /// A member of a software RAID: its array. `None` in backups of older versions, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md: Option<Box<MdMade>>,
}

/// The kind of content of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldsKind {
    /// A filesystem that is known by name.
    Filesystem,
    /// Swap space.
    Swap,
    /// A LUKS container.
    Luks,
    /// An LVM2 physical volume.
    Lvm2Pv,
    /// A member of a Linux software RAID.
    Mdraid,
    /// Nothing: every byte is zero.
    Empty,
    /// Something that no probe knows.
    #[default]
    Unknown,
}

/// What a backup does with a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handling {
    /// Its files are archived.
    Files,
    /// Its bytes are archived as a sparse image.
    #[default]
    RawImage,
    /// Its facts are kept in the manifest; there is no data worth keeping (swap, empty).
    MetadataOnly,
    /// Other regions lie in it and are archived themselves.
    Container,
}
