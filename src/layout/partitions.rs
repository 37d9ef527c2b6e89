//! Makes regions from a partition table's entries, and reports implausible places.

use std::collections::HashMap;

use crate::events::{Problem, Severity};
use crate::layout::gpt::{self, Gpt};
use crate::layout::mbr::{self, Mbr};
use crate::layout::problems::{Problems, REGIONS_MAX};
use crate::layout::{Handling, Region, Table, TableKind};
use crate::outside::BlockRead;
use crate::units::Extent;
use crate::units::{ByteRange, Lba};

/// Makes regions from partitions.
pub(super) struct Build<'a> {
    pub(super) blocks: &'a dyn BlockRead,
    pub(super) sector_size: u32,
    pub(super) problems: &'a mut Problems,
    pub(super) regions: Vec<Region>,
    /// The sectors of the table itself, with their descriptions.
    pub(super) areas: Vec<(String, ByteRange)>,
}

impl Build<'_> {
    fn boot_sector(&mut self) {
        let len = u64::from(self.sector_size).min(self.blocks.len_bytes());
        self.areas.push(("boot sector".to_owned(), ByteRange::new(0, len)));
    }

    pub(super) fn whole(&mut self) -> Table {
        if self.blocks.len_bytes() > 0 {
            self.regions.push(whole_region(self.blocks));
        }
        Table::default()
    }

    pub(super) fn gpt(&mut self, gpt: Gpt) -> Table {
        self.boot_sector();
        for problem in gpt.problems {
            self.problems.push(problem);
        }
        self.areas.extend(gpt.areas.iter().map(|(what, area)| ((*what).to_owned(), *area)));
        for entry in &gpt.entries {
            let name = format!("p{}", entry.number);
            let (start, last) = (entry.starting_lba, entry.ending_lba);
            let Some(sectors) = last.0.checked_sub(start.0).map(|sectors| sectors.saturating_add(1)) else {
                let what = format!("it ends ({last}) before it starts ({start}), and is no region");
                self.problems.push(Problem::new(Severity::Error, name, what));
                continue;
            };
            self.region(
                start,
                sectors,
                Region {
                    name,
                    number: entry.number,
                    type_id: entry.type_guid.clone(),
                    type_name: gpt::type_name(&entry.type_guid).to_owned(),
                    partition_name: entry.name.clone(),
                    partition_uuid: entry.unique_guid.clone(),
                    bootable: entry.is_legacy_bios_bootable(),
                    ..Region::default()
                },
            );
        }
        self.report_duplicates();
        self.report_overlaps();
        Table { kind: TableKind::Gpt, uuid: Some(gpt.disk_guid), used_copy: Some(gpt.used_copy) }
    }

    pub(super) fn mbr(&mut self, mbr: &Mbr) -> Table {
        self.boot_sector();
        for problem in &mbr.problems {
            self.problems.push(problem.clone());
        }
        for area in &mbr.extended_boot_records {
            self.areas.push(("extended boot record".to_owned(), *area));
        }
        for partition in &mbr.partitions {
            self.region(
                partition.start,
                partition.sectors,
                Region {
                    name: format!("p{}", partition.number),
                    number: partition.number,
                    parent: partition.inside.map(|number| format!("p{number}")),
                    type_id: format!("{:#04x}", partition.os_type),
                    type_name: mbr::type_name(partition.os_type).to_owned(),
                    partition_uuid: match mbr.disk_signature {
                        0 => String::new(),
                        signature => format!("{signature:08x}-{:02x}", partition.number),
                    },
                    bootable: partition.bootable,
                    handling: if partition.is_extended { Handling::Container } else { Handling::RawImage },
                    ..Region::default()
                },
            );
        }
        self.report_overlaps();
        let uuid = (mbr.disk_signature != 0).then(|| format!("{:08x}", mbr.disk_signature));
        Table { kind: TableKind::Mbr, uuid, used_copy: None }
    }

    /// Adds a region for these sectors, cut at the end of the source, and reports a cut.
    fn region(&mut self, start: Lba, sectors: u64, region: Region) {
        let mut error = |what: String| self.problems.push(Problem::new(Severity::Error, &region.name, what));
        let len = self.blocks.len_bytes();
        let start_bytes = start.to_bytes(self.sector_size).filter(|start| *start < len);
        let Some(start_bytes) = start_bytes else {
            error(format!("it starts at {start}, past the source's end: nothing of it is here"));
            return;
        };
        if self.regions.len() >= REGIONS_MAX {
            error(format!("more than {REGIONS_MAX} partitions: its bytes are kept as a gap if not zero"));
            return;
        }
        let wanted = sectors.saturating_mul(u64::from(self.sector_size));
        let size_bytes = wanted.min(len - start_bytes);
        if size_bytes < wanted {
            error(format!("it ends {} bytes past the source's end: only what is here is kept", wanted - size_bytes));
        }
        let extents = vec![Extent { source_offset: start_bytes, length: size_bytes }];
        self.regions.push(Region { start_bytes, size_bytes, extents, ..region });
    }

    fn report_duplicates(&mut self) {
        let mut seen = HashMap::new();
        for region in &self.regions {
            let first = seen.entry(region.partition_uuid.as_str()).or_insert(region.name.as_str());
            if *first != region.name {
                let what = format!("it has the same unique GUID as {first}");
                self.problems.push(Problem::new(Severity::Warning, &region.name, what));
            }
        }
    }

    /// Reports each region that overlaps an earlier one or the table, once.
    fn report_overlaps(&mut self) {
        let range = |region: &Region| ByteRange::new(region.start_bytes, region.size_bytes);
        let mut sorted: Vec<&Region> =
            self.regions.iter().filter(|region| region.handling != Handling::Container).collect();
        sorted.sort_by_key(|region| (region.start_bytes, region.number));
        // The region with the furthest end so far: if any overlaps the next one, this one does.
        let mut furthest: Option<&Region> = None;
        for region in sorted {
            if let Some(before) = furthest
                && range(before).overlaps(range(region))
            {
                let what = format!("it shares bytes with {}; both are kept", before.name);
                self.problems.push(Problem::new(Severity::Warning, &region.name, what));
            }
            if let Some((what, _)) = self.areas.iter().find(|(_, area)| area.overlaps(range(region))) {
                let what = format!("it shares bytes with the table ({what})");
                self.problems.push(Problem::new(Severity::Warning, &region.name, what));
            }
            if furthest.is_none_or(|before| range(before).end() < range(region).end()) {
                furthest = Some(region);
            }
        }
        // A primary partition inside an extended one hides the logical ones there, or is hidden by them.
        let containers = self.regions.iter().filter(|region| region.handling == Handling::Container);
        for container in containers {
            for region in self.regions.iter().filter(|region| region.parent.is_none()) {
                if region.number != container.number && range(region).overlaps(range(container)) {
                    let what = format!("it shares bytes with the extended partition {}", container.name);
                    self.problems.push(Problem::new(Severity::Warning, &region.name, what));
                }
            }
        }
    }
}

/// The region of a source without a table.
pub(super) fn whole_region(blocks: &dyn BlockRead) -> Region {
    let size_bytes = blocks.len_bytes();
    let extents = vec![Extent { source_offset: 0, length: size_bytes }];
    Region { name: "disk".to_owned(), size_bytes, extents, ..Region::default() }
}
