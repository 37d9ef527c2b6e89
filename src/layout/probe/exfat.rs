//! exFAT (Microsoft exFAT file system specification, sections 3.1, 3.4 and 7.3): main boot region and volume label.

use super::signature::Signature;
use crate::field::{le16, le32, le64};
use crate::layout::HoldsKind;
use crate::layout::text::utf16le;
use crate::layout::window::Window;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let sector = window.read(0, 512)?;
    if sector.get(3..11)? != b"EXFAT   " || sector.get(11..64)?.iter().any(|byte| *byte != 0) {
        return None;
    }
    let sector_shift = u32::from(*sector.get(108)?);
    let cluster_shift = u32::from(*sector.get(109)?);
    if le16(&sector, 510)? != 0xaa55 || !(9..=12).contains(&sector_shift) || cluster_shift > 25 - sector_shift {
        return None;
    }
    let serial = le32(&sector, 100)?;
    let revision = le16(&sector, 104)?;
    let volume_length = le64(&sector, 72)?;
    let size = (volume_length > 0).then(|| volume_length.checked_mul(1 << sector_shift)).flatten();
    let wrong = boot_checksum_is_wrong(window, 1 << sector_shift)?;
    Some(
        Signature::opaque(HoldsKind::Filesystem, "exfat", 3)
            .with_uuid((serial != 0).then(|| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)))
            .with_label(volume_label(window, &sector, sector_shift, cluster_shift))
            .with_version(format!("{}.{}", revision >> 8, revision & 0xff))
            .with_size(size, window)
            .doubt_if(wrong, "its boot region's checksum is wrong"),
    )
}

/// Section 3.4: covers sectors 0 to 10 except VolumeFlags and PercentInUse; sector 11 repeats it.
fn boot_checksum_is_wrong(window: &Window<'_>, sector_bytes: usize) -> Option<bool> {
    let region = window.read(0, sector_bytes.checked_mul(12)?)?;
    let (covered, repeated) = region.split_at_checked(sector_bytes.checked_mul(11)?)?;
    let mut sum = 0_u32;
    for (index, byte) in covered.iter().enumerate() {
        if !matches!(index, 106 | 107 | 112) {
            sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
        }
    }
    Some(le32(repeated, 0)? != sum)
}

/// Section 7.3: an entry of type 0x83 in the first cluster of the root directory, where formatters put it.
fn volume_label(window: &Window<'_>, sector: &[u8], sector_shift: u32, cluster_shift: u32) -> Option<String> {
    let heap_at = u64::from(le32(sector, 88)?) << sector_shift;
    let root = u64::from(le32(sector, 96)?).checked_sub(2)?;
    let cluster_bytes = 1_u64 << (sector_shift + cluster_shift);
    let at = root.checked_mul(cluster_bytes)?.checked_add(heap_at)?;
    let entries = window.read(at, usize::try_from(cluster_bytes.min(64 << 10)).ok()?)?;
    for entry in entries.chunks_exact(32).take_while(|entry| entry[0] != 0) {
        if entry[0] == 0x83 {
            // At most 11 characters; a longer count is damage.
            let name = utf16le(entry.get(2..2 + 2 * usize::from(entry[1]).min(11))?);
            return (!name.is_empty()).then_some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 64 << 10];
        disk[3..11].copy_from_slice(b"EXFAT   ");
        disk[72] = 128;
        disk[88] = 32;
        disk[96] = 4;
        disk[100..104].copy_from_slice(&0x9876_5432_u32.to_le_bytes());
        disk[105] = 1;
        disk[108] = 9;
        disk[109] = 3;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let root = 32 * 512 + 2 * 4096;
        disk[root] = 0x83;
        disk[root + 1] = 2;
        (disk[root + 2], disk[root + 4]) = (b'a', b'b');
        seal(disk)
    }

    fn seal(mut disk: Vec<u8>) -> Vec<u8> {
        let mut sum = 0_u32;
        for (index, byte) in disk[..11 * 512].iter().enumerate() {
            if !matches!(index, 106 | 107 | 112) {
                sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
            }
        }
        disk[11 * 512..11 * 512 + 4].copy_from_slice(&sum.to_le_bytes());
        disk
    }

    #[test]
    fn a_sound_boot_region_is_found() {
        let found = probe(&Window::new(&disk())).expect("found");
        assert_eq!(found.holds.uuid.as_deref(), Some("9876-5432"));
        assert_eq!(found.holds.label.as_deref(), Some("ab"));
        assert_eq!(found.holds.version.as_deref(), Some("1.0"));
        assert!(found.doubts.is_empty(), "{:?}", found.doubts);
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(3, 0), (20, 1), (108, 8), (108, 13), (109, 17), (510, 0)] {
            let mut disk = disk();
            disk[at] = byte;
            assert_eq!(probe(&Window::new(&seal(disk))), None, "{at}");
        }
        let mut flipped = disk();
        flipped[600] ^= 1;
        assert_eq!(probe(&Window::new(&flipped)).expect("found").doubts.len(), 1);
        let mut longer = disk();
        longer[72] = 129;
        assert_eq!(probe(&Window::new(&seal(longer))).expect("found").doubts.len(), 1);
    }
}
