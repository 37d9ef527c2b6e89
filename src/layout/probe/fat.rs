//! FAT12, FAT16 and FAT32 (Microsoft FAT Specification, 2005, sections 3.1 to 3.3, and ECMA-107): the boot sector, and
//! the volume label in the root directory.

use super::{Found, Window};
use crate::layout::MadeWith;
use crate::layout::field::{le16, le32};
use crate::layout::text::label;

/// How many clusters of a FAT32 root directory are searched for the label, and how many bytes in all.
const ROOT_CLUSTERS_MAX: u32 = 64;
const ROOT_BYTES_MAX: usize = 512 << 10;

const ATTR_VOLUME_ID: u8 = 0x08;
const ATTR_LONG_NAME: u8 = 0x0f;

/// The boot sector's numbers, checked against each other.
pub(crate) struct BootSector {
    bytes_per_sector: u64,
    sectors_per_cluster: u64,
    reserved_sectors: u64,
    fats: u64,
    root_entries: u64,
    sectors_per_fat: u64,
    total_sectors: u64,
    clusters: u64,
}

impl BootSector {
    /// Decodes a boot sector; `None` when any number rules FAT out. The magic is weak, so everything is looked at.
    pub(crate) fn decode(sector: &[u8]) -> Option<Self> {
        let jump = *sector.first()?;
        let media = *sector.get(21)?;
        if !matches!(jump, 0xeb | 0xe9) || !(media >= 0xf8 || media == 0xf0) || le16(sector, 510)? != 0xaa55 {
            return None;
        }
        let bytes_per_sector = u64::from(le16(sector, 11)?);
        let sectors_per_cluster = u64::from(*sector.get(13)?);
        let reserved_sectors = u64::from(le16(sector, 14)?);
        let fats = u64::from(*sector.get(16)?);
        let root_entries = u64::from(le16(sector, 17)?);
        let either = |small: u16, large: u32| if small == 0 { u64::from(large) } else { u64::from(small) };
        let total_sectors = either(le16(sector, 19)?, le32(sector, 32)?);
        let sectors_per_fat = either(le16(sector, 22)?, le32(sector, 36)?);
        let is_fat = matches!(bytes_per_sector, 512 | 1024 | 2048 | 4096)
            && sectors_per_cluster.is_power_of_two()
            && reserved_sectors > 0
            && (1..=2).contains(&fats)
            && sectors_per_fat > 0
            && total_sectors > 0;
        if !is_fat {
            return None;
        }
        let root_sectors = (root_entries * 32).div_ceil(bytes_per_sector);
        let before_data = reserved_sectors + fats * sectors_per_fat + root_sectors;
        let clusters = total_sectors.checked_sub(before_data)? / sectors_per_cluster;
        (clusters > 0).then_some(Self {
            bytes_per_sector,
            sectors_per_cluster,
            reserved_sectors,
            fats,
            root_entries,
            sectors_per_fat,
            total_sectors,
            clusters,
        })
    }

    /// FAT32 is told by the 16-bit size of its FAT being zero, the others by the count of clusters.
    fn version(&self) -> &'static str {
        match (self.root_entries, self.clusters) {
            (0, _) => "FAT32",
            (_, 0..4085) => "FAT12",
            _ => "FAT16",
        }
    }
}

pub(super) fn probe(window: &Window<'_>) -> Option<Found> {
    let sector = window.read(0, 512)?;
    let boot = BootSector::decode(&sector)?;
    // exFAT and NTFS leave these numbers zero, but something that calls itself by name is not FAT.
    if matches!(sector.get(3..11)?, b"NTFS    " | b"EXFAT   " | b"-FVE-FS-") {
        return None;
    }
    let is_fat32 = boot.root_entries == 0;
    let ids_at = if is_fat32 { 66 } else { 38 };
    // BS_BootSig 0x28 or 0x29: the serial number follows; with 0x29, the label as well.
    let signature = *sector.get(ids_at)?;
    let serial = le32(&sector, ids_at + 1)?;
    let uuid = (matches!(signature, 0x28 | 0x29) && serial != 0)
        .then(|| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff));
    let in_root =
        if is_fat32 { label_in_root_chain(window, &boot, &sector) } else { label_in_fixed_root(window, &boot) };
    let in_boot_sector = || {
        let field = sector.get(ids_at + 5..ids_at + 16)?;
        (signature == 0x29 && field != b"NO NAME    ").then(|| label(field)).flatten()
    };
    Some(
        Found::filesystem("vfat", 0)
            .with_uuid(uuid)
            .with_label(in_root.or_else(in_boot_sector))
            .with_version(boot.version())
            .with_size(boot.total_sectors.checked_mul(boot.bytes_per_sector), window)
            .with_parameters(MadeWith {
                block_bytes: u32::try_from(boot.sectors_per_cluster * boot.bytes_per_sector).ok(),
                sector_bytes: u32::try_from(boot.bytes_per_sector).ok(),
                ..MadeWith::default()
            }),
    )
}

