//! One boot record: the master boot record (UEFI 2.10, section 5.2.1, tables 5.1 and 5.2) or an extended boot record,
//! which has the same form.

use crate::field::{array, le16, le32};
use crate::units::Lba;

/// The length of a boot record, whatever the sector size.
pub const BOOT_RECORD_BYTES: usize = 512;

/// A boot record with the signature 0xAA55.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootRecord {
    /// `UniqueMBRDiskSignature`, 0x1b8.
    pub disk_signature: u32,
    /// `PartitionRecord`, 0x1be.
    pub records: [PartitionRecord; 4],
}

/// A partition record. The CHS fields are not read: disks are addressed by LBA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionRecord {
    /// `BootIndicator`: 0x80 or 0x00.
    pub boot_indicator: u8,
    /// `OSType`.
    pub os_type: u8,
    /// `StartingLBA`.
    pub starting_lba: Lba,
    /// `SizeInLBA`.
    pub size_in_lba: u64,
}

impl PartitionRecord {
    /// A record of size 0 is unused, whatever its type, as in the kernel.
    pub fn is_used(&self) -> bool {
        self.size_in_lba != 0
    }

    /// The three types of an extended partition.
    pub fn is_extended(&self) -> bool {
        self.is_used() && matches!(self.os_type, 0x05 | 0x0f | 0x85)
    }

    /// The record that protects a GPT from tools that do not know GPT (UEFI 2.10, section 5.2.3).
    pub fn is_gpt_protective(&self) -> bool {
        self.is_used() && self.os_type == 0xee
    }
}

impl BootRecord {
    /// Decodes the first 512 bytes of a sector, or `None` without the signature at 0x1fe.
    pub fn decode(sector: &[u8]) -> Option<Self> {
        if le16(sector, 0x1fe)? != 0xaa55 {
            return None;
        }
        let mut records = [PartitionRecord::default(); 4];
        for (record, at) in records.iter_mut().zip([0x1be, 0x1ce, 0x1de, 0x1ee]) {
            let bytes: [u8; 16] = array(sector, at)?;
            *record = PartitionRecord {
                boot_indicator: bytes[0],
                os_type: bytes[4],
                starting_lba: Lba(u64::from(le32(&bytes, 8)?)),
                size_in_lba: u64::from(le32(&bytes, 12)?),
            };
        }
        Some(Self { disk_signature: le32(sector, 0x1b8)?, records })
    }

    /// Whether every boot indicator is valid. In a filesystem's boot sector these bytes are code.
    pub fn has_valid_boot_indicators(&self) -> bool {
        self.records.iter().all(|record| matches!(record.boot_indicator, 0x00 | 0x80))
    }
}

/// The name of a partition type; empty if unknown.
pub fn type_name(os_type: u8) -> &'static str {
    match os_type {
        0x01 => "FAT12",
        0x04 => "FAT16 <32M",
        0x05 => "Extended",
        0x06 => "FAT16",
        0x07 => "HPFS/NTFS/exFAT",
        0x0b => "W95 FAT32",
        0x0c => "W95 FAT32 (LBA)",
        0x0e => "W95 FAT16 (LBA)",
        0x0f => "W95 extended (LBA)",
        0x11 => "Hidden FAT12",
        0x14 => "Hidden FAT16 <32M",
        0x16 => "Hidden FAT16",
        0x17 => "Hidden HPFS/NTFS",
        0x1b => "Hidden W95 FAT32",
        0x1c => "Hidden W95 FAT32 (LBA)",
        0x1e => "Hidden W95 FAT16 (LBA)",
        0x27 => "Hidden NTFS WinRE",
        0x39 => "Plan 9",
        0x41 => "PPC PReP boot",
        0x42 => "SFS",
        0x63 => "GNU HURD/SysV",
        0x80 => "Old Minix",
        0x81 => "Minix",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x84 => "OS/2 hidden or Intel hibernation",
        0x85 => "Linux extended",
        0x86 | 0x87 => "NTFS volume set",
        0x88 => "Linux plaintext",
        0x8e => "Linux LVM",
        0x93 => "Amoeba",
        0xa5 => "FreeBSD",
        0xa6 => "OpenBSD",
        0xa8 => "Darwin UFS",
        0xa9 => "NetBSD",
        0xab => "Darwin boot",
        0xaf => "HFS/HFS+",
        0xbe => "Solaris boot",
        0xbf => "Solaris",
        0xda => "Non-FS data",
        0xea => "Linux extended boot",
        0xee => "GPT",
        0xef => "EFI (FAT-12/16/32)",
        0xfb => "VMware VMFS",
        0xfc => "VMware VMKCORE",
        0xfd => "Linux raid autodetect",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::BootRecord;
    use crate::units::Lba;

    fn sector() -> Vec<u8> {
        let mut sector = vec![0; 512];
        sector[0x1b8..0x1bc].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
        sector[0x1ce..0x1de].copy_from_slice(&[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0]);
        sector[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    #[test]
    fn a_sound_record_is_read() {
        let record = BootRecord::decode(&sector()).expect("sound");
        assert_eq!(record.disk_signature, 0x1234_abcd);
        assert!(!record.records[0].is_used());
        let second = record.records[1];
        assert_eq!((second.os_type, second.starting_lba, second.size_in_lba), (0x83, Lba(2048), 65536));
        assert!(record.has_valid_boot_indicators());
    }

    #[test]
    fn one_wrong_field_each() {
        let mut no_signature = sector();
        no_signature[0x1ff] = 0;
        assert_eq!(BootRecord::decode(&no_signature), None);
        assert_eq!(BootRecord::decode(&sector()[..511]), None);
        let mut odd_indicator = sector();
        odd_indicator[0x1ce] = 0x20;
        assert!(!BootRecord::decode(&odd_indicator).expect("readable").has_valid_boot_indicators());
    }
}
