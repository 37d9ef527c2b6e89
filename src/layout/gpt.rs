//! GUID partition tables (UEFI 2.10, section 5.3). Finds both copies, checks each header and each array on its own,
//! and selects the best pair. The caller checks where partitions lie on the disk and whether they overlap.

mod entry;
mod header;

pub use entry::{Entry, decode_array, type_name};
pub use header::{Header, HeaderDamage, HeaderFault};

use std::io;

use crate::events::{Problem, Severity};
use crate::field::guid_text;
use crate::layout::UsedCopy;
use crate::outside::BlockRead;
use crate::units::{ByteRange, Lba};

/// A table that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt {
    /// `DiskGUID`, lower case.
    pub disk_guid: String,
    /// Which copy of the array the entries come from.
    pub used_copy: UsedCopy,
    /// Whether the selected header and array pass every check. If not, the table was recovered from damage.
    pub is_sound: bool,
    /// The used entries, by number.
    pub entries: Vec<Entry>,
    /// The two headers and arrays with their descriptions; inside the disk.
    pub areas: Vec<(&'static str, ByteRange)>,
    /// What is wrong with the table itself.
    pub problems: Vec<Problem>,
}

/// Why a sector holds no header, or the disk no array.
#[derive(Debug, thiserror::Error)]
enum NoHeader {
    #[error("the disk has no room for it")]
    NoRoom,
    #[error("{0} is past the disk's end")]
    PastEnd(Lba),
    #[error("{0}: too long")]
    TooLong(Lba),
    #[error("{lba} cannot be read: {error}")]
    Unreadable { lba: Lba, error: io::Error },
    #[error("{lba}: {fault}")]
    Fault { lba: Lba, fault: HeaderFault },
}

/// A header, and where it is.
struct FoundHeader {
    copy: UsedCopy,
    lba: Lba,
    header: Header,
}

/// Searches for a table with this sector size; `None` if neither copy has a usable header. The backup is searched
/// where the primary says, at the disk's end, and at `protective_end`, the last sector that a protective MBR
/// covers: there it remains when the disk is grown. Read errors count as damage and are reported.
pub fn read_table(blocks: &dyn BlockRead, sector_size: u32, protective_end: Option<Lba>) -> Option<Gpt> {
    let disk = Disk { blocks, sector_size };
    let last = Lba((blocks.len_bytes() / u64::from(sector_size)).checked_sub(1)?);
    let mut problems = Vec::new();

    let primary = disk.header(Lba(1), UsedCopy::Primary);
    let told = primary.as_ref().ok().map(|found| found.header.alternate_lba);
    let mut places: Vec<Lba> = Vec::new();
    for place in [told, Some(last), protective_end].into_iter().flatten() {
        if place > Lba(1) && place <= last && !places.contains(&place) {
            places.push(place);
        }
    }
    let mut backups: Vec<_> = places.iter().map(|place| disk.header(*place, UsedCopy::Backup)).collect();
    // Sound headers first, then damaged ones, then none.
    backups.sort_by_key(|found| match found {
        Ok(found) if found.header.damage.is_none() => 0,
        Ok(_) => 1,
        Err(_) => 2,
    });
    let backup = if backups.is_empty() { Err(NoHeader::NoRoom) } else { backups.swap_remove(0) };
    if primary.is_err() && backup.is_err() {
        return None;
    }

    for (name, found) in [("primary", &primary), ("backup", &backup)] {
        let why = match found {
            Ok(FoundHeader { header: Header { damage: None, .. }, .. }) => continue,
            Ok(FoundHeader { header: Header { damage: Some(damage), .. }, .. }) => damage.to_string(),
            Err(why) => why.to_string(),
        };
        problems.push(warning(format!("the {name} header is damaged or missing: {why}")));
    }
    if let Ok(found) = &backup
        && found.lba != last
    {
        problems.push(Problem::new(
            Severity::Notice,
            "gpt",
            format!("the backup header is at {} and the disk ends at {last}: the disk was grown", found.lba),
        ));
    }

    let (primary, backup) = (primary.ok(), backup.ok());
    let headers: Vec<&FoundHeader> = [&primary, &backup].into_iter().flatten().collect();
    let chosen = disk.choose(&headers, last, &mut problems)?;
    if let (Some(one), Some(other)) = (&primary, &backup)
        && one.header.damage.is_none()
        && other.header.damage.is_none()
        && (one.header.disk_guid != other.header.disk_guid
            || one.header.partition_entry_array_crc32 != other.header.partition_entry_array_crc32)
    {
        problems.push(warning("the primary and the backup copy differ; the primary is taken".to_owned()));
    }

    let mut areas = Vec::new();
    for found in headers {
        let (header_name, array_name) = match found.copy {
            UsedCopy::Primary => ("GPT primary header", "GPT primary entries"),
            UsedCopy::Backup => ("GPT backup header", "GPT backup entries"),
        };
        areas.extend(disk.area(found.lba, u64::from(sector_size)).map(|area| (header_name, area)));
        let array = disk.area(found.header.partition_entry_lba, found.header.array_bytes());
        areas.extend(array.map(|area| (array_name, area)));
    }
    Some(Gpt {
        disk_guid: guid_text(chosen.header.disk_guid),
        used_copy: chosen.copy,
        is_sound: chosen.is_sound,
        entries: decode_array(&chosen.array, chosen.header.size_of_partition_entry),
        areas,
        problems,
    })
}

