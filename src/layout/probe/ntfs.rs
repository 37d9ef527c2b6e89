//! NTFS (boot sector as in Microsoft's "NTFS Technical Reference"; the volume's name is in record 3 of the master
//! file table, `$Volume`).

use super::signature::Signature;
use crate::field::{array, le16, le32, le64};
use crate::layout::HoldsKind;
use crate::layout::text::utf16le;
use crate::layout::window::Window;

/// A volume name has at most 128 UTF-16 units; other values read here are shorter.
const VALUE_BYTES_MAX: usize = 256;
const VOLUME_RECORD: u64 = 3;
const ATTRIBUTE_VOLUME_NAME: u32 = 0x60;
const ATTRIBUTE_VOLUME_INFORMATION: u32 = 0x70;
const ATTRIBUTES_END: u32 = 0xffff_ffff;

/// The boot sector's numbers, checked against each other.
struct BootSector {
    size_bytes: Option<u64>,
    /// The start of the master file table; `None` if the offset overflows.
    mft_at: Option<u64>,
    record_bytes: u64,
    serial: u64,
}

impl BootSector {
    fn decode(sector: &[u8]) -> Option<Self> {
        if sector.get(3..11)? != b"NTFS    " || le16(sector, 510)? != 0xaa55 {
            return None;
        }
        let bytes_per_sector = u64::from(le16(sector, 11)?);
        let sectors_per_cluster = match *sector.get(13)? {
            count @ 1..=128 => u64::from(count),
            // Values from 129 are negative powers of two: 0xf4 is 2^12.
            negative => 1_u64.checked_shl(u32::from(negative.wrapping_neg()))?,
        };
        // Reserved sectors, FATs, root entries and both 16-bit sizes of the FAT family are zero here.
        let zeros = sector.get(14..21)?.iter().chain(sector.get(22..24)?).all(|byte| *byte == 0);
        let fits = matches!(bytes_per_sector, 256 | 512 | 1024 | 2048 | 4096)
            && sectors_per_cluster.is_power_of_two()
            && sectors_per_cluster <= 1 << 20
            && zeros;
        if !fits {
            return None;
        }
        let cluster_bytes = bytes_per_sector * sectors_per_cluster;
        let total_sectors = le64(sector, 40)?;
        Some(Self {
            size_bytes: (total_sectors > 0).then(|| total_sectors.checked_mul(bytes_per_sector)).flatten(),
            mft_at: le64(sector, 48)?.checked_mul(cluster_bytes),
            record_bytes: match *sector.get(64)? {
                count @ 1..=127 => u64::from(count).checked_mul(cluster_bytes)?,
                negative => 1_u64.checked_shl(u32::from(negative.wrapping_neg()))?,
            },
            serial: le64(sector, 72)?,
        })
    }
}

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let BootSector { size_bytes, mft_at, record_bytes, serial } = BootSector::decode(&window.read(0, 512)?)?;
    Some(
        Signature::opaque(HoldsKind::Filesystem, "ntfs", 3)
            .with_uuid((serial != 0).then(|| format!("{serial:016X}")))
            .with_label(volume_name(window, mft_at?, record_bytes))
            .with_size(size_bytes, window)
            .doubt_if(mft_at == Some(0), "its master file table has an impossible place"),
    )
}

/// The flags of `$VOLUME_INFORMATION` (`VOLUME_IS_DIRTY` is 0x1), at byte 10 of its value.
pub(crate) fn volume_flags(window: &Window<'_>) -> Option<u16> {
    let boot = BootSector::decode(&window.read(0, 512)?)?;
    le16(&volume_attribute(window, boot.mft_at?, boot.record_bytes, ATTRIBUTE_VOLUME_INFORMATION)?, 10)
}

fn volume_name(window: &Window<'_>, mft_at: u64, record_bytes: u64) -> Option<String> {
    let name = utf16le(&volume_attribute(window, mft_at, record_bytes, ATTRIBUTE_VOLUME_NAME)?);
    (!name.is_empty()).then_some(name)
}

