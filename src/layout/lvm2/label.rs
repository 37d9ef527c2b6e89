//! The label and the header of a physical volume (`struct label_header`, `struct pv_header`, `struct disk_locn`).

use super::crc;
use crate::field::{le32, le64};
use crate::layout::window::Window;
use crate::units::ByteRange;

const SECTOR_BYTES: usize = 512;
/// The label is in one of the first four sectors, by default in the second.
const LABEL_SCAN_SECTORS: u64 = 4;
/// An upper bound: a label is one sector, and no more areas fit.
const AREAS_MAX: usize = 32;

/// A label whose checks pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::layout) struct Label {
    /// `pv_uuid`, as LVM prints it.
    pub(in crate::layout) pv_uuid: String,
    /// `device_size_xl`.
    pub(in crate::layout) device_size_bytes: u64,
    /// The metadata areas, as ranges of the device.
    pub(in crate::layout) metadata_areas: Vec<ByteRange>,
}

/// The first valid label in the first four sectors, and its offset.
pub(in crate::layout) fn find(window: &Window<'_>) -> Option<(u64, Label)> {
    (0..LABEL_SCAN_SECTORS).find_map(|sector| {
        let at = sector * SECTOR_BYTES as u64;
        Some((at, decode(&window.read(at, SECTOR_BYTES)?, sector)?))
    })
}

fn decode(sector: &[u8], number: u64) -> Option<Label> {
    let fits = sector.get(0..8)? == b"LABELONE"
        && le64(sector, 8)? == number
        && le32(sector, 16)? == crc(sector.get(20..SECTOR_BYTES)?)
        && sector.get(24..32)? == b"LVM2 001";
    if !fits {
        return None;
    }
    let header = sector.get(usize::try_from(le32(sector, 20)?).ok()?..)?;
    let pv_uuid = uuid_text(header.get(..32)?)?;
    let device_size_bytes = le64(header, 32)?;
    // Two lists of (offset, size) that each end with zeros: data areas, then metadata areas.
    let mut at = 40;
    let mut lists = [Vec::new(), Vec::new()];
    for list in &mut lists {
        loop {
            let (offset, size) = (le64(header, at)?, le64(header, at + 8)?);
            at += 16;
            if offset == 0 {
                break;
            }
            if list.len() == AREAS_MAX {
                return None;
            }
            list.push(ByteRange::new(offset, size));
        }
    }
    let [_, metadata_areas] = lists;
    Some(Label { pv_uuid, device_size_bytes, metadata_areas })
}

/// Formats 32 characters like LVM, in groups of 6-4-4-4-4-4-6.
pub(in crate::layout) fn uuid_text(raw: &[u8]) -> Option<String> {
    if raw.len() != 32 || !raw.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let mut text = String::with_capacity(38);
    for (index, byte) in raw.iter().enumerate() {
        if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
            text.push('-');
        }
        text.push(char::from(*byte));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, Window, crc, find};

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 4096];
        let sector = &mut disk[512..1024];
        sector[..8].copy_from_slice(b"LABELONE");
        sector[8] = 1;
        sector[20] = 32;
        sector[24..32].copy_from_slice(b"LVM2 001");
        sector[32..64].copy_from_slice(b"abcdefGHIJklmnOPQRstuvWXYZ012345");
        sector[66] = 1;
        sector[74] = 0x10;
        sector[105] = 0x10;
        sector[114] = 0x10;
        seal(disk)
    }

    fn seal(mut disk: Vec<u8>) -> Vec<u8> {
        let sum = crc(&disk[512 + 20..1024]);
        disk[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
        disk
    }

    #[test]
    fn a_sound_label_is_found() {
        let (at, label) = find(&Window::new(&disk())).expect("found");
        assert_eq!(at, 512);
        assert_eq!(label.pv_uuid, "abcdef-GHIJ-klmn-OPQR-stuv-WXYZ-012345");
        assert_eq!(label.device_size_bytes, 1 << 16);
        assert_eq!(label.metadata_areas, [ByteRange::new(0x1000, 0x10_0000)]);
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(0, 0), (8, 2), (21, 2), (24, 0), (32, b'/')] {
            let mut disk = disk();
            disk[512 + at] = byte;
            assert_eq!(find(&Window::new(&seal(disk))), None, "{at}");
        }
        let mut flipped = disk();
        flipped[1000] ^= 1;
        assert_eq!(find(&Window::new(&flipped)), None);
    }

    #[test]
    fn lists_without_an_end_are_refused() {
        let mut disk = disk();
        disk[512 + 72..1024].fill(1);
        assert_eq!(find(&Window::new(&seal(disk))), None);
    }
}
