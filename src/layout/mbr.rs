//! Partition tables in master boot records, with their chains of logical partitions. Numbers are those of the
//! kernel (`block/partitions/msdos.c`) and of partx: 1 to 4 by slot, from 5 on in the order of the chains.

mod sector;

use std::collections::HashSet;
use std::io;

pub use sector::{BOOT_RECORD_BYTES, BootRecord, PartitionRecord, type_name};

use crate::events::{Problem, Severity};
use crate::outside::BlockRead;
use crate::units::{ByteRange, Lba};

/// The maximum number of boot records in a table's chains; the kernel stops at 256 partitions per disk.
const CHAIN_RECORDS_MAX: usize = 1024;

/// A table with its logical partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mbr {
    /// `UniqueMBRDiskSignature`.
    pub disk_signature: u32,
    /// All partitions, by number.
    pub partitions: Vec<Partition>,
    /// The extended boot records, each a sector inside the disk.
    pub extended_boot_records: Vec<ByteRange>,
    /// What is wrong with the chains.
    pub problems: Vec<Problem>,
}

/// A partition as listed in the table; not yet checked against the disk's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's number.
    pub number: u32,
    /// `OSType`.
    pub os_type: u8,
    /// Whether its boot indicator is 0x80.
    pub bootable: bool,
    /// Its first sector on the disk.
    pub start: Lba,
    /// Its length in sectors.
    pub sectors: u64,
    /// The number of the extended partition that contains it.
    pub inside: Option<u32>,
    /// Whether it is an extended partition.
    pub is_extended: bool,
}

/// Follows the chains of the table in `record`, with this sector size. A broken link ends its chain: earlier
/// partitions are kept, and a problem names what may be lost.
pub fn read_table(blocks: &dyn BlockRead, record: &BootRecord, sector_size: u32) -> Mbr {
    let mut walk = Walk {
        blocks,
        sector_size,
        visited: HashSet::new(),
        mbr: Mbr {
            disk_signature: record.disk_signature,
            partitions: Vec::new(),
            extended_boot_records: Vec::new(),
            problems: Vec::new(),
        },
    };
    for (number, record) in (1..).zip(&record.records) {
        if record.is_used() {
            walk.mbr.partitions.push(Partition {
                number,
                os_type: record.os_type,
                bootable: record.boot_indicator == 0x80,
                start: record.starting_lba,
                sectors: record.size_in_lba,
                inside: None,
                is_extended: record.is_extended(),
            });
        }
    }
    let mut next_number = 5;
    for extended in walk.mbr.partitions.clone() {
        if extended.is_extended {
            walk.follow(extended, &mut next_number);
        }
    }
    walk.mbr
}

struct Walk<'a> {
    blocks: &'a dyn BlockRead,
    sector_size: u32,
    visited: HashSet<Lba>,
    mbr: Mbr,
}

impl Walk<'_> {
    fn follow(&mut self, extended: Partition, next_number: &mut u32) {
        let place = format!("p{}", extended.number);
        let mut at = extended.start;
        // The sectors that the link assigned to its record; the first record gets the whole extended partition.
        let mut governed = extended.sectors;
        loop {
            let lost = |what: String| {
                let rest = "logical partitions from there on are not found; their bytes are kept as a gap if not zero";
                Problem::new(Severity::Error, place.clone(), format!("{what}; {rest}"))
            };
            if self.visited.len() >= CHAIN_RECORDS_MAX {
                self.mbr.problems.push(lost(format!("more than {CHAIN_RECORDS_MAX} extended boot records")));
                return;
            }
            if !self.visited.insert(at) {
                self.mbr.problems.push(lost(format!("the chain comes back to the extended boot record at {at}")));
                return;
            }
            let record = match self.extended_boot_record(at) {
                Ok(record) => record,
                Err(why) => {
                    self.mbr.problems.push(lost(why.to_string()));
                    return;
                }
            };
            self.take_logical(extended, at, governed, &record, next_number);
            // The link is relative to the extended partition's start, not to this record. Both are 32 bits wide
            // on the disk, so their sum fits in 64.
            let Some(link) = record.records.iter().find(|record| record.is_extended()) else { return };
            at = Lba(extended.start.0 + link.starting_lba.0);
            governed = link.size_in_lba;
        }
    }

    fn take_logical(
        &mut self,
        extended: Partition,
        at: Lba,
        governed: u64,
        record: &BootRecord,
        next_number: &mut u32,
    ) {
        for (slot, record) in record.records.iter().enumerate() {
            if !record.is_used() || record.is_extended() {
                continue;
            }
            let start = Lba(at.0 + record.starting_lba.0);
            let end = start.0 + record.size_in_lba;
            let extended_end = extended.start.0 + extended.sectors;
            let inside = start >= extended.start && end <= extended_end;
            // The kernel accepts the third and fourth record only within the link's sectors.
            if slot >= 2 && (record.starting_lba.0 + record.size_in_lba > governed || !inside) {
                self.mbr.problems.push(Problem::new(
                    Severity::Warning,
                    format!("p{}", extended.number),
                    format!(
                        "record {} of the extended boot record at {at} is out of its bounds; passed over",
                        slot + 1
                    ),
                ));
                continue;
            }
            let number = *next_number;
            *next_number += 1;
            if !inside {
                self.mbr.problems.push(Problem::new(
                    Severity::Warning,
                    format!("p{number}"),
                    format!("reaches out of its extended partition p{}", extended.number),
                ));
            }
            self.mbr.partitions.push(Partition {
                number,
                os_type: record.os_type,
                bootable: record.boot_indicator == 0x80,
                start,
                sectors: record.size_in_lba,
                inside: Some(extended.number),
                is_extended: false,
            });
        }
    }

    fn extended_boot_record(&mut self, at: Lba) -> Result<BootRecord, NoRecord> {
        let past = || NoRecord::PastEnd(at);
        let sector = ByteRange::new(at.to_bytes(self.sector_size).ok_or_else(past)?, u64::from(self.sector_size));
        sector.end().filter(|end| *end <= self.blocks.len_bytes()).ok_or_else(past)?;
        let mut bytes = [0; BOOT_RECORD_BYTES];
        self.blocks.read_at(sector.start, &mut bytes).map_err(|error| NoRecord::Unreadable { at, error })?;
        let record = BootRecord::decode(&bytes).ok_or(NoRecord::NoSignature(at))?;
        self.mbr.extended_boot_records.push(sector);
        Ok(record)
    }
}

