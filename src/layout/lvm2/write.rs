//! Writes the first bytes of a physical volume from its group's text: label, header, metadata area (`struct
//! label_header`, `struct pv_header`, `struct mda_header`, `struct raw_locn`). This recreates a volume group with
//! all its UUIDs without running an LVM tool on a tenant's bytes.

use super::crc;

const SECTOR_BYTES: usize = 512;
/// Where LVM puts the metadata area of a new physical volume: after one page.
const AREA_AT: usize = 4096;
/// The metadata area's header, before the text.
const AREA_HEADER_BYTES: usize = 512;
/// `PV_HEADER_EXTENSION_VSN` and `PV_EXT_USED`.
const EXTENSION_VERSION: u32 = 2;
const EXTENSION_USED: u32 = 1;

/// Why a physical volume's first bytes cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The UUID is invalid.
    #[error("its UUID is invalid for LVM")]
    Uuid,
    /// The first extent starts too early to leave room for the text.
    #[error("its first extent begins at byte {pe_start_bytes}: no room for {text_bytes} bytes of metadata before it")]
    NoRoom {
        /// The start of its first extent.
        pe_start_bytes: u64,
        /// The length of the text.
        text_bytes: usize,
    },
}

/// The bytes from the start of a physical volume to the end of its metadata text. `uuid` is in LVM's form; `text`
/// may end with LVM's NUL or not.
pub fn head(uuid: &str, device_size_bytes: u64, pe_start_bytes: u64, text: &[u8]) -> Result<Vec<u8>, HeadError> {
    let raw_uuid: Vec<u8> = uuid.bytes().filter(|byte| *byte != b'-').collect();
    if super::label::uuid_text(&raw_uuid).as_deref() != Some(uuid) {
        return Err(HeadError::Uuid);
    }
    let mut text = text.to_vec();
    if text.last() != Some(&0) {
        text.push(0);
    }
    let no_room = || HeadError::NoRoom { pe_start_bytes, text_bytes: text.len() };
    let area_bytes = pe_start_bytes.checked_sub(AREA_AT as u64).ok_or_else(no_room)?;
    // LVM writes the next version after this one, so both must fit.
    if ((AREA_HEADER_BYTES + 2 * text.len()) as u64) > area_bytes {
        return Err(no_room());
    }
    let mut label = Vec::with_capacity(SECTOR_BYTES);
    label.extend(b"LABELONE");
    label.extend(1_u64.to_le_bytes());
    label.extend([0; 4]);
    label.extend(32_u32.to_le_bytes());
    label.extend(b"LVM2 001");
    label.extend(&raw_uuid);
    label.extend(device_size_bytes.to_le_bytes());
    // Size 0 means that the data area extends to the end of the device. Zeros end each list.
    for number in [pe_start_bytes, 0, 0, 0, AREA_AT as u64, area_bytes, 0, 0] {
        label.extend(number.to_le_bytes());
    }
    label.extend(EXTENSION_VERSION.to_le_bytes());
    label.extend(EXTENSION_USED.to_le_bytes());
    label.resize(SECTOR_BYTES, 0);
    let sum = crc(&label[20..]);
    label[16..20].copy_from_slice(&sum.to_le_bytes());

    let mut area = vec![0; 4];
    area.extend(b"\x20LVM2\x20x[5A%r0N*>");
    area.extend(1_u32.to_le_bytes());
    for number in [AREA_AT as u64, area_bytes, AREA_HEADER_BYTES as u64, text.len() as u64] {
        area.extend(number.to_le_bytes());
    }
    area.extend(crc(&text).to_le_bytes());
    area.resize(AREA_HEADER_BYTES, 0);
    let sum = crc(&area[4..]);
    area[..4].copy_from_slice(&sum.to_le_bytes());

    let mut bytes = vec![0; SECTOR_BYTES];
    bytes.extend(label);
    bytes.resize(AREA_AT, 0);
    bytes.extend(area);
    bytes.extend(text);
    Ok(bytes)
}

/// Renames the group in its text; `None` if the text does not start with the old name.
pub fn renamed(text: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    let rest = text.trim_ascii_start().strip_prefix(old.as_bytes())?;
    rest.trim_ascii_start().starts_with(b"{").then(|| [new.as_bytes(), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::{HeadError, head, renamed};
    use crate::layout::lvm2::{Metadata, find_label, read_metadata};
    use crate::layout::window::Window;

    const UUID: &str = "abcdef-GHIJ-klmn-OPQR-stuv-WXYZ-012345";

    fn text() -> String {
        format!(
            "vg0 {{\nid = \"{UUID}\"\nseqno = 3\nstatus = [\"RESIZEABLE\"]\nextent_size = 8192\n\
             physical_volumes {{\npv0 {{\nid = \"{UUID}\"\ndev_size = 32768\npe_start = 2048\npe_count = 3\n}}\n}}\n}}\n"
        )
    }

    #[test]
    fn written_heads_are_readable() {
        let mut disk = head(UUID, 16 << 20, 1 << 20, text().as_bytes()).unwrap();
        disk.resize(16 << 20, 0);
        let window = Window::new(&disk);
        let (_, label) = find_label(&window).unwrap();
        assert_eq!(label.pv_uuid, UUID);
        assert_eq!(label.device_size_bytes, 16 << 20);
        let metadata = read_metadata(&window, &label.metadata_areas);
        let Metadata::Group(group, _) = metadata else { panic!("{metadata:?}") };
        assert_eq!((group.name.as_str(), group.seqno), ("vg0", 3));
    }

    #[test]
    fn impossible_heads_are_refused() {
        assert_eq!(head("x", 1 << 20, 1 << 20, b"v {}"), Err(HeadError::Uuid));
        assert!(matches!(head(UUID, 1 << 20, 4096, b"v {}"), Err(HeadError::NoRoom { .. })));
        assert!(matches!(head(UUID, 1 << 20, 8192, &[b' '; 3000]), Err(HeadError::NoRoom { .. })));
    }

    #[test]
    fn a_group_gets_another_name() {
        assert_eq!(renamed(b"vg0 {\nid", "vg0", "vg-new"), Some(b"vg-new {\nid".to_vec()));
        assert_eq!(renamed(b"vg01 {\nid", "vg0", "x"), None);
    }
}
