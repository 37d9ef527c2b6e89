//! Makes a FAT with its original boot sector: a formatter's parameters are all in the reserved sectors, which the
//! manifest keeps. In addition a formatter writes only empty FATs and an empty root directory (Microsoft FAT
//! Specification, 2005, sections 3 to 6).

use std::fs::File;
use std::io;
use std::num::TryFromIntError;
use std::os::unix::fs::FileExt;

use super::put_bytes::zero;
use crate::field::{le16, le32};
use crate::layout::probe::fat::BootSector;
use crate::layout::{FatMade, Holds};
use crate::outside::Cancel;
use crate::units::ByteRange;

/// `FSI_LeadSig` and `FSI_StrucSig`.
const FSINFO_SIGNATURES: [(usize, &[u8]); 2] = [(0, b"RRaA"), (484, b"rrAa")];
/// The lowest end-of-chain mark of FAT32, as written by mkfs.fat.
const END_OF_CHAIN: [u8; 4] = [0xf8, 0xff, 0xff, 0x0f];
const ATTR_VOLUME_ID: u8 = 0x08;
/// The bit of `BS_Reserved1` that Linux and Windows set while it is mounted.
const STATE_DIRTY: u8 = 0x01;

/// Why no FAT can be made from the reserved sectors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FatError {
    /// The manifest has no parameters.
    #[error("the manifest does not say what it was made with")]
    NotRecorded,
    /// The boot sector is not that of a FAT.
    #[error("its boot sector in the manifest is invalid")]
    BootSector,
    /// `BPB_TotSec` differs from the length in the manifest.
    #[error("its boot sector says another size than the manifest")]
    OtherSize,
    /// There are more reserved sectors than in `BPB_RsvdSecCnt`.
    #[error("it has more reserved sectors in the manifest than its boot sector says")]
    Reserved,
    /// `BPB_RootClus` is outside the filesystem.
    #[error("its root directory is outside of it")]
    Root,
    /// `BPB_FATSz` is too small for the number of clusters.
    #[error("its FAT is too short for its clusters")]
    TooShort,
    /// A number exceeds this machine's address space.
    #[error("{0}")]
    Number(TryFromIntError),
}

/// The writes: zeros first, then bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatFormat {
    zeros: ByteRange,
    writes: Vec<(u64, Vec<u8>)>,
    /// The original boot sector and its copy, if fsck.vfat would complain about them: a label that differs from the
    /// root directory's, boot code in only one of them. Written after the check.
    last: Vec<(u64, Vec<u8>)>,
    /// Whether the boot code refers to the blocks of a file.
    pub knows_blocks: bool,
}

