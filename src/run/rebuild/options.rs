//! How a disk is restored.

use std::collections::BTreeMap;

use super::target::TargetSpec;
use crate::outside::Cancel;

/// How a disk is restored.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// What is restored to.
    pub target: TargetSpec,
    /// The only region to restore, by its name; the whole disk without one.
    pub region: Option<String>,
    /// New names of volume groups, by the old ones.
    pub group_names: BTreeMap<String, String>,
    /// Whether a member of a RAID1 becomes what the array holds, without the array.
    pub plain_md: bool,
    /// The target that may lose what is on it, by its last path component.
    pub yes_erase: Option<String>,
    /// Whether something may be erased for a backup that is known to be bad.
    pub even_if_bad: bool,
    /// How many threads inflate.
    pub threads: usize,
    /// The wish to stop.
    pub cancel: Cancel,
}
