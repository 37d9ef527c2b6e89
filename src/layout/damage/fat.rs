//! FAT12, FAT16 and FAT32 (Microsoft FAT Specification, 2005, sections 3.3 and 4.1).
//!
//! Linux and Windows mark a FAT as in use while it is mounted for writing, and write its FATs one after the other,
//! so a snapshot of a mounted one is never clean. A cleared hard error bit and a request for a surface scan,
//! however, always record an error.

use super::lines::Damage;
use crate::field::{le16, le32};
use crate::layout::probe::fat::BootSector;
use crate::layout::window::Window;

/// The maximum length of each FAT to compare.
const COMPARED_BYTES_MAX: u64 = 32 << 20;
const PIECE_BYTES: usize = 1 << 20;
/// State bits in the boot sector (BS_NT_Res in older versions of the specification): in use, and surface scan
/// requested.
const STATE_IN_USE: u8 = 0x1;
const STATE_ERROR: u8 = 0x2;

pub(super) fn look_at(window: &Window<'_>, damage: &mut Damage) -> Option<()> {
    let sector = window.read(0, 512)?;
    let boot = BootSector::decode(&sector)?;
    let (fat_at, ..) = boot.places();
    let bits = boot.entry_bits();
    let state = *sector.get(if bits == 32 { 0x41 } else { 0x25 })?;
    // BS_BootSig says whether the state field is valid.
    let has_state = matches!(*sector.get(if bits == 32 { 0x42 } else { 0x26 })?, 0x28 | 0x29);
    // FAT[1] is an end-of-chain mark whose two highest bits mean "clean" and "no hard error".
    let (is_sound_entry, is_clean, has_hard_error) = match bits {
        16 => {
            let entry = le16(&window.read(fat_at + 2, 2)?, 0)?;
            (entry | 0xc000 >= 0xfff8, entry & 0x8000 != 0, entry & 0x4000 == 0)
        }
        32 => {
            let entry = le32(&window.read(fat_at + 4, 4)?, 0)? & 0x0fff_ffff;
            (entry | 0x0c00_0000 >= 0x0fff_fff8, entry & 0x0800_0000 != 0, entry & 0x0400_0000 == 0)
        }
        _ => (true, true, false),
    };
    if is_sound_entry && has_hard_error || has_state && state & STATE_ERROR != 0 {
        damage.add(
            "the system that it belongs to has recorded a read or write error in it; fsck.fat or chkdsk there mends it",
        );
    }
    let is_in_use = !is_clean || !has_state || state & STATE_IN_USE != 0;
    // BPB_ExtFlags, bit 7: only one FAT is active.
    let is_mirrored = bits != 32 || le16(&sector, 40)? & 0x80 == 0;
    if boot.fats == 2 && is_mirrored && !is_in_use {
        compare(window, &boot, damage)?;
    }
    Some(())
}

/// Compares the FATs after their first two entries, which are reserved.
fn compare(window: &Window<'_>, boot: &BootSector, damage: &mut Damage) -> Option<()> {
    let (fat_at, ..) = boot.places();
    let bits = boot.entry_bits();
    let fat_bytes = boot.sectors_per_fat * boot.bytes_per_sector;
    let used_bytes = ((boot.clusters + 2) * bits).div_ceil(8).min(fat_bytes).min(COMPARED_BYTES_MAX);
    let mut at = (2 * bits).div_ceil(8);
    while at < used_bytes {
        let len = usize::try_from(used_bytes - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let (one, other) = (window.read(fat_at + at, len)?, window.read(fat_at + fat_bytes + at, len)?);
        if let Some(differs) = one.iter().zip(&other).position(|(one, other)| one != other) {
            let cluster = (at + differs as u64) * 8 / bits;
            damage.add(format!(
                "its two FATs differ, first at cluster {cluster}: which one is right cannot be known, and the first was \
                 followed; fsck.fat there mends it"
            ));
            return Some(());
        }
        at += len as u64;
    }
    Some(())
}
