//! From bytes to a [`Layout`]: which table counts, which regions it makes, what they hold, and what lies outside them.
//! `docs/layout-choices.md` says why where tools disagree.

use std::io;

use crate::events::{Problem, Severity};
use crate::layout::gpt::{self, Gpt};
use crate::layout::mbr::{self, BOOT_RECORD_BYTES, BootRecord, Mbr, PartitionRecord};
use crate::layout::nested::{REGIONS_MAX, look_into};
use crate::layout::outside;
use crate::layout::probe::{Found, Window, probe_all};
use crate::layout::scan::Scanner;
use crate::layout::{Extent, Handling, Layout, Region, RegionBlocks, SourceFacts, Table, TableKind};
use crate::outside::BlockRead;
use crate::units::{ByteRange, Lba};

/// The most problems that a layout lists; the last one then says how many more there are.
const PROBLEMS_MAX: usize = 400;

/// Why a source's layout could not be told at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The first sector, where every table starts, cannot be read.
    #[error("the first sector cannot be read")]
    Io(#[source] io::Error),
}

/// Problems up to a bound, so that a hostile table cannot fill memory with them.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    left_out: u64,
}

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    fn into_list(mut self) -> Vec<Problem> {
        if self.left_out > 0 {
            let what = format!("{} more problems are not listed", self.left_out);
            self.list.push(Problem::new(Severity::Error, "source", what));
        }
        self.list
    }
}

/// Finds out what lies on `blocks`. `source_path` is only repeated in the layout. `sector_size_hint` is the device's
/// logical sector size; with it or without, 512 and 4096 are both tried, the hinted one first.
///
/// The only error is a first sector that cannot be read. Everything else that is wrong is in the layout's problems,
/// and what could not be understood has handling `raw_image`.
pub fn detect(blocks: &dyn BlockRead, source_path: &str, sector_size_hint: Option<u32>) -> Result<Layout, LayoutError> {
    let sector_sizes = if sector_size_hint == Some(4096) { [4096, 512] } else { [512, 4096] };
    let mut first_sector = vec![0; BOOT_RECORD_BYTES.min(usize::try_from(blocks.len_bytes()).unwrap_or(usize::MAX))];
    blocks.read_at(0, &mut first_sector).map_err(LayoutError::Io)?;
    let whole = probe_all(&Window::new(blocks));
    let mut problems = Problems::default();
    let mut scanner = Scanner::new();
    let chosen = Choice { blocks, sector_sizes, whole: &whole, problems: &mut problems }.table(&first_sector);

    let sector_size = match &chosen {
        Chosen::Gpt(_, sector_size) | Chosen::Mbr(_, sector_size) => *sector_size,
        Chosen::Whole => sector_sizes[0],
    };
    let source = SourceFacts { path: source_path.to_owned(), size_bytes: blocks.len_bytes(), sector_size };
    let mut build = Build { blocks, sector_size, problems: &mut problems, regions: Vec::new(), areas: Vec::new() };
    let table = match chosen {
        Chosen::Gpt(gpt, _) => build.gpt(*gpt),
        Chosen::Mbr(mbr, _) => build.mbr(&mbr),
        Chosen::Whole => build.whole(),
    };
    let Build { mut regions, areas, .. } = build;

    let has_table = table.kind != TableKind::None;
    let taken: Vec<ByteRange> = regions
        .iter()
        .filter(|region| region.handling != Handling::Container)
        .map(|region| ByteRange::new(region.start_bytes, region.size_bytes))
        .collect();
    let shadow = if has_table { whole_source_signature(&whole, &taken, &areas) } else { None };
    if let Some(found) = &shadow {
        let fs = found.holds.fs.as_deref().unwrap_or_default();
        let what = format!(
            "{fs} lies on the whole source beside a partition table: which one is in use cannot be told; \
             the whole source is kept as a raw image as well"
        );
        problems.push(Problem::new(Severity::Warning, "disk", what));
    }

    let looked = look_into(blocks, std::mem::take(&mut regions), &mut scanner, &mut problems);
    let mut regions = looked.regions;
    let mut preserved = Vec::new();
    if let Some(found) = shadow {
        let disk = Region { holds: found.holds.clone(), ..whole_region(blocks) };
        regions.insert(0, disk);
    }
    if has_table {
        // With the whole source kept as it is, only the tables themselves are wanted in the manifest.
        let all = [ByteRange::new(0, blocks.len_bytes())];
        let kept = if shadow.is_some() { &all[..] } else { &taken[..] };
        let outside = outside::keep(blocks, &areas, kept, &mut scanner);
        preserved = outside.preserved;
        for (place, what) in outside.failures {
            problems.push(Problem::new(Severity::Error, place, what));
        }
        for gap in &outside.gaps {
            let (severity, what) = if outside.not_looked_at.contains(&gap.name) {
                (Severity::Notice, "not searched for data, which takes too long; it is kept as a raw image")
            } else {
                (Severity::Warning, "data lie outside every partition; they are kept as a raw image")
            };
            problems.push(Problem::new(severity, &gap.name, what));
        }
        regions.extend(outside.gaps);
    }
    preserved.extend(looked.preserved);
    Ok(Layout { source, table, regions, outside: preserved, problems: problems.into_list() })
}

