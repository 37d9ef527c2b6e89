//! The steps of a backup: freeze, archive, check, publish.

use std::path::Path;
use std::sync::Arc;

use super::archive::{ToArchive, archive};
use super::earlier::EarlierBackups;
use super::ends::{begin, publish};
use super::error::BackupError;
use super::image;
use super::options::{BackupOptions, BackupWorld};
use super::outcome::BackupOutcome;
use super::own_directory::check_source_of;
use super::previous::PreviousBackup;
use super::regions::KeptAsImage;
use super::under_way::UnderWay;
use crate::archive::kind::BackupMode;
use crate::archive::members::require_memory;
use crate::encryption::EncryptionOptions;
use crate::error::with_causes;
use crate::events::{Event, Observer, Severity};
use crate::reader::exclude::Excludes;
use crate::run::collect::Collector;
use crate::source::Source;
use crate::store::catalog::list_volume;
use crate::store::shared::{ArchiveLayout, SEGMENTS_FOLDER};
use crate::store::{Destination, Folder};
use crate::units::ByteLen;

/// Like [`back_up_source`](super::back_up_source), without the time limit.
pub(super) fn work(
    source: &Source,
    destination: &Destination,
    options: &BackupOptions,
    world: &BackupWorld,
) -> Result<BackupOutcome, BackupError> {
    // All members of a set have the same date, also if one is read after midnight.
    let started_at = options.set.as_ref().map_or_else(|| world.clock.now(), |taken| taken.set.started_at);
    let excludes = Excludes::new(&options.archive.exclude)?;
    // Checked before the snapshot: a failed allocation later would abort the process.
    require_memory(options.kind(), options.threads(), options.archive.level).map_err(BackupError::Memory)?;
    let signer = options.archive.encryption.as_ref().map(EncryptionOptions::signer).transpose()?;
    if options.archive.layout == ArchiveLayout::Shared && !destination.is_local() {
        let with = match destination.store().lock_options() {
            Some(_) => Some("`lock` in [store]"),
            None if options.kind().is_sealed() => Some("encryption"),
            None if options.mode == BackupMode::Image => Some("`mode = \"image\"`"),
            None => None,
        };
        if let Some(with) = with {
            return Err(BackupError::SharedInObjectStore { destination: destination.root().to_owned(), with });
        }
    }
    let collector = Arc::new(Collector::new(Arc::clone(&world.observer)));
    collector.on_event(&Event::SourceStarted { source: source.name() });

    let before = destination.store().traffic();
    let volume = destination.volume_directory_for(source.backup_name(), options.archive.layout)?;
    let backups = list_volume(&*volume, source.backup_name())?;
    check_source_of(&volume, &backups, source, world, &*collector)?;
    let backups = EarlierBackups::of(&backups);
    let (backups, collector) = (&backups, &collector);
    let backup = UnderWay { source, destination, backups, options, world, collector, started_at, signer };
    if options.archive.layout == ArchiveLayout::Shared && !destination.is_local() {
        leave_doubtful_segments(&volume, &backup);
    }
    let outcome = match options.mode {
        BackupMode::Image => image::run(&backup, volume)?,
        BackupMode::Files => std::thread::scope(|scope| {
            let previous = PreviousBackup::seek(scope, &backup, true)?;
            run(&backup, volume, &excludes, previous, || PreviousBackup::seek(scope, &backup, false))
        })?,
    };
    if let Some((before, after)) = before.zip(destination.store().traffic()) {
        backup.step(&after.since(before).to_string());
    }
    collector.on_event(&Event::SourceFinished {
        source: source.name(),
        outcome: format!("{} ({})", outcome.archive.display(), ByteLen(outcome.manifest.sizes.archive_bytes)),
        worst: outcome.worst_problem.filter(|worst| *worst > Severity::Notice),
    });
    Ok(outcome)
}

/// In an object store what is carried forward is not read, so that nothing is carried from segments in which a verification
/// may have found damage, or which somebody overwrote.
fn leave_doubtful_segments(volume: &Folder, backup: &UnderWay<'_>) {
    let bad = backup.backups.iter().filter(|earlier| earlier.may_be_bad());
    bad.for_each(|bad| volume.leave_segments(bad.entry.files().segments().ok()));
    let recorded = backup.backups.iter().filter_map(|earlier| earlier.manifest.objects.as_ref());
    let recorded = recorded.filter_map(|objects| objects.segments_in(volume.path())).flatten();
    let recorded: Vec<_> = recorded.map(|(name, object)| (name.as_str(), object)).collect();
    let overwritten = volume.know_segments(&recorded);
    if let Some(first) = overwritten.first() {
        let first = volume.path().join(SEGMENTS_FOLDER).join(first);
        let others = match overwritten.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let what = format!(
            "{}{others} was overwritten in the store: what it has is read and sent again, and the backups that refer to it \
             are damaged (`volbak verify --quick --all` says which)",
            first.display()
        );
        backup.tell(Severity::Warning, what);
    }
}

fn run<'scope, 'env>(
    backup: &'env UnderWay<'env>,
    volume: Folder,
    excludes: &Excludes,
    mut previous: PreviousBackup<'scope, 'env>,
    seek_again: impl Fn() -> Result<PreviousBackup<'scope, 'env>, BackupError>,
) -> Result<BackupOutcome, BackupError> {
    let beside = if volume.is_local() { volume.path() } else { Path::new("/var/tmp") };
    let scratch = backup.options.archive.scratch.clone().unwrap_or_else(|| beside.to_owned());
    let (pending, guard) = begin(backup, volume)?;

    let input = ToArchive { pending: &pending, guard: &guard, excludes, scratch: &scratch };
    let told = backup.collector.collected();
    let mut as_images: Vec<KeptAsImage> = Vec::new();
    let mut is_full = false;
    let archived = loop {
        match archive(backup, &input, &mut previous, &as_images) {
            // The archive is written again, since the part archived so far must not pass for the whole region.
            Err(BackupError::NotAsFiles { region, severity, what })
                if !as_images.iter().any(|kept| kept.region == region) =>
            {
                backup.step(&format!("{region} is kept as a raw image: all is read again"));
                as_images.push(KeptAsImage { region, severity, what });
                pending.start_over()?;
                backup.collector.go_back_to(told.clone());
                previous = if is_full { PreviousBackup::nothing(backup) } else { seek_again()? };
            }
            Err(BackupError::Archive(error))
                if !is_full && !backup.destination.is_local() && error.is_source_changed() =>
            {
                is_full = true;
                pending.start_over()?;
                backup.collector.go_back_to(told.clone());
                let what = format!("everything is read again: {}", with_causes(&error));
                backup.tell(Severity::Notice, what);
                previous = PreviousBackup::nothing(backup);
            }
            archived => break archived,
        }
    };
    publish(backup, pending, guard, archived, previous.known())
}
