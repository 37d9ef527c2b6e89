//! The crate `gpt` on a GUID partition table. It gets each copy alone: with both, it reads the backup header only
//! if the primary one is bad, and never the backup's entries.

use ::gpt::GptConfig;
use ::gpt::disk::LogicalBlockSize;
use ::gpt::header::Header as FoundHeader;
use ::gpt::partition::Partition;

use super::asked::{Asked, Piece, ReadPartition};
use super::opinion::TableOpinion;
use super::window::Window;
use crate::field::{guid_text, le32};
use crate::layout::UsedCopy;
use crate::layout::gpt::{Entry, Header, HeaderDamage, HeaderFault, decode_array};
use crate::shown;
use crate::units::Lba;

/// The only entry size that it supports; others make it panic.
const ENTRY_BYTES: u32 = 128;
/// The header length that it uses for the checksum, whatever `HeaderSize` says.
const HEADER_BYTES: u32 = 92;

/// Why the crate is not asked about a copy.
#[derive(Debug, thiserror::Error)]
enum NotAsked {
    #[error("the source had none that could be read")]
    Missing,
    #[error("it was damaged on the source: {0}")]
    Damaged(HeaderFault),
    #[error("it was damaged on the source: {0}")]
    Mismatch(HeaderDamage),
    #[error("its entries have {0} bytes, and it reads those of {ENTRY_BYTES}")]
    Entries(u32),
    #[error("its header has {0} bytes, and it checks those of {HEADER_BYTES}")]
    Header(u32),
    #[error("its entries did not fit their checksum on the source")]
    Checksum,
    #[error("its entries are those of another place")]
    OtherPlace,
}

/// A planned copy.
struct Copy<'a> {
    name: &'static str,
    header: &'a Piece<'a>,
    array: &'a Piece<'a>,
    planned: Header,
}

impl<'a> Copy<'a> {
    /// The copy, if the crate reads it correctly. Otherwise the error gives the reason.
    fn plan(asked: &Asked<'a>, copy: UsedCopy) -> Result<Self, NotAsked> {
        let (name, header, array) = match copy {
            UsedCopy::Primary => ("primary", "GPT primary header", "GPT primary entries"),
            UsedCopy::Backup => ("backup", "GPT backup header", "GPT backup entries"),
        };
        let header = asked.piece(header).ok_or(NotAsked::Missing)?;
        let array = asked.piece(array).ok_or(NotAsked::Missing)?;
        let planned = Header::decode(header.planned, Lba(header.start / asked.sector)).map_err(NotAsked::Damaged)?;
        if let Some(damage) = planned.damage {
            return Err(NotAsked::Mismatch(damage));
        }
        match planned.size_of_partition_entry {
            ENTRY_BYTES => {}
            bytes => return Err(NotAsked::Entries(bytes)),
        }
        match le32(header.planned, 0x0c) {
            Some(HEADER_BYTES) => {}
            bytes => return Err(NotAsked::Header(bytes.unwrap_or_default())),
        }
        let this = Self { name, header, array, planned };
        if planned_array(&this).is_none_or(|bytes| crc32fast::hash(bytes) != this.planned.partition_entry_array_crc32) {
            return Err(NotAsked::Checksum);
        }
        if array.start / asked.sector != this.planned.partition_entry_lba.0 {
            return Err(NotAsked::OtherPlace);
        }
        Ok(this)
    }
}

/// `Header::decode` bounds both numbers.
fn planned_array<'a>(copy: &Copy<'a>) -> Option<&'a [u8]> {
    copy.array.planned.get(..usize::try_from(copy.planned.array_bytes()).ok()?)
}

/// Checks both copies.
pub(super) fn ask(asked: &Asked<'_>, opinion: &mut TableOpinion) {
    let mut copies = Vec::new();
    for (name, copy) in [("primary", UsedCopy::Primary), ("backup", UsedCopy::Backup)] {
        match Copy::plan(asked, copy) {
            Ok(copy) => copies.push(copy),
            Err(why) => opinion.not_asked.push(format!("gpt about the {name} copy: {why}")),
        }
    }
    // The plan describes the copy that was used, and the other one if it is the same.
    let used = match asked.plan.expected.table.used_copy {
        Some(UsedCopy::Backup) => asked.piece("GPT backup entries"),
        _ => asked.piece("GPT primary entries"),
    };
    let guids = ["GPT primary header", "GPT backup header"].map(|what| {
        let header = Header::decode(asked.piece(what)?.planned, Lba(0)).ok()?;
        Some(header.disk_guid)
    });
    let same_disk = guids.iter().flatten().all(|guid| Some(*guid) == guids.iter().copied().flatten().next());
    for copy in &copies {
        let is_used = used.zip(planned_array(copy)).is_some_and(|(used, array)| used.planned.starts_with(array));
        ask_about(asked, copy, is_used, same_disk, opinion);
    }
}