/// A sound signature of something that spans the whole source although there is a table: one whose magic is neither in
/// a partition nor in the table.
fn whole_source_signature<'a>(
    whole: &'a [Found],
    taken: &[ByteRange],
    areas: &[(String, ByteRange)],
) -> Option<&'a Found> {
    let tables = areas.iter().map(|(_, area)| area).filter(|area| area.start > 0);
    let elsewhere: Vec<&ByteRange> = taken.iter().chain(tables).collect();
    whole.iter().find(|found| {
        let magic = ByteRange::new(found.magic_at, 1);
        found.doubts.is_empty() && !elsewhere.iter().any(|range| range.overlaps(magic))
    })
}

fn whole_region(blocks: &dyn BlockRead) -> Region {
    let size_bytes = blocks.len_bytes();
    let extents = vec![Extent { source_offset: 0, length: size_bytes }];
    Region { name: "disk".to_owned(), size_bytes, extents, ..Region::default() }
}

enum Chosen {
    Gpt(Box<Gpt>, u32),
    Mbr(Mbr, u32),
    Whole,
}

/// Decides which table counts.
struct Choice<'a> {
    blocks: &'a dyn BlockRead,
    sector_sizes: [u32; 2],
    whole: &'a [Found],
    problems: &'a mut Problems,
}

impl Choice<'_> {
    fn table(&mut self, first_sector: &[u8]) -> Chosen {
        let record = BootRecord::decode(first_sector);
        let valid = record.as_ref().filter(|record| record.has_valid_boot_indicators());
        let protective = valid.and_then(|record| record.records.iter().find(|record| record.is_gpt_protective()));
        let in_use = valid.is_some_and(|record| record.records.iter().any(PartitionRecord::is_used));
        if let Some((gpt, sector_size)) = self.gpt(protective) {
            let holds_whole = self.whole.iter().any(|found| found.doubts.is_empty());
            if protective.is_some() {
                return Chosen::Gpt(Box::new(gpt), sector_size);
            }
            if gpt.is_sound && !in_use && !holds_whole && self.sector_zero_is_free() {
                self.warn("gpt", "the protective MBR is missing; the GPT is used all the same");
                return Chosen::Gpt(Box::new(gpt), sector_size);
            }
            if gpt.is_sound {
                self.warn("gpt", "a GPT without its protective MBR is left over and is not used, as the kernel does");
            }
        }
        let Some(record) = record else { return Chosen::Whole };
        if !in_use {
            return self.without_partitions(&record, valid.is_some());
        }
        if protective.is_some() {
            let what = "the MBR says that there is a GPT, and neither copy of it can be used";
            let hybrid = record.records.iter().any(|record| record.is_used() && !record.is_gpt_protective());
            let then = if hybrid { "the MBR's other partitions are used" } else { "all is kept as one raw image" };
            self.problems.push(Problem::new(Severity::Error, "gpt", format!("{what}; {then}")));
            if !hybrid {
                return Chosen::Whole;
            }
        }
        if !self.sector_zero_is_free() && !self.is_plausible(&record) {
            return Chosen::Whole;
        }
        let sector_size = self.mbr_sector_size(&record);
        Chosen::Mbr(mbr::read_table(self.blocks, &record, sector_size), sector_size)
    }

    fn warn(&mut self, place: &str, what: &str) {
        self.problems.push(Problem::new(Severity::Warning, place, what));
    }

    /// A sound GPT of either sector size, or else a damaged one.
    fn gpt(&self, protective: Option<&PartitionRecord>) -> Option<(Gpt, u32)> {
        let end = protective
            .filter(|record| record.size_in_lba < u64::from(u32::MAX))
            .map(|record| Lba(record.starting_lba.0 + record.size_in_lba - 1));
        let mut found: Vec<(Gpt, u32)> = self
            .sector_sizes
            .iter()
            .filter_map(|sector_size| Some((gpt::read_table(self.blocks, *sector_size, end)?, *sector_size)))
            .collect();
        let best = found.iter().position(|(gpt, _)| gpt.is_sound).unwrap_or(0);
        (!found.is_empty()).then(|| found.swap_remove(best))
    }

    /// Whether nothing that was found has its own use for the first sector, where a table would be.
    fn sector_zero_is_free(&self) -> bool {
        !self.whole.iter().any(|found| found.magic_at < 512)
    }

    /// A boot record without partitions: an empty table, or the boot sector of what is on the whole source.
    fn without_partitions(&mut self, record: &BootRecord, is_table: bool) -> Chosen {
        if !self.whole.is_empty() {
            return Chosen::Whole;
        }
        if is_table {
            return Chosen::Mbr(mbr::read_table(self.blocks, record, self.sector_sizes[0]), self.sector_sizes[0]);
        }
        self.warn("disk", "the first sector ends like a boot record and holds no valid table");
        Chosen::Whole
    }

    /// Whether the partitions are such as a table has: a filesystem's boot code read as a table gives anything.
    fn is_plausible(&self, record: &BootRecord) -> bool {
        let len = self.blocks.len_bytes();
        let mut used = record.records.iter().filter(|record| record.is_used());
        self.sector_sizes.iter().any(|sector_size| {
            used.clone().all(|record| record.starting_lba.to_bytes(*sector_size).is_some_and(|start| start < len))
        }) && used.all(|record| record.starting_lba.0 > 0 && record.os_type != 0)
    }

    /// A table does not say in which sectors it counts. The preferred size is taken unless only the other one puts
    /// something that is recognised at a partition's start.
    fn mbr_sector_size(&mut self, record: &BootRecord) -> u32 {
        let [preferred, other] = self.sector_sizes;
        if self.hits(record, preferred) == 0 && self.hits(record, other) > 0 {
            let what = format!("the table counts in sectors of {other} bytes: only so do its partitions hold anything");
            self.problems.push(Problem::new(Severity::Notice, "mbr", what));
            return other;
        }
        preferred
    }

    /// How many partitions start with something that is recognised when sectors are of this size.
    fn hits(&self, record: &BootRecord, sector_size: u32) -> usize {
        let len = self.blocks.len_bytes();
        let starts_with_something = |record: &&PartitionRecord| {
            let Some(start) = record.starting_lba.to_bytes(sector_size).filter(|start| *start < len) else {
                return false;
            };
            let wanted = record.size_in_lba.saturating_mul(u64::from(sector_size));
            let extent = Extent { source_offset: start, length: wanted.min(len - start) };
            let region = RegionBlocks::new(self.blocks, &[extent]);
            let window = Window::new(&region);
            if record.is_extended() {
                return window.read(0, BOOT_RECORD_BYTES).is_some_and(|sector| BootRecord::decode(&sector).is_some());
            }
            !probe_all(&window).is_empty()
        };
        record.records.iter().filter(|record| record.is_used()).filter(starts_with_something).count()
    }
}

