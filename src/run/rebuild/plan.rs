//! The plan of a restore onto a disk: what it is decided from, and its steps. A plan is printed before it is carried out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::fat_format::FatFormat;
use super::makefs::call::ToolCall;
use super::stored::Stored;
use super::subvolumes::Subvolumes;
use crate::layout::{MadeWith, Region, Table};
use crate::run::restore::select::Part;
use crate::units::Extent;

/// What is asked for, and what the machine has.
pub struct Wish<'a> {
    /// The target's length.
    pub target_bytes: u64,
    /// The target's logical sector size; `None` for an image, which has none.
    pub target_sector_bytes: Option<u32>,
    /// New names of volume groups, by the old ones. A group may keep its name.
    pub group_names: &'a BTreeMap<String, String>,
    /// Whether a member of a RAID1 becomes what the array holds, without the array.
    pub plain_md: bool,
    /// Volume groups that are active on this machine.
    pub active_groups: &'a BTreeSet<String>,
    /// What the files need, by region; a region that is not in it has none, or the index does not say.
    pub stored: &'a BTreeMap<String, Stored>,
    /// Whether a program is installed.
    pub has_program: &'a dyn Fn(&str) -> bool,
    /// Whether the kernel can mount a filesystem of that name.
    pub can_mount: &'a dyn Fn(&str) -> bool,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiskPlan {
    /// How long the source was.
    pub source_bytes: u64,
    /// How long the target is.
    pub target_bytes: u64,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What will be other than it was, or is worth knowing.
    pub remarks: Vec<String>,
    /// What the target is expected to hold in the end.
    #[serde(skip)]
    pub expected: Expected,
}

/// What the target is to hold.
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
    /// These bytes become zeros.
    Zero {
        /// Where.
        ranges: Vec<Extent>,
    },
    /// A raw image goes back byte for byte.
    RawImage {
        /// The region.
        region: String,
        /// The image's path in the archive.
        archive_path: String,
        /// Where it goes.
        extents: Vec<Extent>,
    },
    /// Something is made anew, and a filesystem's files go into it.
    Make(Box<MakeStep>),
    /// Bytes that the manifest keeps are written: boot code, tables, LVM's metadata.
    Write {
        /// What they are.
        what: String,
        /// Where they go.
        start_bytes: u64,
        /// How many.
        size_bytes: u64,
        /// They.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
}

/// What is made anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MakeStep {
    /// The region.
    pub region: String,
    /// What: the filesystem's name, or `swap`.
    pub fs: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// How long it becomes.
    pub size_bytes: u64,
    /// How long it was.
    #[serde(skip)]
    pub was_bytes: Option<u64>,
    /// Where it goes.
    pub extents: Vec<Extent>,
    /// What makes it.
    pub make: ToolCall,
    /// What makes it where that cannot be done here, and what is other than it was then.
    #[serde(skip)]
    pub otherwise: Option<(ToolCall, String)>,
    /// What is called after that, before it is mounted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ToolCall>,
    /// What is called when the files are in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finish: Vec<ToolCall>,
    /// What looks at it afterwards.
    pub check: Option<ToolCall>,
    /// What of the archive goes into it; nothing for swap.
    #[serde(skip)]
    pub files: Option<Part>,
    /// What cannot be made as it was, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
    /// What the filesystem was made with.
    #[serde(skip)]
    pub made_with: MadeWith,
    /// Whether its files are compressed by the filesystem, as they were before.
    pub compress: bool,
    /// The boot block in front of it, where it has one.
    #[serde(skip)]
    pub boot_block: Option<Vec<u8>>,
    /// The subvolumes that are made before the files are put.
    #[serde(skip)]
    pub subvolumes: Subvolumes,
    /// What a FAT is made of; `make` says so then.
    #[serde(skip)]
    pub fat: Option<Box<FatFormat>>,
}
