//! The plan of a restore onto a disk: its inputs and its steps. A plan is printed before it is carried out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::fat_format::FatFormat;
use super::makefs::call::ToolCall;
use super::stored::Stored;
use super::subvolumes::Subvolumes;
use crate::layout::{MadeWith, Region, Table};
use crate::run::restore::select::Part;
use crate::units::Extent;

/// The inputs: the user's options and facts about the machine.
pub struct Wish<'a> {
    /// The target's size.
    pub target_bytes: u64,
    /// The target's logical sector size; `None` for an image.
    pub target_sector_bytes: Option<u32>,
    /// New names of volume groups, by old name. Groups not listed keep their name.
    pub group_names: &'a BTreeMap<String, String>,
    /// Whether a RAID1 member is replaced by the array's content, without the array.
    pub plain_md: bool,
    /// Volume groups active on this machine.
    pub active_groups: &'a BTreeSet<String>,
    /// The space that files need, by region. A region is missing if it has no files or the index is missing.
    pub stored: &'a BTreeMap<String, Stored>,
    /// Whether a program is installed.
    pub has_program: &'a dyn Fn(&str) -> bool,
    /// Whether the kernel can mount this type of filesystem.
    pub can_mount: &'a dyn Fn(&str) -> bool,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiskPlan {
    /// The size of the source.
    pub source_bytes: u64,
    /// The size of the target.
    pub target_bytes: u64,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Differences from the source, and other remarks.
    pub remarks: Vec<String>,
    /// The expected content of the target afterwards.
    #[serde(skip)]
    pub expected: Expected,
}

/// The expected content of the target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// Its table.
    pub table: Table,
    /// Its partitions and volumes, in their new places.
    pub regions: Vec<Region>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Zeroes ranges.
    Zero {
        /// The ranges.
        ranges: Vec<Extent>,
    },
    /// Writes a raw image.
    RawImage {
        /// The region.
        region: String,
        /// The image's path in the archive.
        archive_path: String,
        /// Its place.
        extents: Vec<Extent>,
    },
    /// Makes a filesystem and restores its files, or makes swap space.
    Make(Box<MakeStep>),
    /// Writes bytes from the manifest: boot code, tables, LVM's metadata.
    Write {
        /// A description.
        what: String,
        /// Their offset.
        start_bytes: u64,
        /// Their number.
        size_bytes: u64,
        /// The bytes.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
}

/// A filesystem or swap space to be made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MakeStep {
    /// The region.
    pub region: String,
    /// The type of filesystem, or `swap`.
    pub fs: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Its new size.
    pub size_bytes: u64,
    /// Its former size.
    #[serde(skip)]
    pub was_bytes: Option<u64>,
    /// Its place.
    pub extents: Vec<Extent>,
    /// The call that makes it.
    pub make: ToolCall,
    /// A replacement call if this machine cannot run `make`, and the difference it makes.
    #[serde(skip)]
    pub otherwise: Option<(ToolCall, String)>,
    /// Calls after `make`, before mounting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ToolCall>,
    /// Calls after the files are restored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finish: Vec<ToolCall>,
    /// The call that checks it afterwards.
    pub check: Option<ToolCall>,
    /// The part of the archive with its files; `None` for swap.
    #[serde(skip)]
    pub files: Option<Part>,
    /// Differences that cannot be avoided, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
    /// The parameters of the original filesystem.
    #[serde(skip)]
    pub made_with: MadeWith,
    /// Whether the filesystem compresses its files, as it did before.
    pub compress: bool,
    /// The boot block at its start, if it has one.
    #[serde(skip)]
    pub boot_block: Option<Vec<u8>>,
    /// The subvolumes to create before the files.
    #[serde(skip)]
    pub subvolumes: Subvolumes,
    /// Set if `make` is the built-in maker of FAT.
    #[serde(skip)]
    pub fat: Option<Box<FatFormat>>,
}
