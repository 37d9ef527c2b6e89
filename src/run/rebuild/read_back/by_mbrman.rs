//! The crate `mbrman` on a master boot record, including the protective or hybrid one of a GPT. It gets a chain of
//! logical partitions as a whole if it reads that correctly; otherwise it gets each boot record alone.

use std::io::Cursor;

use mbrman::{MBR, MBRHeader, MBRPartitionEntry};

use super::asked::{Asked, Piece, ReadPartition};
use super::opinion::TableOpinion;
use super::window::Window;
use crate::layout::TableKind;
use crate::layout::mbr::{BOOT_RECORD_BYTES, BootRecord, Partition, PartitionRecord, read_table};

/// Checks the primary partitions, then the logical ones.
pub(super) fn ask(asked: &Asked<'_>, opinion: &mut TableOpinion) {
    let Some(boot) = asked.piece("boot sector") else { return };
    let Some(planned) = BootRecord::decode(boot.planned) else {
        opinion.not_asked.push("mbrman about the boot sector, which has no signature".to_owned());
        return;
    };
    let is_mbr = asked.plan.expected.table.kind == TableKind::Mbr;
    let partitions =
        if is_mbr { read_table(&planned_disk(asked), &planned, sector_size(asked)).partitions } else { Vec::new() };
    let what = if is_mbr { "the boot sector" } else { "the GPT's boot sector" };
    if !decode_alone(boot, what, opinion, &mut |header, opinion| {
        if is_mbr {
            let signature = u32::from_le_bytes(header.disk_signature);
            let found = (signature != 0).then(|| format!("{signature:08x}"));
            let words = |uuid: &Option<String>| uuid.clone().unwrap_or_else(|| "not set".to_owned());
            let uuid = &asked.plan.expected.table.uuid;
            opinion.compare("table", "mbrman", "the disk signature", &words(uuid), &words(&found));
        }
        for (number, entry) in header.iter() {
            let number = u32::try_from(number).unwrap_or(0);
            if partitions.iter().any(|partition| partition.number == number) {
                place_of(number, entry, 0).compare(asked, "mbrman", opinion);
            }
        }
    }) {
        return;
    }
    opinion.asked.push(match (is_mbr, partitions.iter().filter(|partition| partition.inside.is_none()).count()) {
        (false, _) => "mbrman (the GPT's boot sector)".to_owned(),
        (true, 1) => "mbrman (1 primary partition)".to_owned(),
        (true, count) => format!("mbrman ({count} primary partitions)"),
    });
    let records = asked.pieces.iter().filter(|piece| piece.what == "extended boot record").count();
    if is_mbr && records > 0 {
        match simple_chain(asked, |piece| piece.planned) {
            Ok(()) => whole_chain(asked, &partitions, opinion),
            Err(why) => {
                opinion.not_asked.push(format!("mbrman about the order of the logical partitions: {why}"));
                record_by_record(asked, &partitions, records, opinion);
            }
        }
    }
}

fn sector_size(asked: &Asked<'_>) -> u32 {
    // The planner accepts only 512 and 4096.
    u32::try_from(asked.sector).unwrap_or(512)
}

fn planned_disk<'a>(asked: &Asked<'a>) -> Window<'a> {
    Window::new(asked.pieces.iter().map(|piece| (piece.start, piece.planned)), asked.plan.target_bytes)
}

/// Has one boot record decoded, without following its links, and compares it with the planned one. Returns whether
/// the crate was asked.
fn decode_alone(
    piece: &Piece<'_>,
    what: &str,
    opinion: &mut TableOpinion,
    and_then: &mut dyn FnMut(&MBRHeader, &mut TableOpinion),
) -> bool {
    let Some(planned) = BootRecord::decode(piece.planned) else { return false };
    if !planned.has_valid_boot_indicators() {
        opinion.not_asked.push(format!("mbrman about {what}: it refuses boot indicators other than 0x00 and 0x80"));
        return false;
    }
    let found = piece.found.get(..BOOT_RECORD_BYTES).unwrap_or_default();
    let header = match MBRHeader::read_from(&mut Cursor::new(found)) {
        Ok(header) => header,
        Err(error) => {
            opinion.disagrees(format!("{what}: the plan has a sound one, and mbrman reads none: {error}"));
            return true;
        }
    };
    for ((slot, entry), planned) in header.iter().zip(&planned.records) {
        compare_records(&format!("{what}, record {slot}"), planned, entry, opinion);
    }
    and_then(&header, opinion);
    true
}

fn compare_records(place: &str, planned: &PartitionRecord, found: &MBRPartitionEntry, opinion: &mut TableOpinion) {
    let mut compare = |what: &str, planned: String, found: String| {
        opinion.compare(place, "mbrman", what, &planned, &found);
    };
    compare("the type", format!("{:#04x}", planned.os_type), format!("{:#04x}", found.sys));
    compare("the boot indicator", format!("{:#04x}", planned.boot_indicator), format!("{:#04x}", found.boot));
    compare("its first sector at", planned.starting_lba.0.to_string(), found.starting_lba.to_string());
    compare("sectors in number:", planned.size_in_lba.to_string(), found.sectors.to_string());
}

fn place_of(number: u32, entry: &MBRPartitionEntry, base: u64) -> ReadPartition {
    let start = base + u64::from(entry.starting_lba);
    let end = start + u64::from(entry.sectors);
    ReadPartition { number, start, end, bootable: entry.is_active(), type_id: format!("{:#04x}", entry.sys) }
}

