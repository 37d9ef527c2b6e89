//! The steps of a backup: freeze, archive, check, publish.

use std::sync::Arc;

use chrono::Local;

use super::archive::{ToArchive, archive};
use super::error::BackupError;
use super::frozen::{freeze, release};
use super::options::{BackupOptions, BackupWorld};
use super::outcome::BackupOutcome;
use super::own_directory::check_source_of;
use super::previous::PreviousBackup;
use super::record::{FromBefore, checksum_text, manifest};
use super::regions::KeptAsImage;
use super::sudden;
use super::under_way::Backup;
use crate::archive::members::require_memory;
use crate::events::{Event, Observer, Severity};
use crate::manifest::Manifest;
use crate::reader::exclude::Excludes;
use crate::run::collect::Collector;
use crate::source::{self, Source, SourceError, SourceKind};
use crate::store::catalog::list_volume;
use crate::store::pending::{PendingBackup, ToPublish};
use crate::store::{Destination, Folder};
use crate::units::ByteLen;

/// Like [`back_up_source`](super::back_up_source), without the time limit.
pub(super) fn work(
    source: &Source,
    destination: &Destination,
    options: &BackupOptions,
    world: &BackupWorld,
) -> Result<BackupOutcome, BackupError> {
    let started_at = world.clock.now();
    let excludes = Excludes::new(&options.archive.exclude)?;
    // Checked before the snapshot: a failed allocation later would abort the process.
    require_memory(options.threads(), options.archive.level).map_err(BackupError::Memory)?;
    let collector = Arc::new(Collector::new(Arc::clone(&world.observer)));
    collector.on_event(&Event::SourceStarted { source: source.name() });

    let volume = destination.volume_directory(source.backup_name())?;
    let backups = list_volume(&*volume, source.backup_name())?;
    check_source_of(&volume, &backups, source, world, &*collector)?;
    let backup = Backup { source, destination, backups: &backups, options, world, collector: &collector, started_at };
    let outcome = std::thread::scope(|scope| {
        let previous = PreviousBackup::seek(scope, &backup, true)?;
        run(&backup, volume, &excludes, previous, || PreviousBackup::seek(scope, &backup, false))
    })?;
    collector.on_event(&Event::SourceFinished {
        source: source.name(),
        outcome: format!("{} ({})", outcome.archive.display(), ByteLen(outcome.manifest.sizes.archive_bytes)),
        worst: outcome.worst_problem.filter(|worst| *worst > Severity::Notice),
    });
    Ok(outcome)
}

fn run<'scope, 'env>(
    backup: &Backup<'_>,
    volume: Folder,
    excludes: &Excludes,
    mut previous: PreviousBackup<'scope, 'env>,
    seek_again: impl Fn() -> Result<PreviousBackup<'scope, 'env>, BackupError>,
) -> Result<BackupOutcome, BackupError> {
    let name = backup.source.backup_name();
    let scratch = backup.options.archive.scratch.clone().unwrap_or_else(|| volume.path().to_owned());
    let pending = PendingBackup::begin(volume, name, backup.started_at.with_timezone(&Local).naive_local())?;

    if matches!(backup.source.kind(), SourceKind::Volume(_)) {
        backup.step("taking a snapshot");
    }
    let context = source::Context {
        commands: Arc::clone(&backup.world.commands),
        observer: Arc::clone(backup.collector) as Arc<dyn Observer>,
        clock: Arc::clone(&backup.world.clock),
    };
    let guard = freeze(backup, &context)?;
    let frozen_at = guard.facts().created_at;

    let input = ToArchive { pending: &pending, guard: &guard, excludes, scratch: &scratch };
    let told = backup.collector.collected();
    let mut as_images: Vec<KeptAsImage> = Vec::new();
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
                previous = seek_again()?;
            }
            archived => break archived,
        }
    };
    // If the snapshot overflowed, that is the error to report rather than the read error that follows from it.
    if archived.is_err()
        && let Err(unhealthy @ SourceError::Unhealthy { .. }) = guard.check_health()
    {
        return Err(unhealthy.into());
    }
    let archived = archived?;
    backup.step("checking that the source stood still");
    guard.check_health()?;
    let snapshot = release(backup, guard)?;

    // A backup that was abandoned was reported as failed and must not be published.
    if backup.world.cancel.is_cancelled() {
        return Err(BackupError::Cancelled);
    }
    let changes = sudden::note_change(backup, &pending, &archived);
    let replaced_until = sudden::replaced_until(backup, &archived);
    backup.step("publishing");
    let before = FromBefore { previous: previous.known(), changes };
    let manifest = manifest(backup, pending.stem(), frozen_at, snapshot, archived, before);
    let checksum = checksum_text(pending.stem(), &manifest.digests.archive_sha1);
    let manifest_bytes = manifest.to_bytes()?;
    let archive = pending.publish(&ToPublish {
        checksum: backup.options.checksum.then_some(checksum.as_bytes()),
        manifest: &manifest_bytes,
        archive_bytes: manifest.sizes.archive_bytes,
        index_bytes: manifest.sizes.index_bytes,
    })?;
    Ok(BackupOutcome {
        source: backup.source.display_name().to_owned(),
        archive,
        manifest: Manifest::from_bytes(&manifest_bytes)?,
        worst_problem: backup.collector.collected().worst,
        replaced_until,
    })
}