/// Why a chain of extended boot records ends early.
#[derive(Debug, thiserror::Error)]
enum NoRecord {
    #[error("the extended boot record at {0} is past the disk's end")]
    PastEnd(Lba),
    #[error("the extended boot record at {at} cannot be read: {error}")]
    Unreadable { at: Lba, error: io::Error },
    #[error("the extended boot record at {0} lacks its signature")]
    NoSignature(Lba),
}

#[cfg(test)]
mod tests {
    use super::{BootRecord, Mbr, read_table};
    use crate::events::Severity;

    const SECTOR: usize = 512;

    /// Writes partition records `(slot, type, start, size)` and the signature into the sector at `lba`.
    fn put(disk: &mut [u8], lba: usize, records: &[(usize, u8, u32, u32)]) {
        let sector = &mut disk[lba * SECTOR..(lba + 1) * SECTOR];
        for (slot, os_type, start, size) in records {
            let record = &mut sector[0x1be + slot * 16..0x1ce + slot * 16];
            record[4] = *os_type;
            record[8..12].copy_from_slice(&start.to_le_bytes());
            record[12..16].copy_from_slice(&size.to_le_bytes());
        }
        sector[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    }

    /// A primary, an extended partition at 100, and logical ones at 110, 140 and 120, in that order.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 400 * SECTOR];
        put(&mut disk, 0, &[(0, 0x83, 10, 50), (1, 0x05, 100, 200)]);
        put(&mut disk, 100, &[(0, 0x83, 10, 5), (1, 0x05, 30, 20)]);
        put(&mut disk, 130, &[(0, 0x83, 10, 5), (1, 0x05, 15, 20)]);
        put(&mut disk, 115, &[(0, 0x83, 5, 5)]);
        disk
    }

    fn table(disk: &Vec<u8>) -> Mbr {
        read_table(disk, &BootRecord::decode(disk).expect("signature"), 512)
    }

    fn found(mbr: &Mbr) -> Vec<(u32, u64, u64)> {
        mbr.partitions.iter().map(|part| (part.number, part.start.0, part.sectors)).collect()
    }

    #[test]
    fn a_chain_in_any_order_is_followed() {
        let mbr = table(&disk());
        assert_eq!(found(&mbr), [(1, 10, 50), (2, 100, 200), (5, 110, 5), (6, 140, 5), (7, 120, 5)]);
        assert!(mbr.problems.is_empty(), "{:?}", mbr.problems);
        assert_eq!(mbr.extended_boot_records.len(), 3);
    }

    #[test]
    fn a_loop_ends_and_keeps_the_partitions_found() {
        let mut disk = disk();
        put(&mut disk, 115, &[(1, 0x05, 0, 20)]);
        let mbr = table(&disk);
        assert_eq!(found(&mbr).len(), 5);
        assert_eq!(mbr.problems.len(), 1);
        assert_eq!(mbr.problems[0].severity, Severity::Error);
    }

    #[test]
    fn a_link_past_the_end_or_to_no_record_is_reported() {
        for link in [u32::MAX, 250, 399] {
            let mut disk = disk();
            put(&mut disk, 130, &[(1, 0x05, link, 20)]);
            let mbr = table(&disk);
            assert_eq!(found(&mbr).len(), 4, "{link}");
            assert_eq!(mbr.problems.len(), 1, "{link}");
        }
    }

    #[test]
    fn each_of_several_extended_partitions_is_followed() {
        let mut disk = disk();
        put(&mut disk, 0, &[(2, 0x85, 310, 50)]);
        put(&mut disk, 310, &[(0, 0x83, 2, 5)]);
        let mbr = table(&disk);
        assert_eq!(mbr.partitions.last().map(|part| (part.number, part.start.0, part.inside)), Some((8, 312, Some(3))));
    }

    #[test]
    fn addresses_beyond_32_bits_do_not_wrap() {
        let mut disk = disk();
        put(&mut disk, 100, &[(0, 0x83, u32::MAX, u32::MAX)]);
        let mbr = table(&disk);
        assert_eq!(mbr.partitions[2].start.0, 100 + u64::from(u32::MAX));
        assert_eq!(mbr.problems.len(), 1);
    }
}
