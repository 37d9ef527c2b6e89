//! Archives a region's files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::RegionContext;
use super::room::Room;
use super::subvolumes::Subvolumes;
use crate::archive::error::ArchiveError;
use crate::archive::write::ArchiveWriter;
use crate::events::{Event, Problem, Severity};
use crate::layout::{Handling, Region};
use crate::manifest::{BtrfsRecord, QuotaRecord, RegionRecord};
use crate::reader::ahead::ReadAhead;
use crate::reader::filesystem::{Filesystem, Met};
use crate::reader::{Found, FsReader};
use crate::run::backup::error::BackupError;
use crate::run::backup::previous::PreviousBackup;
use crate::shown::counted;

/// The number of entries between two checks whether the filesystem has an end.
const ASKED_EVERY: u32 = 64;

/// The result of archiving a region's files.
pub(in crate::run::backup) struct Archived {
    pub(in crate::run::backup) record: RegionRecord,
    /// The number of files and directory trees that are encrypted or hidden, and not in the archive.
    pub(in crate::run::backup) sealed: u64,
}

/// Archives the files of an opened region under `directory`, or at the top without one. Encrypted and hidden
/// entries are reported, and the caller archives the region's image.
pub(in crate::run::backup) fn archive_files(
    context: &RegionContext<'_>,
    writer: &mut ArchiveWriter<'_>,
    previous: &mut PreviousBackup<'_, '_>,
    region: &Region,
    open: &dyn Filesystem,
    directory: Option<&str>,
) -> Result<Archived, BackupError> {
    let used_bytes = open.used_bytes().map_err(BackupError::Open)?;
    context.observer.on_event(&Event::ExpectedBytes { bytes: used_bytes });
    let archive_path = directory.map_or_else(|| ".".to_owned(), |directory| format!("./{directory}"));
    let walk = open.walk(context.excludes.clone()).map_err(BackupError::Open)?;
    let opens_files = Arc::new(AtomicBool::new(false));
    let mut walk = ReadAhead::new(walk, Arc::clone(&opens_files)).map_err(BackupError::Open)?;
    // Joined only here, so that the walk starts while the previous index is still being read.
    let carry_before = previous.join(writer).and_then(|previous| previous.trust.carry_before(region, &archive_path));
    // Without a previous backup all files are read.
    opens_files.store(carry_before.is_none(), Ordering::Relaxed);
    writer.start_filesystem(directory, carry_before)?;
    let mut sealed = 0;
    let mut appended = 0_u32;
    let mut subvolumes = open.btrfs_root().map(Subvolumes::of);
    let placed = |mut problem: Problem| {
        if let Some(directory) = directory {
            problem.location = format!("{directory}/{}", problem.location.trim_start_matches('/'));
        }
        problem
    };
    let mut room = Room::of(region);
    writer.limit_filesystem(room.limit_bytes);
    writer.cut_for_region(region.size_bytes);
    while let Some(found) = walk.next_found() {
        match found {
            Found::Entry(entry) => {
                if let Some(subvolumes) = &mut subvolumes {
                    subvolumes.note(&entry);
                }
                writer.append(entry)?;
                if let Some(spent) = writer.take_spent() {
                    walk.free(spent);
                }
                room.check(writer.taken_bytes(), open)?;
                appended = appended.wrapping_add(1);
                if appended.is_multiple_of(ASKED_EVERY) && open.has_no_end() {
                    return Err(ArchiveError::TooMuch { limit_bytes: room.limit_bytes }.into());
                }
            }
            Found::Problem(problem) => context.observer.on_event(&Event::Problem(placed(problem))),
            Found::Sealed(problem) => {
                sealed += 1;
                context.observer.on_event(&Event::Problem(placed(problem)));
            }
        }
    }
    // Must be called before unmounting.
    writer.end_filesystem()?;
    if open.has_no_end() {
        return Err(ArchiveError::TooMuch { limit_bytes: room.limit_bytes }.into());
    }
    for met in open.met() {
        match met {
            Met::Whole(severity, what) => context.tell(severity, region, what),
            Met::At(problem) => context.observer.on_event(&Event::Problem(placed(problem))),
        }
    }
    let btrfs = subvolumes.map(|subvolumes| {
        let (record, failures) = subvolumes.finish();
        for what in failures {
            context.tell(Severity::Warning, region, what);
        }
        record
    });
    let record = RegionRecord {
        name: region.name.clone(),
        handling: Handling::Files,
        archive_path: Some(archive_path),
        files_path: None,
        used_bytes: Some(used_bytes),
        journal_replayed_in_copy: open.is_copy(),
        // Only ext records this. For others assume so: a copy of an image, like a snapshot, may have been made at
        // any moment.
        in_use: Some(open.was_in_use().unwrap_or(true)),
        reader: Some(open.reader().to_owned()),
        used_blocks_only: false,
        has_fat_attributes: open.has_fat_attributes(),
        quota_limits: quota_limits(context, region, open),
        btrfs: btrfs.filter(|record| *record != BtrfsRecord::default()).map(Box::new),
    };
    Ok(Archived { record, sealed })
}

/// The quota limits of a filesystem; reports problems with them.
fn quota_limits(context: &RegionContext<'_>, region: &Region, open: &dyn Filesystem) -> Option<Box<QuotaRecord>> {
    let Some(limits) = open.quota_limits() else {
        let xfs = region.holds.made_with.as_ref().and_then(|made| made.xfs.as_deref());
        if xfs.is_some_and(|xfs| !xfs.quotas.is_empty()) {
            context.tell(Severity::Notice, region, "the limits of its quotas are not in the backup".to_owned());
        }
        return None;
    };
    match limits {
        Ok(limits) if limits.count == 0 => None,
        Ok(limits) => {
            let kept = match limits.kept.len() as u64 {
                kept if kept < limits.count => format!("{kept} of its {} quota limits are", limits.count),
                _ => counted(limits.count, "quota limit is", "quota limits are"),
            };
            let what = format!(
                "{kept} in the manifest; a restore does not set them: \
                 setquota does, with the arguments listed there"
            );
            context.tell(Severity::Notice, region, what);
            Some(Box::new(QuotaRecord { count: limits.count, setquota: limits.kept, grace: limits.grace }))
        }
        Err(error) => {
            let what = format!("its quota files cannot be read, so that their limits are not in the backup: {error}");
            context.tell(Severity::Warning, region, what);
            None
        }
    }
}
