//! The GPT header (UEFI 2.10, section 5.3.2, table 5.5).

use std::fmt;

use crate::field::{array, le32, le64};
use crate::units::Lba;

/// The header's length as UEFI defines it, the minimum of `HeaderSize`.
const HEADER_SIZE_MIN: u32 = 92;
/// The maximum length of a partition entry array: 256 times the minimum that UEFI requires.
const ARRAY_BYTES_MAX: u64 = 4 << 20;
/// The maximum entry size. UEFI allows 128·2^n; sizes above 128 are not known in practice.
const ENTRY_BYTES_MAX: u32 = 4096;

/// A header whose numbers were checked against the bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `AlternateLBA`: where the other header is.
    pub alternate_lba: Lba,
    /// `FirstUsableLBA`.
    pub first_usable_lba: Lba,
    /// `LastUsableLBA`, inclusive.
    pub last_usable_lba: Lba,
    /// `DiskGUID`, as it is stored.
    pub disk_guid: [u8; 16],
    /// `PartitionEntryLBA`: where this copy's array starts.
    pub partition_entry_lba: Lba,
    /// `NumberOfPartitionEntries`.
    pub number_of_partition_entries: u32,
    /// `SizeOfPartitionEntry`, in bytes.
    pub size_of_partition_entry: u32,
    /// `PartitionEntryArrayCRC32`.
    pub partition_entry_array_crc32: u32,
    /// What is wrong with the header although its numbers are usable.
    pub damage: Option<HeaderDamage>,
}

/// Damage of a header whose numbers are still usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderDamage {
    /// `HeaderCRC32` does not match.
    Checksum,
    /// `MyLBA` is not the LBA of this header.
    MyLba(Lba),
}

impl fmt::Display for HeaderDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => f.write_str("its checksum is wrong"),
            Self::MyLba(lba) => write!(f, "it says that it is at {lba}"),
        }
    }
}

/// Why a sector is no usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// The signature `EFI PART` is missing.
    Signature,
    /// The major version in `Revision` is not 1.
    Revision(u32),
    /// `HeaderSize` is below 92 or above the sector.
    HeaderSize(u32),
    /// `SizeOfPartitionEntry` is not 128·2^n, or too large.
    EntrySize(u32),
    /// `NumberOfPartitionEntries` is 0, or the array would be too large.
    EntryCount(u32),
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("the signature is missing"),
            Self::Revision(revision) => write!(f, "revision {revision:#010x} is unknown"),
            Self::HeaderSize(bytes) => write!(f, "a header of {bytes} bytes is impossible"),
            Self::EntrySize(bytes) => write!(f, "partition entries of {bytes} bytes are impossible"),
            Self::EntryCount(count) => write!(f, "{count} partition entries are impossible"),
        }
    }
}

impl Header {
    /// Decodes the sector at `at`. The places of the other copy and of the array are not checked.
    pub fn decode(sector: &[u8], at: Lba) -> Result<Self, HeaderFault> {
        Self::fields(sector, at).unwrap_or(Err(HeaderFault::Signature))
    }

    /// `None` if the sector is too short for a header.
    fn fields(sector: &[u8], at: Lba) -> Option<Result<Self, HeaderFault>> {
        if sector.get(0x00..0x08)? != b"EFI PART" {
            return Some(Err(HeaderFault::Signature));
        }
        let revision = le32(sector, 0x08)?;
        if revision >> 16 != 1 {
            return Some(Err(HeaderFault::Revision(revision)));
        }
        let header_size = le32(sector, 0x0c)?;
        let covered = usize::try_from(header_size).ok().and_then(|size| sector.get(..size));
        let Some(covered) = covered.filter(|_| header_size >= HEADER_SIZE_MIN) else {
            return Some(Err(HeaderFault::HeaderSize(header_size)));
        };
        let count = le32(sector, 0x50)?;
        let size = le32(sector, 0x54)?;
        if !(128..=ENTRY_BYTES_MAX).contains(&size) || !size.is_power_of_two() {
            return Some(Err(HeaderFault::EntrySize(size)));
        }
        if count == 0 || u64::from(count) * u64::from(size) > ARRAY_BYTES_MAX {
            return Some(Err(HeaderFault::EntryCount(count)));
        }
        let my_lba = Lba(le64(sector, 0x18)?);
        let damage = if checksum(covered) != le32(sector, 0x10)? {
            Some(HeaderDamage::Checksum)
        } else if my_lba != at {
            Some(HeaderDamage::MyLba(my_lba))
        } else {
            None
        };
        Some(Ok(Self {
            alternate_lba: Lba(le64(sector, 0x20)?),
            first_usable_lba: Lba(le64(sector, 0x28)?),
            last_usable_lba: Lba(le64(sector, 0x30)?),
            disk_guid: array(sector, 0x38)?,
            partition_entry_lba: Lba(le64(sector, 0x48)?),
            number_of_partition_entries: count,
            size_of_partition_entry: size,
            partition_entry_array_crc32: le32(sector, 0x58)?,
            damage,
        }))
    }

