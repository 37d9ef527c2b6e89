//! The bytes of a partition table for a target of another size: those of the source, with only the necessary
//! numbers changed. GUIDs, types, names, flags and boot code are kept.

use super::kept::Kept;
use super::shift::Shift;
use crate::layout::gpt::{Header, HeaderFault};
use crate::layout::{Table, TableKind, UsedCopy};
use crate::units::Lba;

/// Why a table cannot be written for a target of another size.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TableError {
    /// The manifest lacks a part of the table.
    #[error("the manifest does not hold its {0}")]
    Missing(String),
    /// A header is invalid.
    #[error("{0}: {1}")]
    Header(String, HeaderFault),
    /// A header's checksum is wrong.
    #[error("its {0} is damaged")]
    Damaged(String),
    /// The array of entries is truncated.
    #[error("the manifest does not hold all of its GPT's entries")]
    Entries,
    /// The target has no room for both copies.
    #[error("the target is too small for a GPT")]
    TooSmall,
    /// The array of entries overlaps the usable sectors.
    #[error("its GPT's entries lie among the partitions")]
    AmongPartitions,
    /// An extended boot record, by its LBA on the source, outside every extended partition.
    #[error("the extended boot record at LBA {0} is in no extended partition")]
    Outside(u64),
    /// A partition, by its first LBA on the source, whose new place exceeds 32 bits.
    #[error("the partition at LBA {0} cannot be written into an MBR where it would go")]
    OutOfReach(u64),
}

/// UEFI 2.10, table 5.5: offsets of the header fields that change.
const HEADER_CRC32: usize = 0x10;
const MY_LBA: usize = 0x18;
const ALTERNATE_LBA: usize = 0x20;
const LAST_USABLE_LBA: usize = 0x30;
const PARTITION_ENTRY_LBA: usize = 0x48;
const ENTRY_ARRAY_CRC32: usize = 0x58;

/// The number of bytes at the target's end that a GPT reserves.
pub(super) fn gpt_tail_bytes(kept: &[Kept], table: &Table, sector: u64) -> Result<u64, TableError> {
    let (header, array, _) = gpt_parts(kept, table, sector)?;
    let array_bytes = array_bytes(&header, array)?.len() as u64;
    Ok(sector.saturating_add(array_bytes.next_multiple_of(sector)))
}

/// The table's sectors for a target of `target_bytes`, with partitions moved by `shift`.
pub(super) fn resized(
    kept: &[Kept],
    table: &Table,
    sector: u64,
    shift: &Shift,
    target_bytes: u64,
) -> Result<Vec<Kept>, TableError> {
    match table.kind {
        TableKind::None => Ok(Vec::new()),
        TableKind::Gpt => gpt(kept, table, sector, shift, target_bytes),
        TableKind::Mbr => mbr(kept, sector, shift),
    }
}

fn named<'a>(kept: &'a [Kept], what: &str) -> Result<&'a Kept, TableError> {
    kept.iter().find(|bytes| bytes.what == what).ok_or_else(|| TableError::Missing(what.to_owned()))
}

/// The header and array that were used, and the header's bytes.
fn gpt_parts<'a>(kept: &'a [Kept], table: &Table, sector: u64) -> Result<(Header, &'a Kept, &'a Kept), TableError> {
    let array = match table.used_copy {
        Some(UsedCopy::Backup) => named(kept, "GPT backup entries"),
        _ => named(kept, "GPT primary entries"),
    }?;
    // One of the two headers may be damaged, whichever copy of the entries was valid.
    let header = |what| {
        let bytes = named(kept, what)?;
        let header = Header::decode(&bytes.bytes, Lba(bytes.start / sector))
            .map_err(|fault| TableError::Header(what.to_owned(), fault))?;
        if header.damage.is_some() { Err(TableError::Damaged(what.to_owned())) } else { Ok((header, array, bytes)) }
    };
    header("GPT primary header").or_else(|_| header("GPT backup header"))
}

fn array_bytes<'a>(header: &Header, array: &'a Kept) -> Result<&'a [u8], TableError> {
    // `Header::decode` bounds both numbers.
    let len = u64::from(header.number_of_partition_entries) * u64::from(header.size_of_partition_entry);
    let bytes = usize::try_from(len).ok().and_then(|len| array.bytes.get(..len));
    bytes.ok_or(TableError::Entries)
}

