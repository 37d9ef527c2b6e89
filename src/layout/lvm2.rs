//! LVM2 volume groups inside a source. Nothing is activated, and no LVM tool reads a tenant's bytes: label,
//! metadata area and metadata text are parsed here, and logical volumes become lists of extents.
//!
//! The formats are those of LVM2's `lib/format_text/layout.h` and `lib/label/label.h`, and of lvm(8)'s text
//! metadata.

mod area;
mod config;
mod damage;
mod group;
mod label;
mod map;
mod physical_volume;
mod texts;
mod write;

pub(in crate::layout) use area::read as read_metadata;
pub use damage::{AreaDamage, TextError};
pub use group::{LogicalVolume, PvEntry, Segment, SegmentKind, VolumeGroup};
pub(in crate::layout) use label::find as find_label;
pub use map::{MapError, compose};
pub(in crate::layout) use map::{extents_of, place};
pub use physical_volume::{Metadata, PhysicalVolume};
pub(in crate::layout) use texts::Texts;
pub use write::{HeadError, head, renamed};

/// LVM2's CRC: the polynomial of CRC-32 with its own start value, without inversion (`lib/misc/crc.c`,
/// `INITIAL_CRC`).
fn crc(bytes: &[u8]) -> u32 {
    const INITIAL_CRC: u32 = 0xf597_a6cf;
    // crc32fast inverts before and after; this undoes both.
    let mut hasher = crc32fast::Hasher::new_with_initial(!INITIAL_CRC);
    hasher.update(bytes);
    !hasher.finalize()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_crc_is_lvms_own() {
        // The algorithm that LVM documents, bit by bit.
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
