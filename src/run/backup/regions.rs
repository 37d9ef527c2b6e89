//! Archives all regions of a source in sequence.

use super::error::BackupError;
use super::names::TopNames;
use super::previous::PreviousBackup;
use super::region::RegionContext;
use super::region::files::archive_files;
use super::region::image::{archive_besides, archive_raw};
use super::region::room::too_much;
use super::under_way::UnderWay;
use crate::archive::error::ArchiveError;
use crate::archive::write::ArchiveWriter;
use crate::error::with_causes;
use crate::events::Severity;
use crate::layout::{Handling, Region};
use crate::manifest::RegionRecord;
use crate::reader::filesystem::Filesystem;
use crate::run::collect::tell;

/// A region that is kept as a raw image although its files can be read, and the reason.
pub(super) struct KeptAsImage {
    pub(super) region: String,
    pub(super) severity: Severity,
    pub(super) what: String,
}

/// Archives all regions; returns their records in the layout's order.
pub(super) fn archive_regions(
    backup: &UnderWay<'_>,
    writer: &mut ArchiveWriter<'_>,
    previous: &mut PreviousBackup<'_, '_>,
    regions: &[Region],
    context: &RegionContext<'_>,
    as_images: &[KeptAsImage],
) -> Result<Vec<RegionRecord>, BackupError> {
    let mut names = TopNames::new(regions);
    let mut records: Vec<RegionRecord> = Vec::with_capacity(regions.len());
    let mut archived: Vec<&Region> = Vec::with_capacity(regions.len());
    // The root of the only filesystem, whose entries may collide with an image's name.
    let mut top: Option<Box<dyn Filesystem>> = None;
    // Files first, so that names at the archive's top are known when an image needs one.
    let files_first = |region: &&Region| region.handling != Handling::Files;
    let mut ordered: Vec<&Region> = regions.iter().collect();
    ordered.sort_by_key(files_first);
    for region in ordered {
        if backup.world.cancel.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        // Entries of a damaged or hostile table may all refer to the same part of the disk.
        let same = |other: &&Region| other.extents == region.extents && other.handling == region.handling;
        let is_archived = matches!(region.handling, Handling::Files | Handling::RawImage);
        if let Some(same) = archived.iter().copied().find(same).filter(|_| is_archived)
            && let Some(record) = records.iter().find(|record| record.name == same.name)
        {
            let what = format!("is the same stretch of the disk as {}; archived once", same.name);
            tell(&**backup.collector, Severity::Warning, region.name.clone(), what);
            records.push(RegionRecord { name: region.name.clone(), ..record.clone() });
            continue;
        }
        archived.push(region);
        if is_archived {
            context.tell_damage(region);
        }
        match region.handling {
            Handling::MetadataOnly | Handling::Container => records.push(RegionRecord {
                name: region.name.clone(),
                handling: region.handling,
                ..RegionRecord::default()
            }),
            Handling::Files => {
                backup.step(&format!("reading {}", region.name));
                let directory = names.directory(region);
                let kept = as_images.iter().find(|kept| kept.region == region.name);
                if let Some(KeptAsImage { severity, what, .. }) = kept {
                    tell(&**backup.collector, *severity, region.name.clone(), what.clone());
                }
                let open = if kept.is_some() { None } else { context.open(region)? };
                if let Some(open) = open {
                    let archived = archive_files(context, writer, previous, region, &*open, directory);
                    let files = archived.map_err(|error| {
                        writer.give_up();
                        match error {
                            BackupError::Archive(ArchiveError::TooMuch { limit_bytes }) => {
                                let (severity, what) = too_much(region, limit_bytes);
                                BackupError::NotAsFiles { region: region.name.clone(), severity, what }
                            }
                            other => other,
                        }
                    })?;
                    if files.sealed == 0 {
                        records.push(files.record);
                    } else {
                        let file_name = names.image(region, Some(&*open).filter(|_| directory.is_none()));
                        records.push(archive_besides(context, (writer, previous), region, files, &file_name)?);
                    }
                    if directory.is_none() {
                        top = Some(open);
                    } else {
                        take_apart(backup, open);
                    }
                } else {
                    let file_name = names.image(region, top.as_deref());
                    records.push(archive_raw(context, (writer, previous), region, &file_name)?);
                }
            }
            Handling::RawImage => {
                backup.step(&format!("reading {} as an image", region.name));
                let file_name = names.image(region, top.as_deref());
                records.push(archive_raw(context, (writer, previous), region, &file_name)?);
            }
        }
    }
    if let Some(open) = top {
        take_apart(backup, open);
    }
    let position = |record: &RegionRecord| regions.iter().position(|region| region.name == record.name);
    records.sort_by_key(position);
    Ok(records)
}

/// Releases a region. A resource that could not be released is removed by the next run.
fn take_apart(backup: &UnderWay<'_>, open: Box<dyn Filesystem>) {
    if let Err(error) = open.finish() {
        let location = backup.source.display_name().to_owned();
        tell(
            &**backup.collector,
            Severity::Warning,
            location,
            format!("{}; the next run tries again", with_causes(&error)),
        );
    }
}