fn gpt(kept: &[Kept], table: &Table, sector: u64, shift: &Shift, target_bytes: u64) -> Result<Vec<Kept>, TableError> {
    let too_small = || TableError::TooSmall;
    let (header, array, header_bytes) = gpt_parts(kept, table, sector)?;
    let mut entries = array_bytes(&header, array)?.to_vec();
    let entry_len = usize::try_from(header.size_of_partition_entry).map_err(|_| too_small())?;
    for entry in entries.chunks_exact_mut(entry_len) {
        // PartitionTypeGUID: zero is an unused entry. StartingLBA at 32, EndingLBA, inclusive, at 40.
        if entry[..16].iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = move_lba(read64(entry, 32), sector, shift);
        let end = move_lba(read64(entry, 40).saturating_add(1), sector, shift);
        put(entry, 32, &start.to_le_bytes());
        put(entry, 40, &end.saturating_sub(1).to_le_bytes());
    }
    let last = (target_bytes / sector).checked_sub(1).ok_or_else(too_small)?;
    let array_sectors = (entries.len() as u64).div_ceil(sector);
    let backup_array = last.checked_sub(array_sectors).ok_or_else(too_small)?;
    let last_usable = backup_array.checked_sub(1).ok_or_else(too_small)?;
    // The primary array keeps its place, which a backup header does not state.
    let primary_array = if header_bytes.what == "GPT primary header" { header.partition_entry_lba.0 } else { 2 };
    if primary_array < 2
        || primary_array.saturating_add(array_sectors) > header.first_usable_lba.0.max(2 + array_sectors)
    {
        return Err(TableError::AmongPartitions);
    }
    entries.resize(usize::try_from(array_sectors * sector).map_err(|_| too_small())?, 0);
    let array_len = array_bytes(&header, array)?.len();
    let crc = crc32fast::hash(&entries[..array_len]);
    let make = |my: u64, alternate: u64, array_at: u64| {
        let mut bytes = header_bytes.bytes.clone();
        put(&mut bytes, MY_LBA, &my.to_le_bytes());
        put(&mut bytes, ALTERNATE_LBA, &alternate.to_le_bytes());
        put(&mut bytes, LAST_USABLE_LBA, &last_usable.to_le_bytes());
        put(&mut bytes, PARTITION_ENTRY_LBA, &array_at.to_le_bytes());
        put(&mut bytes, ENTRY_ARRAY_CRC32, &crc.to_le_bytes());
        put(&mut bytes, HEADER_CRC32, &[0; 4]);
        // HeaderSize was checked to be within the sector when the header was decoded.
        let covered = usize::try_from(read32(&bytes, 0x0c)).unwrap_or(0).min(bytes.len());
        let crc = crc32fast::hash(&bytes[..covered]);
        put(&mut bytes, HEADER_CRC32, &crc.to_le_bytes());
        bytes
    };
    let mut boot = named(kept, "boot sector")?.bytes.clone();
    for at in [0x1be, 0x1ce, 0x1de, 0x1ee] {
        // The protective record covers the whole disk.
        if boot.get(at + 4) == Some(&0xee) {
            let start = u64::from(read32(&boot, at + 8));
            let size = u32::try_from(last.saturating_sub(start).saturating_add(1)).unwrap_or(u32::MAX);
            put(&mut boot, at + 12, &size.to_le_bytes());
        }
    }
    // A hybrid MBR repeats some of the GPT's partitions.
    for record in records(&boot).into_iter().filter(|record| record.os_type != 0xee) {
        write_record(&mut boot, record.at, (record.start, record.start + record.sectors), 0, sector, shift)?;
    }
    let at = |lba: u64| lba.checked_mul(sector).ok_or_else(too_small);
    let bytes = |what: &str, start: u64, bytes: Vec<u8>| Kept { what: what.to_owned(), start, bytes };
    Ok(vec![
        bytes("GPT backup entries", at(backup_array)?, entries.clone()),
        bytes("GPT backup header", at(last)?, make(last, 1, backup_array)),
        bytes("GPT primary entries", at(primary_array)?, entries),
        bytes("GPT primary header", sector, make(1, last, primary_array)),
        bytes("boot sector", 0, boot),
    ])
}

fn mbr(kept: &[Kept], sector: u64, shift: &Shift) -> Result<Vec<Kept>, TableError> {
    let mut boot = named(kept, "boot sector")?.clone();
    let mut extended = Vec::new();
    for record in records(&boot.bytes) {
        let range = (record.start, record.start + record.sectors);
        if matches!(record.os_type, 0x05 | 0x0f | 0x85) {
            extended.push(range);
        }
        write_record(&mut boot.bytes, record.at, range, 0, sector, shift)?;
    }
    let mut all = Vec::new();
    for kept in kept.iter().filter(|bytes| bytes.what == "extended boot record") {
        let own = kept.start / sector;
        let Some((first, _)) = extended.iter().find(|(start, end)| (*start..*end).contains(&own)) else {
            return Err(TableError::Outside(own));
        };
        let mut moved = Kept { start: shift.moved(kept.start), ..kept.clone() };
        for record in records(&kept.bytes) {
            // A logical partition is relative to its own record, a link to the extended partition's start.
            let is_link = matches!(record.os_type, 0x05 | 0x0f | 0x85);
            let base = if is_link { *first } else { own };
            let start = base + record.start;
            let new_base = shift.moved(base.saturating_mul(sector)) / sector;
            write_record(&mut moved.bytes, record.at, (start, start + record.sectors), new_base, sector, shift)?;
        }
        all.push(moved);
    }
    all.push(boot);
    Ok(all)
}

struct Record {
    at: usize,
    os_type: u8,
    start: u64,
    sectors: u64,
}

fn records(bytes: &[u8]) -> Vec<Record> {
    let record = |at: usize| {
        let (start, sectors) = (u64::from(read32(bytes, at + 8)), u64::from(read32(bytes, at + 12)));
        Record { at, os_type: bytes.get(at + 4).copied().unwrap_or(0), start, sectors }
    };
    [0x1be, 0x1ce, 0x1de, 0x1ee].map(record).into_iter().filter(|record| record.sectors > 0).collect()
}

fn write_record(
    bytes: &mut [u8],
    at: usize,
    (start, end): (u64, u64),
    new_base: u64,
    sector: u64,
    shift: &Shift,
) -> Result<(), TableError> {
    let (new_start, new_end) = (move_lba(start, sector, shift), move_lba(end, sector, shift));
    let fields = new_start
        .checked_sub(new_base)
        .and_then(|start| u32::try_from(start).ok())
        .zip(new_end.checked_sub(new_start).and_then(|sectors| u32::try_from(sectors).ok()));
    let Some((start, sectors)) = fields else {
        return Err(TableError::OutOfReach(start));
    };
    put(bytes, at + 8, &start.to_le_bytes());
    put(bytes, at + 12, &sectors.to_le_bytes());
    Ok(())
}

fn move_lba(lba: u64, sector: u64, shift: &Shift) -> u64 {
    shift.moved(lba.saturating_mul(sector)) / sector
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn read32(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

fn read64(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}