impl FatFormat {
    /// `kept` are the reserved sectors without trailing zeros; `moved` is the old and the new offset on the disk.
    /// An error says why it cannot be made again.
    pub(super) fn new(holds: &Holds, kept: &[u8], moved: (u64, u64)) -> Result<Self, FatError> {
        let made = holds.made_with.as_ref().and_then(|made| made.fat.as_deref());
        let made = made.ok_or(FatError::NotRecorded)?;
        let boot = kept.get(..512).and_then(BootSector::decode).ok_or(FatError::BootSector)?;
        if Some(boot.total_sectors * boot.bytes_per_sector) != holds.size_bytes {
            return Err(FatError::OtherSize);
        }
        let sector = usize::try_from(boot.bytes_per_sector).map_err(FatError::Number)?;
        let (fats_at, root_at, data_at) = boot.places();
        if kept.len() as u64 > fats_at {
            return Err(FatError::Reserved);
        }
        let mut reserved = kept.to_vec();
        let is_fat32 = boot.entry_bits() == 32;
        let backup = usize::from(le16(kept, 50).unwrap_or(0)) * sector;
        let backup = Some(backup).filter(|at| is_fat32 && *at > 0);
        for at in std::iter::once(0).chain(backup) {
            if let Some(bytes) = reserved.get_mut(at..at.saturating_add(512)) {
                adapt(bytes, is_fat32, boot.bytes_per_sector, moved);
            }
        }
        let last = tidied(&mut reserved, is_fat32, backup, label_entry(made).as_deref());
        let fsinfo = Some(usize::from(le16(kept, 48).unwrap_or(0)) * sector).filter(|at| is_fat32 && *at > 0);
        for at in fsinfo.into_iter().chain(backup.zip(fsinfo).map(|(backup, fsinfo)| backup + fsinfo)) {
            if let Some(bytes) = reserved.get_mut(at..at.saturating_add(512)) {
                // All clusters except the root directory's are free.
                count_free(bytes, boot.clusters - 1);
            }
        }
        let mut entries = vec![0; 12];
        entries[..12].copy_from_slice(&[made.media, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0]);
        let mut root_bytes = data_at - root_at;
        let mut label_at = root_at;
        match boot.entry_bits() {
            12 => entries.truncate(3),
            16 => entries[3] = 0xff,
            _ => {
                let root_cluster = u64::from(le32(kept, 44).unwrap_or(0));
                if !(2..boot.clusters + 2).contains(&root_cluster) {
                    return Err(FatError::Root);
                }
                // At most 2^28 clusters, checked against the FAT's length.
                let end = usize::try_from(root_cluster * 4 + 4).map_err(FatError::Number)?;
                if end > 12 {
                    // Only the first entries; the root's own is written separately.
                    entries.truncate(8);
                } else {
                    entries[8..12].copy_from_slice(&END_OF_CHAIN);
                }
                let cluster_bytes = boot.sectors_per_cluster * boot.bytes_per_sector;
                label_at = data_at + (root_cluster - 2) * cluster_bytes;
                root_bytes = cluster_bytes;
            }
        }
        let entries = if boot.entry_bits() == 16 { entries[..4].to_vec() } else { entries };
        let fat_bytes = boot.sectors_per_fat * boot.bytes_per_sector;
        if ((boot.clusters + 2) * boot.entry_bits()).div_ceil(8) > fat_bytes {
            return Err(FatError::TooShort);
        }
        let mut writes = vec![(0, reserved)];
        for fat in 0..boot.fats {
            let at = fats_at + fat * fat_bytes;
            writes.push((at, entries.clone()));
            if is_fat32 && entries.len() == 8 {
                let root_cluster = u64::from(le32(kept, 44).unwrap_or(0));
                writes.push((at + root_cluster * 4, END_OF_CHAIN.to_vec()));
            }
        }
        // The root directory or its only cluster, which need not be the first.
        writes.push((label_at, vec![0; usize::try_from(root_bytes).map_err(FatError::Number)?]));
        if let Some(entry) = label_entry(made) {
            writes.push((label_at, entry));
        }
        let knows_blocks = kept.windows(8).take(512).any(|bytes| bytes == b"SYSLINUX");
        Ok(Self { zeros: ByteRange::new(0, data_at), writes, last, knows_blocks })
    }

    /// Writes it to a device or file of its own.
    pub(super) fn write(&self, file: &File, cancel: &Cancel) -> io::Result<()> {
        zero(file, self.zeros, cancel)?;
        for (at, bytes) in &self.writes {
            file.write_all_at(bytes, *at)?;
        }
        file.sync_all()
    }
}

impl FatFormat {
    /// Writes the original sectors, after the files and the check.
    pub(super) fn write_last(&self, file: &File) -> io::Result<()> {
        for (at, bytes) in &self.last {
            file.write_all_at(bytes, *at)?;
        }
        file.sync_all()
    }
}

/// Aligns the boot sector's label with the root directory and the backup boot sector with the boot sector; returns
/// the original bytes.
fn tidied(reserved: &mut [u8], is_fat32: bool, backup: Option<usize>, entry: Option<&[u8]>) -> Vec<(u64, Vec<u8>)> {
    let sector = |reserved: &[u8], at: usize| reserved.get(at..at.saturating_add(512)).map(<[u8]>::to_vec);
    let ids_at = if is_fat32 { 66 } else { 38 };
    let Some(boot) = sector(reserved, 0) else { return Vec::new() };
    let mut tidy = boot.clone();
    if tidy[ids_at] == 0x29 {
        let name = entry.and_then(|entry| entry.get(..11)).unwrap_or(b"NO NAME    ");
        tidy[ids_at + 5..ids_at + 16].copy_from_slice(name);
    }
    let mut last = Vec::new();
    for at in std::iter::once(0).chain(backup) {
        let Some(was) = sector(reserved, at) else { continue };
        // If it is no boot sector, its use is unknown.
        let is_boot = at == 0 || BootSector::decode(&was).is_some();
        if is_boot && was != tidy {
            reserved[at..at + 512].copy_from_slice(&tidy);
            last.push((at as u64, was));
        }
    }
    last
}

/// Updates transient and place-dependent fields of a boot sector: not mounted, and its present offset.
fn adapt(boot: &mut [u8], is_fat32: bool, sector_bytes: u64, (was, is): (u64, u64)) {
    boot[if is_fat32 { 65 } else { 37 }] &= !STATE_DIRTY;
    let hidden = u64::from(le32(boot, 28).unwrap_or(0));
    if was != is
        && hidden == was / sector_bytes
        && let Ok(hidden) = u32::try_from(is / sector_bytes)
    {
        boot[28..32].copy_from_slice(&hidden.to_le_bytes());
    }
}