fn ask_about(asked: &Asked<'_>, copy: &Copy<'_>, is_used: bool, same_disk: bool, opinion: &mut TableOpinion) {
    let place = format!("the {} copy", copy.name);
    if copy.header.found.starts_with(b"EFI PART") && le32(&copy.header.found, 0x54) != Some(ENTRY_BYTES) {
        opinion.disagrees(format!("{place}: the plan has entries of {ENTRY_BYTES} bytes, and the target has others"));
        return;
    }
    // It searches for the backup header at the disk's end.
    let len = if copy.name == "backup" { copy.header.end() } else { asked.plan.target_bytes };
    let pieces = [copy.header, copy.array].map(|piece| (piece.start, piece.found.as_slice()));
    let window = Window::new(pieces, len);
    let size = if asked.sector == 4096 { LogicalBlockSize::Lb4096 } else { LogicalBlockSize::Lb512 };
    let disk = match GptConfig::new().logical_block_size(size).open_from_device(window) {
        Ok(disk) => disk,
        Err(error) => {
            opinion.disagrees(format!("{place}: the plan has a sound one, and gpt finds none: {error}"));
            return;
        }
    };
    compare_headers(&place, disk.header(), copy, opinion);
    if same_disk && let Some(uuid) = &asked.plan.expected.table.uuid {
        opinion.compare(&place, "gpt", "the disk GUID", uuid, &disk.guid().to_string());
    }
    let entries = decode_array(planned_array(copy).unwrap_or_default(), ENTRY_BYTES);
    let found = disk.partitions();
    for number in found.iter().filter(|(_, partition)| partition.is_used()).map(|(number, _)| *number) {
        if !entries.iter().any(|entry| entry.number == number) {
            opinion.disagrees(format!("partition {number}: the plan has none, and gpt reads one in {place}"));
        }
    }
    for entry in &entries {
        let number = entry.number;
        if let Some(partition) = found.get(&number).filter(|partition| partition.is_used()) {
            compare_entries(asked, entry, partition, is_used, opinion);
        } else {
            opinion.disagrees(format!("partition {number}: the plan has one, and gpt reads none in {place}"));
        }
    }
    opinion.asked.push(match entries.len() {
        1 => format!("gpt ({place}, 1 partition)"),
        count => format!("gpt ({place}, {count} partitions)"),
    });
}

fn compare_headers(place: &str, found: &FoundHeader, copy: &Copy<'_>, opinion: &mut TableOpinion) {
    let planned = &copy.planned;
    let mut number = |what: &str, planned: u64, found: u64| {
        opinion.compare(place, "gpt", what, &planned.to_string(), &found.to_string());
    };
    number("the other copy at sector", planned.alternate_lba.0, found.backup_lba);
    number("the first usable sector at", planned.first_usable_lba.0, found.first_usable);
    number("the last usable sector at", planned.last_usable_lba.0, found.last_usable);
    number("its entries at sector", planned.partition_entry_lba.0, found.part_start);
    number("entries in number:", u64::from(planned.number_of_partition_entries), u64::from(found.num_parts));
    let disk_guid = guid_text(planned.disk_guid);
    opinion.compare(place, "gpt", "the disk GUID", &disk_guid, &found.disk_guid.to_string());
}

fn compare_entries(asked: &Asked<'_>, entry: &Entry, found: &Partition, is_used: bool, opinion: &mut TableOpinion) {
    let place = format!("partition {}", entry.number);
    let mut compare = |what: &str, planned: &str, found: &str| opinion.compare(&place, "gpt", what, planned, found);
    let type_id = found.part_type_guid.guid.to_string();
    let unique = found.part_guid.to_string();
    compare("the type", &entry.type_guid, &type_id);
    compare("the GUID", &entry.unique_guid, &unique);
    compare("its first sector at", &entry.starting_lba.0.to_string(), &found.first_lba.to_string());
    compare("its last sector at", &entry.ending_lba.0.to_string(), &found.last_lba.to_string());
    compare("the attributes", &format!("{:#018x}", entry.attributes), &format!("{:#018x}", found.flags));
    let name = found.name.replace('\\', "\\\\");
    // A lone surrogate is escaped in the plan, and lost in the crate.
    let is_lossy = name.contains(char::REPLACEMENT_CHARACTER) && entry.name.contains("\\u{");
    if is_lossy {
        opinion.not_asked.push(format!("gpt about the name of partition {}, which is not valid UTF-16", entry.number));
    } else {
        let shown = |name: &str| format!("`{}`", shown::text(name));
        opinion.compare(&place, "gpt", "the name", &shown(&entry.name), &shown(&name));
    }
    // An entry that ends before it starts is no region.
    if !is_used || found.last_lba < found.first_lba {
        return;
    }
    if let Some(region) = asked.region(entry.number) {
        opinion.compare(&place, "gpt", "the GUID", &region.partition_uuid, &unique);
        if !is_lossy {
            let shown = |name: &str| format!("`{}`", shown::text(name));
            opinion.compare(&place, "gpt", "the name", &shown(&region.partition_name), &shown(&name));
        }
    }
    let bootable = found.flags & (1 << 2) != 0;
    let (start, end) = (found.first_lba, found.last_lba.saturating_add(1));
    ReadPartition { number: entry.number, start, end, bootable, type_id }.compare(asked, "gpt", opinion);
}
