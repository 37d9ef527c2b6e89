//! Archives a frozen source: its layout, and each region.

use std::path::Path;
use std::sync::Arc;

use super::error::BackupError;
use super::previous::PreviousBackup;
use super::region::RegionContext;
use super::regions::{KeptAsImage, archive_regions};
use super::under_way::UnderWay;
use crate::archive::error::ArchiveError;
use crate::archive::members::Outputs;
use crate::archive::write::{ArchiveWriter, WrittenArchive};
use crate::events::{Event, Observer, Severity};
use crate::layout::Layout;
use crate::manifest::{ImageRecord, RegionRecord};
use crate::outside::BlockRead;
use crate::reader::exclude::Excludes;
use crate::reader::open::readers;
use crate::run::expected::Expected;
use crate::run::record::timestamp;
use crate::run::unpacked::Unpacked;
use crate::source::SnapshotGuard;
use crate::store::pending::PendingBackup;

/// The source and the destination of an archive.
pub(super) struct ToArchive<'a> {
    pub(super) pending: &'a PendingBackup,
    pub(super) guard: &'a SnapshotGuard,
    pub(super) excludes: &'a Excludes,
    /// The directory for journal replays if the source is read-only.
    pub(super) scratch: &'a Path,
}

/// A source that was archived.
pub(super) struct ArchivedSource {
    pub(super) layout: Layout,
    pub(super) regions: Vec<RegionRecord>,
    /// Facts of an image; `None` for an archive of files.
    pub(super) image: Option<ImageRecord>,
    pub(super) written: WrittenArchive,
}

/// Reads the layout and archives every region.
pub(super) fn archive(
    backup: &UnderWay<'_>,
    input: &ToArchive<'_>,
    previous: &mut PreviousBackup<'_, '_>,
    as_images: &[KeptAsImage],
) -> Result<ArchivedSource, BackupError> {
    let ToArchive { pending, guard, excludes, scratch } = *input;
    backup.step("reading the layout");
    let blocks: Arc<dyn BlockRead> = guard.open_blocks().map_err(BackupError::Open)?;
    let layout = backup.read_layout(&*blocks, guard)?;
    let expected = Expected(&backup.options.expect);

    let options = backup.write_options(guard);
    let outputs = Outputs {
        archive: pending.archive_writer(backup.options.archive.share_blocks).map_err(ArchiveError::Write)?,
        index: pending.index_writer().map_err(ArchiveError::Write)?,
        segments: pending.segments_writer().map_err(ArchiveError::Write)?,
    };
    let mut writer = ArchiveWriter::new(outputs, &options, &**backup.collector)?;
    if let Some(max_bytes) = backup.options.max_bytes {
        writer.limit_archive(max_bytes);
    }
    let unpacked = Unpacked::new(Arc::clone(&blocks), scratch, guard.path());
    let context = RegionContext {
        backing: if guard.is_packed() { &unpacked } else { guard },
        commands: &backup.world.commands,
        blocks: &blocks,
        layout: &layout,
        excludes,
        scratch,
        readers: &readers(backup.options.archive.by_kernel),
        with_snapshots: backup.options.archive.read_only_snapshots,
        cancel: &backup.world.cancel,
        observer: &**backup.collector,
        frozen_at: timestamp(guard.facts().created_at),
        expected,
    };
    let records = archive_regions(backup, &mut writer, previous, &layout.regions, &context, as_images)?;
    for problem in expected.missing(backup.source.display_name(), &layout.regions, &records) {
        backup.collector.on_event(&Event::Problem(problem));
    }
    if records.iter().all(|record| record.archive_path.is_none()) {
        backup.tell(Severity::Notice, "holds no data at all; the archive is empty");
    }
    // Without a filesystem it has not been joined yet.
    previous.join(&mut writer);
    Ok(ArchivedSource { layout, regions: records, image: None, written: writer.finish()? })
}
