//! LVM2's physical volumes. The label and the metadata are read in [`crate::layout::lvm2`].

use super::signature::{Content, Signature};
use crate::layout::lvm2::{Metadata, PhysicalVolume, find_label, read_metadata};
use crate::layout::window::Window;
use crate::layout::{Holds, HoldsKind};

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let (magic_at, label) = find_label(window)?;
    let metadata = read_metadata(window, &label.metadata_areas);
    let doubt = match &metadata {
        Metadata::NoGroup => Some("it belongs to no volume group".to_owned()),
        Metadata::Damaged(why) => Some(why.to_string()),
        Metadata::Elsewhere | Metadata::Group(..) => None,
    };
    let size_bytes = label.device_size_bytes;
    let physical_volume = PhysicalVolume { uuid: label.pv_uuid, device_size_bytes: size_bytes, metadata };
    Some(Signature {
        holds: Holds {
            kind: HoldsKind::Lvm2Pv,
            fs: Some("LVM2_member".to_owned()),
            uuid: Some(physical_volume.uuid.clone()),
            version: Some("LVM2 001".to_owned()),
            size_bytes: (size_bytes > 0).then_some(size_bytes),
            ..Holds::default()
        },
        magic_at,
        content: Content::PhysicalVolume(Box::new(physical_volume)),
        doubts: doubt.into_iter().collect(),
    })
}
