//! Backs up a source as an image: the whole volume, used blocks only.

use std::sync::Arc;

use super::archive::ArchivedSource;
use super::ends::{begin, publish};
use super::error::BackupError;
use super::outcome::BackupOutcome;
use super::previous::KnownPrevious;
use super::thin::{read_mapping, unchanged_before};
use super::under_way::UnderWay;
use crate::archive::counts::Counts;
use crate::archive::error::ArchiveError;
use crate::archive::image::write::{ImageOf, write_image};
use crate::archive::members::Outputs;
use crate::archive::write::WrittenArchive;
use crate::error::with_causes;
use crate::events::{Event, Observer, Severity};
use crate::manifest::ImageRecord;
use crate::outside::BlockRead;
use crate::outside::remembered::Remembered;
use crate::run::expected::Expected;
use crate::run::parent::{PreviousImage, Trust, previous_image};
use crate::run::record::source_record;
use crate::shown::counted;
use crate::source::SnapshotGuard;
use crate::store::Folder;
use crate::store::pending::PendingBackup;
use crate::units::ByteLen;
use crate::used::used_map_of_disk;

/// Freezes the source, writes its image, and publishes it.
pub(super) fn run(backup: &UnderWay<'_>, volume: Folder) -> Result<BackupOutcome, BackupError> {
    let (pending, guard) = begin(backup, volume)?;
    let previous = find_previous(backup);
    let known = previous.as_ref().map(|previous| KnownPrevious {
        stem: previous.parent.stem().to_owned(),
        trust: Trust::default(),
        digests: previous.digests.clone(),
    });
    let archived = archive(backup, &pending, &guard, previous);
    publish(backup, pending, guard, archived, known.as_ref())
}

fn find_previous(backup: &UnderWay<'_>) -> Option<PreviousImage> {
    let source = source_record(backup.source);
    let wanted = backup.sought(&source);
    match previous_image(&wanted, backup.backups, backup.destination) {
        Ok(found) => {
            if let Some(previous) = &found {
                backup.step(&format!("carrying forward from {}", previous.parent.stem()));
            }
            found
        }
        Err(error) => {
            let why = with_causes(&error);
            backup.tell(Severity::Notice, format!("nothing is carried forward, everything is compressed: {why}"));
            None
        }
    }
}

fn archive(
    backup: &UnderWay<'_>,
    pending: &PendingBackup,
    guard: &SnapshotGuard,
    previous: Option<PreviousImage>,
) -> Result<ArchivedSource, BackupError> {
    backup.step("reading the layout");
    let blocks: Arc<dyn BlockRead> = guard.open_blocks().map_err(BackupError::Open)?;
    let looked_at: Arc<dyn BlockRead> = Arc::new(Remembered::new(Arc::clone(&blocks)));
    let layout = backup.read_layout(&*looked_at, guard)?;
    let expected = Expected(&backup.options.expect);
    backup.step("looking for the used blocks");
    // The only error is that of a cancelled run.
    let found = used_map_of_disk(&layout, &looked_at, &backup.world.cancel).map_err(|_| BackupError::Cancelled)?;
    let mut kept_whole = Vec::new();
    for problem in found.problems {
        kept_whole.push(format!("{}: {}", problem.location, problem.what));
        backup.collector.on_event(&Event::Problem(problem));
    }
    let used_bytes = found.map.used_bytes();
    if let Some(limit_bytes) = backup.options.max_bytes.filter(|limit| used_bytes > *limit) {
        return Err(ArchiveError::TooLong { limit_bytes }.into());
    }

    let known = read_mapping(backup, guard);
    let unchanged_before = known.as_ref().and_then(|known| unchanged_before(backup, previous.as_ref(), &known.facts));
    backup.step("reading the used blocks");
    let options = backup.write_options(guard);
    let outputs = Outputs {
        archive: pending.archive_writer(false).map_err(ArchiveError::Write)?,
        index: pending.index_writer().map_err(ArchiveError::Write)?,
        segments: pending.segments_writer().map_err(ArchiveError::Write)?,
    };
    let of = ImageOf {
        blocks: &*blocks,
        used: found.map.runs(),
        mapping: known.as_ref().map(|known| &known.mapping),
        unchanged_before,
    };
    let parent = previous.map(|previous| previous.parent);
    let written = write_image(of, outputs, &options, parent, &**backup.collector)?;
    if let Some(error) = &written.mapping_lost {
        let what = format!("the mapping of the thin volume can no longer be read, so that the rest was read: {error}");
        backup.tell(Severity::Notice, what);
    }
    if unchanged_before.is_some() {
        let (unread, used) = (ByteLen(written.unread_bytes), ByteLen(used_bytes));
        backup.step(&format!("{unread} of {used} used are unchanged by the thin pool's metadata and were not read"));
    }
    for what in &written.complaints {
        backup.tell(Severity::Error, what.clone());
    }
    if let Some(what) = &written.warning {
        backup.tell(Severity::Warning, what.clone());
    }
    if let Some(mismatches) = written.carried.map(|counts| counts.mismatches).filter(|count| *count > 0) {
        let what = format!(
            "{} damaged and not copied: `volbak verify` says which",
            counted(mismatches, "member of the previous backup is", "members of the previous backup are")
        );
        backup.tell(Severity::Warning, what);
    }
    for problem in expected.missing(backup.source.display_name(), &layout.regions, &[]) {
        backup.collector.on_event(&Event::Problem(problem));
    }
    if written.data_bytes == 0 {
        backup.tell(Severity::Notice, "holds no data at all; the image is zeros");
    }
    Ok(ArchivedSource {
        layout,
        regions: Vec::new(),
        image: Some(ImageRecord {
            used_bytes,
            data_bytes: written.data_bytes,
            kept_whole,
            unread_bytes: written.unread_bytes,
            pool: known.map(|known| known.into_record(backup)),
        }),
        written: WrittenArchive {
            members: written.members,
            counts: Counts { raw_images: 1, data_bytes: written.data_bytes, ..Counts::default() },
            carried: written.carried,
            reread_to: None,
        },
    })
}