/// The selected header and array.
struct ChosenCopy<'a> {
    header: &'a Header,
    copy: UsedCopy,
    array: Vec<u8>,
    is_sound: bool,
}

struct Disk<'a> {
    blocks: &'a dyn BlockRead,
    sector_size: u32,
}

impl Disk<'_> {
    fn header(&self, lba: Lba, copy: UsedCopy) -> Result<FoundHeader, NoHeader> {
        let sector = self.read(lba, u64::from(self.sector_size))?;
        let header = Header::decode(&sector, lba).map_err(|fault| NoHeader::Fault { lba, fault })?;
        Ok(FoundHeader { copy, lba, header })
    }

    /// Prefers an array with a matching checksum: first by a sound header, then in its own place before the other
    /// copy's. If none matches, uses the first array that can be read.
    fn choose<'a>(
        &self,
        headers: &[&'a FoundHeader],
        last: Lba,
        problems: &mut Vec<Problem>,
    ) -> Option<ChosenCopy<'a>> {
        let mut ranked: Vec<&'a FoundHeader> = headers.to_vec();
        ranked.sort_by_key(|found| found.header.damage.is_some());
        let mut unchecked = None;
        for found in ranked {
            let header = &found.header;
            let other_copy = match found.copy {
                UsedCopy::Primary => UsedCopy::Backup,
                UsedCopy::Backup => UsedCopy::Primary,
            };
            let own = (header.partition_entry_lba, found.copy);
            let others = self.other_places(found, headers, last).into_iter().map(|place| (place, other_copy));
            for (place, copy) in std::iter::once(own).chain(others) {
                let Ok(array) = self.read(place, header.array_bytes()) else { continue };
                if crc32fast::hash(&array) == header.partition_entry_array_crc32 {
                    if copy != found.copy {
                        problems.push(warning(format!(
                            "the entries beside the {} header are damaged; the other copy's fit its checksum",
                            copy_name(found.copy),
                        )));
                    }
                    return Some(ChosenCopy { header, copy, array, is_sound: header.damage.is_none() });
                }
                if copy == found.copy && unchecked.is_none() {
                    unchecked = Some(ChosenCopy { header, copy, array, is_sound: false });
                }
            }
        }
        let chosen = unchecked?;
        problems.push(Problem::new(
            Severity::Error,
            "gpt",
            format!(
                "no copy of the entries fits its checksum; the {} copy is taken as it is, and may be wrong",
                copy_name(chosen.copy)
            ),
        ));
        Some(chosen)
    }

    /// Candidates for the other copy's array: where that copy's header says, and the usual places after the primary
    /// header and before the backup's.
    fn other_places(&self, found: &FoundHeader, headers: &[&FoundHeader], last: Lba) -> Vec<Lba> {
        let mut places: Vec<Lba> = headers
            .iter()
            .filter(|other| other.copy != found.copy)
            .map(|other| other.header.partition_entry_lba)
            .collect();
        let array_sectors = found.header.array_bytes().div_ceil(u64::from(self.sector_size));
        match found.copy {
            UsedCopy::Primary => {
                for end in [found.header.alternate_lba, last] {
                    places.extend(end.0.checked_sub(array_sectors).map(Lba));
                }
            }
            UsedCopy::Backup => places.push(Lba(2)),
        }
        places
    }

    /// The range from `lba`, if all of it is on the disk.
    fn area(&self, lba: Lba, len: u64) -> Option<ByteRange> {
        let area = ByteRange::new(lba.to_bytes(self.sector_size)?, len);
        (area.end()? <= self.blocks.len_bytes()).then_some(area)
    }

    fn read(&self, lba: Lba, len: u64) -> Result<Vec<u8>, NoHeader> {
        let area = self.area(lba, len).ok_or(NoHeader::PastEnd(lba))?;
        // At most a sector, or the array's bound of 4 MiB.
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| NoHeader::TooLong(lba))?];
        match self.blocks.read_at(area.start, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(NoHeader::Unreadable { lba, error }),
        }
    }
}

fn copy_name(copy: UsedCopy) -> &'static str {
    match copy {
        UsedCopy::Primary => "primary",
        UsedCopy::Backup => "backup",
    }
}

fn warning(what: String) -> Problem {
    Problem::new(Severity::Warning, "gpt", what)
}
