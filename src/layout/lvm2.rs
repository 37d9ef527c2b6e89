//! LVM2 volume groups that lie inside a source. Nothing is activated, and no tool of LVM runs on a tenant's bytes: the
//! label, the metadata area and the text in it are read here, and logical volumes become lists of extents.
//!
//! The formats are those of LVM2's `lib/format_text/layout.h` and `lib/label/label.h`, and of lvm(8)'s text metadata.

mod area;
mod config;
mod group;
mod label;
mod map;
mod texts;
mod write;

use std::sync::Arc;

use crate::layout::probe::{Content, Found, Window};
use crate::layout::{Holds, HoldsKind};
use crate::units::ByteRange;

pub use group::{LogicalVolume, PvEntry, Segment, SegmentKind, VolumeGroup};
pub use map::compose;
pub(in crate::layout) use map::{extents_of, place};
pub(in crate::layout) use texts::Texts;
pub use write::{HeadError, head, renamed};

/// A physical volume, as its own label and metadata area tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// Its UUID as LVM prints it (`XXXXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXXXX`).
    pub uuid: String,
    /// How long it says that its device is.
    pub device_size_bytes: u64,
    /// Its volume group.
    pub metadata: Metadata,
}

/// What the metadata areas of a physical volume tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// It has no metadata area: its group is described on other physical volumes only.
    Elsewhere,
    /// Its metadata area holds no group: it was initialised and never used.
    NoGroup,
    /// No metadata area could be used, and why.
    Damaged(String),
    /// The group, and where its text is, in the region.
    Group(Arc<VolumeGroup>, Vec<ByteRange>),
}

/// LVM2's CRC: CRC-32's polynomial from a start value of its own, without inversion (`lib/misc/crc.c`, `INITIAL_CRC`).
fn crc(bytes: &[u8]) -> u32 {
    const INITIAL_CRC: u32 = 0xf597_a6cf;
    // crc32fast inverts before and after, which is undone here.
    let mut hasher = crc32fast::Hasher::new_with_initial(!INITIAL_CRC);
    hasher.update(bytes);
    !hasher.finalize()
}

pub(in crate::layout) fn probe(window: &Window<'_>) -> Option<Found> {
    let (at, label) = label::find(window)?;
    let metadata = area::read(window, &label.metadata_areas);
    let doubt = match &metadata {
        Metadata::NoGroup => Some("it belongs to no volume group".to_owned()),
        Metadata::Damaged(why) => Some(why.clone()),
        Metadata::Elsewhere | Metadata::Group(..) => None,
    };
    let physical_volume =
        PhysicalVolume { uuid: label.pv_uuid.clone(), device_size_bytes: label.device_size_bytes, metadata };
    let mut found = Found {
        holds: Holds {
            kind: HoldsKind::Lvm2Pv,
            fs: Some("LVM2_member".to_owned()),
            uuid: Some(label.pv_uuid),
            label: None,
            version: Some("LVM2 001".to_owned()),
            size_bytes: (label.device_size_bytes > 0).then_some(label.device_size_bytes),
            made_with: None,
        },
        magic_at: at,
        content: Content::PhysicalVolume(Box::new(physical_volume)),
        doubts: Vec::new(),
    };
    found.doubts.extend(doubt);
    Some(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_crc_is_lvms_own() {
        // The table-driven form that LVM documents, bit by bit.
        let slow = |bytes: &[u8]| {
            bytes.iter().fold(0xf597_a6cf_u32, |crc, byte| {
                (0..8).fold(
                    crc ^ u32::from(*byte),
                    |crc, _| {
                        if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
                    },
                )
            })
        };
        for bytes in [&b""[..], b"a", b"volume group"] {
            assert_eq!(super::crc(bytes), slow(bytes));
        }
    }
}