/// The value of a resident attribute of `$Volume`.
fn volume_attribute(window: &Window<'_>, mft_at: u64, record_bytes: u64, wanted: u32) -> Option<Vec<u8>> {
    if !(512..=65536).contains(&record_bytes) {
        return None;
    }
    let at = mft_at.checked_add(VOLUME_RECORD.checked_mul(record_bytes)?)?;
    let mut record = window.read(at, usize::try_from(record_bytes).ok()?)?;
    if record.get(..4)? != b"FILE" {
        return None;
    }
    put_ends_back(&mut record);
    let mut at = usize::from(le16(&record, 20)?);
    loop {
        let kind = le32(&record, at)?;
        let len = usize::try_from(le32(&record, at.checked_add(4)?)?).ok()?;
        // An attribute is at least as long as its header; less would loop.
        if kind == ATTRIBUTES_END || len < 24 {
            return None;
        }
        if kind == wanted && *record.get(at.checked_add(8)?)? == 0 {
            let value_len = usize::try_from(le32(&record, at.checked_add(16)?)?).ok()?;
            if value_len > VALUE_BYTES_MAX {
                return None;
            }
            let value_at = at.checked_add(usize::from(le16(&record, at.checked_add(20)?)?))?;
            return record.get(value_at..value_at.checked_add(value_len)?).map(<[u8]>::to_vec);
        }
        at = at.checked_add(len)?;
    }
}

/// Restores the last two bytes of each 512 bytes of a record from its update sequence array. Leaves them unchanged
/// where the sequence number does not match.
fn put_ends_back(record: &mut [u8]) -> Option<()> {
    let (array_at, count) = (usize::from(le16(record, 4)?), usize::from(le16(record, 6)?));
    let number = le16(record, array_at)?;
    for stride in 1..count.min(record.len() / 512 + 1) {
        let end = stride * 512 - 2;
        if le16(record, end)? == number {
            let kept: [u8; 2] = array(record, array_at + 2 * stride)?;
            record.get_mut(end..end + 2)?.copy_from_slice(&kept);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 64 << 10];
        disk[3..11].copy_from_slice(b"NTFS    ");
        disk[12] = 2;
        disk[13] = 8;
        disk[21] = 0xf8;
        disk[40] = 127;
        disk[48] = 4;
        disk[64] = 0xf6;
        disk[72..80].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let record = &mut disk[4 * 4096 + 3 * 1024..4 * 4096 + 4 * 1024];
        record[..4].copy_from_slice(b"FILE");
        record[20] = 56;
        (record[56], record[60]) = (0x60, 32);
        (record[72], record[76]) = (4, 24);
        (record[80], record[82]) = (b'h', b'i');
        record[88..92].fill(0xff);
        disk
    }

    #[test]
    fn a_sound_boot_sector_is_found() {
        let found = probe(&Window::new(&disk())).expect("found");
        assert_eq!(found.holds.uuid.as_deref(), Some("0123456789ABCDEF"));
        assert_eq!(found.holds.label.as_deref(), Some("hi"));
        assert_eq!(found.holds.size_bytes, Some(127 * 512));
        assert!(found.doubts.is_empty());
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(3, 0), (12, 3), (13, 3), (14, 1), (22, 1), (510, 0)] {
            let mut disk = disk();
            disk[at] = byte;
            assert_eq!(probe(&Window::new(&disk)), None, "{at}");
        }
        for (at, byte) in [(40, 129), (48, 0)] {
            let mut disk = disk();
            disk[at] = byte;
            assert_eq!(probe(&Window::new(&disk)).expect("found").doubts.len(), 1, "{at}");
        }
    }

    #[test]
    fn attributes_that_do_not_get_ahead_end_the_search() {
        let mut disk = disk();
        disk[4 * 4096 + 3 * 1024 + 56] = 0x10;
        disk[4 * 4096 + 3 * 1024 + 60] = 0;
        assert_eq!(probe(&Window::new(&disk)).expect("found").holds.label, None);
    }
}