    /// The array's length in bytes; [`Header::decode`] accepts at most 4 MiB.
    pub fn array_bytes(&self) -> u64 {
        u64::from(self.number_of_partition_entries) * u64::from(self.size_of_partition_entry)
    }
}

/// CRC-32 of the header with the `HeaderCRC32` field zeroed.
fn checksum(header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    // The caller has checked that there are at least 92 bytes.
    crc.update(&header[..0x10]);
    crc.update(&[0; 4]);
    crc.update(&header[0x14..]);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::{Header, HeaderDamage, HeaderFault, checksum};
    use crate::units::Lba;

    fn sector() -> Vec<u8> {
        let mut sector = vec![0; 512];
        sector[0x00..0x08].copy_from_slice(b"EFI PART");
        sector[0x08..0x0c].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        sector[0x0c..0x10].copy_from_slice(&92_u32.to_le_bytes());
        sector[0x18..0x20].copy_from_slice(&1_u64.to_le_bytes());
        sector[0x20..0x28].copy_from_slice(&2047_u64.to_le_bytes());
        sector[0x48..0x50].copy_from_slice(&2_u64.to_le_bytes());
        sector[0x50..0x54].copy_from_slice(&128_u32.to_le_bytes());
        sector[0x54..0x58].copy_from_slice(&128_u32.to_le_bytes());
        sealed(sector)
    }

    fn sealed(mut sector: Vec<u8>) -> Vec<u8> {
        let crc = checksum(&sector[..92]);
        sector[0x10..0x14].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut sector = sector();
        sector[at..at + bytes.len()].copy_from_slice(bytes);
        sealed(sector)
    }

    #[test]
    fn a_sound_header_is_read() {
        let header = Header::decode(&sector(), Lba(1)).expect("sound");
        assert_eq!(header.damage, None);
        assert_eq!(header.alternate_lba, Lba(2047));
        assert_eq!(header.array_bytes(), 16384);
    }

    #[test]
    fn one_wrong_field_each() {
        let fault = |at, bytes: &[u8]| Header::decode(&with(at, bytes), Lba(1)).expect_err("broken");
        assert_eq!(fault(0x00, b"EFI PARX"), HeaderFault::Signature);
        assert_eq!(fault(0x08, &0x0002_0000_u32.to_le_bytes()), HeaderFault::Revision(0x0002_0000));
        assert_eq!(fault(0x0c, &91_u32.to_le_bytes()), HeaderFault::HeaderSize(91));
        assert_eq!(fault(0x0c, &513_u32.to_le_bytes()), HeaderFault::HeaderSize(513));
        assert_eq!(fault(0x50, &0_u32.to_le_bytes()), HeaderFault::EntryCount(0));
        assert_eq!(fault(0x50, &u32::MAX.to_le_bytes()), HeaderFault::EntryCount(u32::MAX));
        for size in [0, 56, 127, 129, 384, 8192, u32::MAX] {
            assert_eq!(fault(0x54, &size.to_le_bytes()), HeaderFault::EntrySize(size));
        }
        assert_eq!(Header::decode(&sector()[..80], Lba(1)), Err(HeaderFault::HeaderSize(92)));
    }

    #[test]
    fn damage_is_reported_and_the_numbers_are_kept() {
        let mut broken = sector();
        broken[0x38] ^= 1;
        let header = Header::decode(&broken, Lba(1)).expect("usable");
        assert_eq!(header.damage, Some(HeaderDamage::Checksum));
        let header = Header::decode(&sector(), Lba(9)).expect("usable");
        assert_eq!(header.damage, Some(HeaderDamage::MyLba(Lba(1))));
    }
}