/// Whether the crate follows this chain correctly: one extended partition, in each boot record a partition and then
/// a link, links in ascending order, and no sum above 32 bits.
fn simple_chain<'a>(asked: &Asked<'a>, bytes: fn(&'a Piece<'a>) -> &'a [u8]) -> Result<(), &'static str> {
    let decode = |start: u64| {
        let piece = asked.pieces.iter().find(|piece| piece.start == start)?;
        BootRecord::decode(bytes(piece)).filter(BootRecord::has_valid_boot_indicators)
    };
    // It takes these two types for extended partitions, and also accepts an entry without a length.
    let may_be_extended = |record: &&PartitionRecord| matches!(record.os_type, 0x05 | 0x0f | 0x85 | 0xc5 | 0xd5);
    let boot = decode(0).ok_or("the boot sector is not one that it reads")?;
    let mut all = boot.records.iter().filter(may_be_extended);
    let (Some(extended), None) = (all.next(), all.next()) else {
        return Err("it follows the first extended partition alone");
    };
    if !extended.is_extended() || extended.starting_lba.0 == 0 {
        return Err("its extended partition is empty, or begins at the disk's first sector");
    }
    let mut relative = 0;
    loop {
        let own = extended.starting_lba.0 + relative;
        let start = own.checked_mul(asked.sector).ok_or("an address is past 64 bits")?;
        let record = decode(start).ok_or("a boot record of the chain is missing or not one that it reads")?;
        let [partition, link, third, fourth] = &record.records;
        if may_be_extended(&partition) || third.is_used() || fourth.is_used() {
            return Err("a boot record is not a partition and then a link");
        }
        if own + partition.starting_lba.0 > u64::from(u32::MAX) {
            return Err("an address is past 32 bits");
        }
        if link.starting_lba.0 == 0 && !link.is_used() {
            return Ok(());
        }
        if !link.is_extended() {
            return Err("a boot record is not a partition and then a link");
        }
        if link.starting_lba.0 <= relative {
            return Err("they are not in ascending order, and it refuses such a table");
        }
        relative = link.starting_lba.0;
        if extended.starting_lba.0 + relative > u64::from(u32::MAX) {
            return Err("an address is past 32 bits");
        }
    }
}

/// Has it follow the chain itself.
fn whole_chain(asked: &Asked<'_>, partitions: &[Partition], opinion: &mut TableOpinion) {
    if let Err(why) = simple_chain(asked, |piece| piece.found.as_slice()) {
        opinion.disagrees(format!(
            "table: the plan has a chain of logical partitions that is in order, and the target has not: {why}"
        ));
        return;
    }
    let pieces = asked.pieces.iter().map(|piece| (piece.start, piece.found.as_slice()));
    let found = match MBR::read_from(&mut Window::new(pieces, asked.plan.target_bytes), sector_size(asked)) {
        Ok(found) => found,
        Err(error) => {
            opinion.disagrees(format!("table: the plan has logical partitions, and mbrman cannot read them: {error}"));
            return;
        }
    };
    // A boot record without a partition has no number.
    let found: Vec<(u32, &MBRPartitionEntry)> = (5..)
        .zip(found.logical_partitions.iter().map(|logical| &logical.partition).filter(|entry| entry.sectors > 0))
        .collect();
    let planned: Vec<&Partition> = partitions.iter().filter(|partition| partition.inside.is_some()).collect();
    for partition in &planned {
        let number = partition.number;
        let Some((_, entry)) = found.iter().find(|(other, _)| *other == number) else {
            opinion.disagrees(format!("partition {number}: the plan has one, and mbrman reads none"));
            continue;
        };
        compare_logical(asked, partition, &place_of(number, entry, 0), opinion);
    }
    for (number, _) in found.iter().skip(planned.len()) {
        opinion.disagrees(format!("partition {number}: the plan has none, and mbrman reads one"));
    }
    opinion.asked.push(match planned.len() {
        1 => "mbrman (1 logical partition)".to_owned(),
        count => format!("mbrman ({count} logical partitions)"),
    });
}

fn compare_logical(asked: &Asked<'_>, planned: &Partition, found: &ReadPartition, opinion: &mut TableOpinion) {
    let place = format!("partition {}", planned.number);
    let mut compare = |what: &str, planned: String, found: String| {
        opinion.compare(&place, "mbrman", what, &planned, &found);
    };
    compare("the type", format!("{:#04x}", planned.os_type), found.type_id.clone());
    compare("the boot flag", planned.bootable.to_string(), found.bootable.to_string());
    compare("its first sector at", planned.start.0.to_string(), found.start.to_string());
    compare("its end at sector", (planned.start.0 + planned.sectors).to_string(), found.end.to_string());
    found.compare(asked, "mbrman", opinion);
}

/// Has it decode each boot record alone. The links are followed by volbak.
fn record_by_record(asked: &Asked<'_>, partitions: &[Partition], records: usize, opinion: &mut TableOpinion) {
    let mut read = 0;
    for piece in asked.pieces.iter().filter(|piece| piece.what == "extended boot record") {
        let own = piece.start / asked.sector;
        let what = format!("the extended boot record at sector {own}");
        read += usize::from(decode_alone(piece, &what, opinion, &mut |header, opinion| {
            for (_, entry) in header.iter().filter(|(_, entry)| entry.sectors > 0) {
                let start = own + u64::from(entry.starting_lba);
                // No planned partition is at the place of a link.
                let is_it = |partition: &&Partition| partition.inside.is_some() && partition.start.0 == start;
                if let Some(partition) = partitions.iter().find(is_it).filter(|_| !entry.is_extended()) {
                    compare_logical(asked, partition, &place_of(partition.number, entry, own), opinion);
                }
            }
        }));
    }
    opinion.asked.push(format!("mbrman ({read} of {records} extended boot records, each by itself)"));
}