/// Makes regions of a table's partitions.
struct Build<'a> {
    blocks: &'a dyn BlockRead,
    sector_size: u32,
    problems: &'a mut Problems,
    regions: Vec<Region>,
    areas: Vec<(String, ByteRange)>,
}

impl Build<'_> {
    fn boot_sector(&mut self) {
        let len = u64::from(self.sector_size).min(self.blocks.len_bytes());
        self.areas.push(("boot sector".to_owned(), ByteRange::new(0, len)));
    }

    fn whole(&mut self) -> Table {
        if self.blocks.len_bytes() > 0 {
            self.regions.push(whole_region(self.blocks));
        }
        Table::default()
    }

    fn gpt(&mut self, gpt: Gpt) -> Table {
        self.boot_sector();
        for problem in gpt.problems {
            self.problems.push(problem);
        }
        self.areas.extend(gpt.areas.iter().map(|(what, area)| ((*what).to_owned(), *area)));
        for entry in &gpt.entries {
            let name = format!("p{}", entry.number);
            let (start, last) = (entry.starting_lba, entry.ending_lba);
            let Some(sectors) = last.0.checked_sub(start.0).and_then(|sectors| sectors.checked_add(1)) else {
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

    fn mbr(&mut self, mbr: &Mbr) -> Table {
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

    /// Adds a region of these sectors as far as they are on the source, and reports the rest.
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
        let mut seen = std::collections::HashMap::new();
        for region in &self.regions {
            let first = seen.entry(region.partition_uuid.as_str()).or_insert(region.name.as_str());
            if *first != region.name {
                let what = format!("it has the same unique GUID as {first}");
                self.problems.push(Problem::new(Severity::Warning, &region.name, what));
            }
        }
    }

    /// Reports each region that shares bytes with an earlier one, or with the table, once.
    fn report_overlaps(&mut self) {
        let range = |region: &Region| ByteRange::new(region.start_bytes, region.size_bytes);
        let mut sorted: Vec<&Region> =
            self.regions.iter().filter(|region| region.handling != Handling::Container).collect();
        sorted.sort_by_key(|region| (region.start_bytes, region.number));
        // The region that reaches furthest of those seen so far: if any overlaps the next one, that one does.
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
        // A primary partition in an extended one hides the logical ones there, or is hidden by them.
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