fn label_in_fixed_root(window: &Window<'_>, boot: &BootSector) -> Option<String> {
    let at = (boot.reserved_sectors + boot.fats * boot.sectors_per_fat) * boot.bytes_per_sector;
    // At most 65535 entries of 32 bytes.
    let len = usize::try_from(boot.root_entries * 32).ok()?.min(ROOT_BYTES_MAX);
    match search(&window.read(at, len)?) {
        Search::Found(label) => label,
        Search::NotHere | Search::End => None,
    }
}

fn label_in_root_chain(window: &Window<'_>, boot: &BootSector, sector: &[u8]) -> Option<String> {
    let cluster_bytes = usize::try_from(boot.sectors_per_cluster * boot.bytes_per_sector).ok()?;
    let data_at = boot.reserved_sectors + boot.fats * boot.sectors_per_fat;
    let mut cluster = le32(sector, 44)?;
    let mut read_bytes = 0;
    for _ in 0..ROOT_CLUSTERS_MAX {
        let index = u64::from(cluster).checked_sub(2).filter(|index| *index < boot.clusters)?;
        let at = (data_at + index * boot.sectors_per_cluster) * boot.bytes_per_sector;
        match search(&window.read(at, cluster_bytes)?) {
            Search::Found(label) => return label,
            Search::End => return None,
            Search::NotHere => {}
        }
        read_bytes += cluster_bytes;
        if read_bytes >= ROOT_BYTES_MAX {
            return None;
        }
        let link = window.read(boot.reserved_sectors * boot.bytes_per_sector + u64::from(cluster) * 4, 4)?;
        cluster = le32(&link, 0)? & 0x0fff_ffff;
    }
    None
}

/// What a search of some directory entries for the volume label gave.
enum Search {
    Found(Option<String>),
    NotHere,
    End,
}

fn search(entries: &[u8]) -> Search {
    for entry in entries.chunks_exact(32) {
        match (entry[0], entry[11]) {
            (0x00, _) => return Search::End,
            // 0xe5 marks a deleted entry; 0x05 stands for a first byte that really is 0xe5.
            (0xe5, _) => {}
            (_, attributes) if attributes & ATTR_LONG_NAME == ATTR_LONG_NAME => {}
            (first, attributes) if attributes & (ATTR_VOLUME_ID | 0x10) == ATTR_VOLUME_ID => {
                let mut name = entry[..11].to_vec();
                name[0] = if first == 0x05 { 0xe5 } else { first };
                return Search::Found(label(&name));
            }
            _ => {}
        }
    }
    Search::NotHere
}

#[cfg(test)]
mod tests {
    use super::{BootSector, Window, probe};

    /// A FAT12 of 100 sectors with a label in its root directory.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 100 * 512];
        disk[0] = 0xeb;
        disk[11..13].copy_from_slice(&512_u16.to_le_bytes());
        disk[13] = 1;
        disk[14] = 1;
        disk[16] = 2;
        disk[17] = 16;
        disk[19] = 100;
        disk[21] = 0xf8;
        disk[22] = 1;
        disk[38] = 0x29;
        disk[39..43].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[3 * 512..3 * 512 + 11].copy_from_slice(b"EFI SYS    ");
        disk[3 * 512 + 11] = 8;
        disk
    }

    #[test]
    fn a_sound_boot_sector_is_found() {
        let found = probe(&Window::new(&disk())).expect("found");
        assert_eq!(found.holds.uuid.as_deref(), Some("1234-ABCD"));
        assert_eq!(found.holds.label.as_deref(), Some("EFI SYS"));
        assert_eq!(found.holds.version.as_deref(), Some("FAT12"));
        assert!(found.doubts.is_empty());
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in
            [(0, 0), (11, 1), (13, 3), (14, 0), (16, 0), (16, 3), (19, 0), (19, 3), (21, 0), (22, 0), (510, 0)]
        {
            let mut disk = disk();
            disk[at] = byte;
            assert!(BootSector::decode(&disk).is_none(), "{at}");
        }
        let mut short = disk();
        short.truncate(50 * 512);
        assert_eq!(probe(&Window::new(&short)).expect("found").doubts.len(), 1);
    }
}
