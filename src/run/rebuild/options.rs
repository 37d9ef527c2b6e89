//! Options for restoring a disk.

use std::collections::BTreeMap;

use super::target::TargetSpec;
use crate::outside::Cancel;
use crate::outside::host::processors;
use crate::run::restore::names::IdWish;

/// Options for restoring a disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// The target.
    pub target: TargetSpec,
    /// The only region to restore, by its name; the whole disk without one.
    pub region: Option<String>,
    /// New names of volume groups, by old name.
    pub group_names: BTreeMap<String, String>,
    /// Whether a RAID1 member is replaced by the array's content, without the array.
    pub plain_md: bool,
    /// The last path component of a target whose content may be lost.
    pub yes_erase: Option<String>,
    /// Whether content may be erased for a backup that is known to be bad.
    pub even_if_bad: bool,
    /// The mapping of owners and groups of files. An image of a region is put back as it is.
    pub ids: IdWish,
    /// The number of decompression threads.
    pub threads: usize,
    /// Cancels the operation.
    pub cancel: Cancel,
}

impl DeviceOptions {
    /// Restores the whole disk as it was. Nothing is erased.
    pub fn new(target: TargetSpec) -> Self {
        Self {
            target,
            region: None,
            group_names: BTreeMap::new(),
            plain_md: false,
            yes_erase: None,
            even_if_bad: false,
            ids: IdWish::default(),
            threads: processors(),
            cancel: Cancel::default(),
        }
    }
}
