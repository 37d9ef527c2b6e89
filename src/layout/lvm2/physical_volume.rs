//! A physical volume, as its label and its metadata areas describe it.

use std::sync::Arc;

use super::damage::AreaDamage;
use super::group::VolumeGroup;
use crate::units::ByteRange;

/// A physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// Its UUID as LVM prints it (`XXXXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXXXX`).
    pub uuid: String,
    /// How long it says that its device is.
    pub device_size_bytes: u64,
    /// Its volume group.
    pub metadata: Metadata,
}

/// What the metadata areas of a physical volume hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// It has no metadata area: its group is described on other physical volumes only.
    Elsewhere,
    /// Its metadata area holds no group: it was initialised and never used.
    NoGroup,
    /// No metadata area could be used, and why.
    Damaged(AreaDamage),
    /// The group, and where its text is, in the region.
    Group(Arc<VolumeGroup>, Vec<ByteRange>),
}
