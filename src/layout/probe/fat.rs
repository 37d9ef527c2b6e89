//! FAT12, FAT16 and FAT32 (Microsoft FAT Specification, 2005, sections 3.1 to 3.3, and ECMA-107): the boot sector, and
//! the volume label in the root directory.

use super::signature::Signature;
use crate::field::{le16, le32};
use crate::layout::text::label;
use crate::layout::window::Window;
use crate::layout::{FatMade, MadeWith};
use crate::shown::hex;

/// The maximum number of clusters of a FAT32 root directory, and of bytes, searched for the label.
const ROOT_CLUSTERS_MAX: u32 = 64;
const ROOT_BYTES_MAX: usize = 512 << 10;

const ATTR_VOLUME_ID: u8 = 0x08;
const ATTR_LONG_NAME: u8 = 0x0f;

/// The boot sector's numbers, checked against each other.
pub(crate) struct BootSector {
    pub(crate) bytes_per_sector: u64,
    pub(crate) sectors_per_cluster: u64,
    pub(crate) reserved_sectors: u64,
    pub(crate) fats: u64,
    pub(crate) root_entries: u64,
    pub(crate) sectors_per_fat: u64,
    pub(crate) total_sectors: u64,
    pub(crate) clusters: u64,
}

impl BootSector {
    /// Decodes a boot sector; `None` if any number rules out FAT. All numbers are checked, since the magic is weak.
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

    /// Bits per FAT entry.
    pub(crate) fn entry_bits(&self) -> u64 {
        match self.version() {
            "FAT12" => 12,
            "FAT16" => 16,
            _ => 32,
        }
    }

    /// Byte offsets of the first FAT, of the root directory (FAT12 and FAT16), and of the first cluster.
    pub(crate) fn places(&self) -> (u64, u64, u64) {
        let root_sectors = (self.root_entries * 32).div_ceil(self.bytes_per_sector);
        let root = self.reserved_sectors + self.fats * self.sectors_per_fat;
        let bytes = |sector: u64| sector * self.bytes_per_sector;
        (bytes(self.reserved_sectors), bytes(root), bytes(root + root_sectors))
    }

    /// FAT32 has a 16-bit FAT size of zero; the number of clusters distinguishes FAT12 and FAT16.
    fn version(&self) -> &'static str {
        match (self.root_entries, self.clusters) {
            (0, _) => "FAT32",
            (_, 0..4085) => "FAT12",
            _ => "FAT16",
        }
    }
}

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let sector = window.read(0, 512)?;
    let boot = BootSector::decode(&sector)?;
    // exFAT and NTFS keep these fields zero; but content that names itself is not FAT.
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
    let entry = if is_fat32 { label_in_root_chain(window, &boot, &sector) } else { label_in_fixed_root(window, &boot) };
    let in_root = entry.and_then(|entry| label_of(&entry));
    let boot_label = (signature == 0x29).then(|| sector.get(ids_at + 5..ids_at + 16)).flatten();
    let in_boot_sector = || boot_label.filter(|field| *field != b"NO NAME    ").and_then(label);
    let own = FatMade {
        boot_label: boot_label.and_then(label),
        label_entry: entry.map(|entry| hex(&entry)),
        ..own_parameters(&boot, &sector)?
    };
    Some(
        Signature::filesystem("vfat", 0)
            .with_uuid(uuid)
            .with_label(in_root.or_else(in_boot_sector))
            .with_version(boot.version())
            .with_size(boot.total_sectors.checked_mul(boot.bytes_per_sector), window)
            .with_parameters(MadeWith {
                block_bytes: u32::try_from(boot.sectors_per_cluster * boot.bytes_per_sector).ok(),
                sector_bytes: u32::try_from(boot.bytes_per_sector).ok(),
                fat: Some(Box::new(own)),
                ..MadeWith::default()
            }),
    )
}

fn own_parameters(boot: &BootSector, sector: &[u8]) -> Option<FatMade> {
    let is_fat32 = boot.root_entries == 0;
    let of_fat32 = |value: u32| if is_fat32 { value } else { 0 };
    // All are computed from fields of at most 32 bits.
    let number = |value: u64| u32::try_from(value).ok();
    Some(FatMade {
        reserved_sectors: number(boot.reserved_sectors)?,
        fats: number(boot.fats)?,
        sectors_per_fat: number(boot.sectors_per_fat)?,
        root_entries: number(boot.root_entries)?,
        root_cluster: of_fat32(le32(sector, 44)?),
        media: *sector.get(21)?,
        sectors_per_track: u32::from(le16(sector, 24)?),
        heads: u32::from(le16(sector, 26)?),
        hidden_sectors: le32(sector, 28)?,
        backup_boot_sector: of_fat32(u32::from(le16(sector, 50)?)),
        fsinfo_sector: of_fat32(u32::from(le16(sector, 48)?)),
        oem_name: label(sector.get(3..11)?),
        ..FatMade::default()
    })
}

/// A directory entry.
type Entry = [u8; 32];

fn label_in_fixed_root(window: &Window<'_>, boot: &BootSector) -> Option<Entry> {
    let (_, at, _) = boot.places();
    // At most 65535 entries of 32 bytes.
    let len = usize::try_from(boot.root_entries * 32).ok()?.min(ROOT_BYTES_MAX);
    match search(&window.read(at, len)?) {
        Search::Signature(entry) => Some(entry),
        Search::NotHere | Search::End => None,
    }
}

fn label_in_root_chain(window: &Window<'_>, boot: &BootSector, sector: &[u8]) -> Option<Entry> {
    let cluster_bytes = usize::try_from(boot.sectors_per_cluster * boot.bytes_per_sector).ok()?;
    let data_at = boot.reserved_sectors + boot.fats * boot.sectors_per_fat;
    let mut cluster = le32(sector, 44)?;
    let mut read_bytes = 0;
    for _ in 0..ROOT_CLUSTERS_MAX {
        let index = u64::from(cluster).checked_sub(2).filter(|index| *index < boot.clusters)?;
        let at = (data_at + index * boot.sectors_per_cluster) * boot.bytes_per_sector;
        match search(&window.read(at, cluster_bytes)?) {
            Search::Signature(entry) => return Some(entry),
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

/// The result of a search for the volume label in some directory entries.
enum Search {
    Signature(Entry),
    NotHere,
    End,
}

fn search(entries: &[u8]) -> Search {
    for bytes in entries.chunks_exact(32) {
        // The chunks have that length.
        let Ok(entry) = Entry::try_from(bytes) else { return Search::End };
        match (entry[0], entry[11]) {
            (0x00, _) => return Search::End,
            // 0xe5 marks a deleted entry; 0x05 encodes a first byte 0xe5.
            (0xe5, _) => {}
            (_, attributes) if attributes & ATTR_LONG_NAME == ATTR_LONG_NAME => {}
            (_, attributes) if attributes & (ATTR_VOLUME_ID | 0x10) == ATTR_VOLUME_ID => {
                return Search::Signature(entry);
            }
            _ => {}
        }
    }
    Search::NotHere
}

fn label_of(entry: &Entry) -> Option<String> {
    let mut name = entry[..11].to_vec();
    if name[0] == 0x05 {
        name[0] = 0xe5;
    }
    label(&name)
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
