//! A physical volume: its label and metadata areas.

use std::sync::Arc;

use super::damage::AreaDamage;
use super::group::VolumeGroup;
use crate::units::ByteRange;

/// A physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// Its UUID as LVM prints it (`XXXXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXXXX`).
    pub uuid: String,
    /// The device size according to the label.
    pub device_size_bytes: u64,
    /// Its volume group.
    pub metadata: Metadata,
}

/// The content of a physical volume's metadata areas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// It has no metadata area: other physical volumes describe its group.
    Elsewhere,
    /// Its metadata area holds no group: it was initialised and never used.
    NoGroup,
    /// No metadata area is usable, for this reason.
    Damaged(AreaDamage),
    /// The group, and the location of its text in the region.
    Group(Arc<VolumeGroup>, Vec<ByteRange>),
}