fn count_free(fsinfo: &mut [u8], free: u64) {
    if FSINFO_SIGNATURES.iter().all(|(at, signature)| fsinfo.get(*at..at + 4) == Some(*signature)) {
        fsinfo[488..492].copy_from_slice(&u32::try_from(free).unwrap_or(u32::MAX).to_le_bytes());
        // `FSI_Nxt_Free`: from the first cluster.
        fsinfo[492..496].copy_from_slice(&2_u32.to_le_bytes());
    }
}

/// The directory entry with the label, without clusters or a length.
fn label_entry(made: &FatMade) -> Option<Vec<u8>> {
    let text = made.label_entry.as_deref().filter(|text| text.len() == 64 && text.is_ascii())?;
    let mut entry = (0..32)
        .map(|index| u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok())
        .collect::<Option<Vec<u8>>>()?;
    entry[11] = ATTR_VOLUME_ID | (entry[11] & 0x20);
    entry[20..22].fill(0);
    entry[26..32].fill(0);
    (entry[0] != 0 && entry[0] != 0xe5).then_some(entry)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use super::FatFormat;
    use crate::layout::{Holds, detect};
    use crate::outside::Cancel;

    /// The result of mkfs.fat with these options, and its reserved sectors.
    fn made_by_mkfs(options: &str) -> (Vec<u8>, Holds) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(70 << 20).unwrap();
        let script = format!("PATH=$PATH:/sbin:/usr/sbin; mkfs.fat {options} {} >&2", file.path().display());
        let made = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let disk = std::fs::read(file.path()).unwrap();
        let holds = detect(&disk, "fat", None).unwrap().regions[0].holds.clone();
        (disk, holds)
    }

    fn reserved(disk: &[u8]) -> &[u8] {
        let number = |at: usize| usize::from(disk[at]) + 256 * usize::from(disk[at + 1]);
        &disk[..number(11) * number(14)]
    }

    #[test]
    fn an_empty_fat_equals_that_of_mkfs() {
        for options in
            ["-F 12 -s 64 -n ONE -f 1 -r 224", "-F 16 -n TWO -R 9 -M 0xf0", "-F 32 -n THREE -b 9 -R 50", "-F 32"]
        {
            let (disk, holds) = made_by_mkfs(options);
            let format = FatFormat::new(&holds, reserved(&disk), (0, 0)).expect(options);
            let file = tempfile::tempfile().unwrap();
            file.set_len(70 << 20).unwrap();
            // Earlier content, where it matters.
            file.write_all_at(&vec![0xaa; 4 << 20], 0).unwrap();
            format.write(&file, &Cancel::default()).unwrap();
            format.write_last(&file).unwrap();
            let mut is = vec![0; disk.len()];
            file.read_exact_at(&mut is, 0).unwrap();
            let made = holds.made_with.unwrap();
            let (sector, own) = (made.sector_bytes.unwrap() as usize, made.fat.unwrap());
            let root = (own.reserved_sectors + own.fats * own.sectors_per_fat) as usize * sector;
            let end = root + (own.root_entries as usize * 32).max(sector);
            // The hint for the next free cluster may differ.
            for hint in [492 + sector, 492 + sector * 10] {
                if own.root_entries == 0 {
                    let (was, new) = (disk[hint..hint + 4].to_vec(), &mut is[hint..hint + 4]);
                    new.copy_from_slice(&was);
                }
            }
            let first = disk[..end].iter().zip(&is).position(|(was, is)| was != is);
            assert_eq!(first, None, "{options}: they differ");
        }
    }

    #[test]
    fn contradictory_boot_sectors_are_refused() {
        let (disk, holds) = made_by_mkfs("-F 32 -n DATA");
        let good = reserved(&disk).to_vec();
        assert!(FatFormat::new(&holds, &good, (0, 0)).is_ok());
        // No boot sector, a root directory outside, a FAT that is too short, another size, and too many reserved
        // sectors.
        for (at, bytes) in [(510, vec![0, 0]), (44, vec![0xff; 4]), (44, vec![1, 0, 0, 0]), (36, vec![1, 0, 0, 0])] {
            let mut kept = good.clone();
            kept[at..at + bytes.len()].copy_from_slice(&bytes);
            assert!(FatFormat::new(&holds, &kept, (0, 0)).is_err(), "{at}");
        }
        assert!(FatFormat::new(&Holds { size_bytes: Some(1), ..holds.clone() }, &good, (0, 0)).is_err());
        assert!(FatFormat::new(&holds, &[good.clone(), vec![1]].concat(), (0, 0)).is_err());
        for len in [0, 3, 511, 512, 600, 1024] {
            // A manifest with fewer bytes must not cause a panic.
            let _ = FatFormat::new(&holds, &good[..len], (0, 1 << 62));
        }
    }
}
