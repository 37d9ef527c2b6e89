//! What begins and ends a backup of either kind: the source is frozen, and the backup is published.

use std::sync::Arc;

use chrono::Local;

use super::archive::ArchivedSource;
use super::error::BackupError;
use super::frozen::{freeze, release};
use super::outcome::BackupOutcome;
use super::previous::KnownPrevious;
use super::record::{FromBefore, checksum_text, manifest};
use super::sudden::{self, Noted};
use super::under_way::UnderWay;
use crate::encryption::Signer;
use crate::events::Observer;
use crate::manifest::Manifest;
use crate::source::{self, SnapshotGuard, SourceError, SourceKind};
use crate::store::Folder;
use crate::store::index_cache::IndexCache;
use crate::store::pending::{PendingBackup, SealedToPublish, ToPublish};

/// Stages a backup, and freezes the source.
pub(super) fn begin(backup: &UnderWay<'_>, volume: Folder) -> Result<(PendingBackup, SnapshotGuard), BackupError> {
    let name = backup.source.backup_name();
    let pending = PendingBackup::begin(
        volume,
        name,
        backup.started_at.with_timezone(&Local).naive_local(),
        backup.options.kind(),
        backup.encryption().map(|encryption| IndexCache::new(&encryption.index_cache)).as_ref(),
    )?;
    if matches!(backup.source.kind(), SourceKind::Volume(_)) {
        backup.step("taking a snapshot");
    }
    let context = source::Context {
        commands: Arc::clone(&backup.world.commands),
        observer: Arc::clone(backup.collector) as Arc<dyn Observer>,
        clock: Arc::clone(&backup.world.clock),
    };
    let guard = freeze(backup, &context)?;
    Ok((pending, guard))
}

/// Checks that the source stood still, releases it, and publishes what was archived. If it cannot be published, the snapshot
/// of a member of a set is kept, for a second attempt.
pub(super) fn publish(
    backup: &UnderWay<'_>,
    pending: PendingBackup,
    guard: SnapshotGuard,
    archived: Result<ArchivedSource, BackupError>,
    previous: Option<&KnownPrevious>,
) -> Result<BackupOutcome, BackupError> {
    let frozen_at = guard.facts().created_at;
    let archived = match stood_still(backup, &guard, archived) {
        Ok(archived) => archived,
        Err(error) => {
            if let Some(taken) = &backup.options.set {
                taken.put_back(guard);
            }
            return Err(error);
        }
    };
    let snapshot = release(backup, guard)?;

    // A backup that was abandoned was reported as failed and must not be published.
    if backup.world.cancel.is_cancelled() {
        return Err(BackupError::Cancelled);
    }
    let Noted { changes, unpinned } = sudden::note_change(backup, &pending, &archived);
    let replaced_until = sudden::replaced_until(backup, &archived);
    backup.step("publishing");
    let before = FromBefore { previous, changes };
    let manifest = Manifest {
        locked: pending.lock(),
        unpinned,
        ..manifest(backup, pending.stem(), frozen_at, snapshot, archived, before)
    };
    let checksum = checksum_text(pending.stem(), manifest.kind(), &manifest.digests.archive_sha1);
    let manifest_bytes = manifest.to_bytes()?;
    let sealed = sealed(backup, &pending, &manifest)?;
    let public = sealed.as_ref().map_or((&manifest_bytes, &manifest), |sealed| (&sealed.bytes, &sealed.manifest));
    let published = pending.publish(&ToPublish {
        checksum: checksum.as_ref().filter(|_| backup.options.checksum).map(String::as_bytes),
        manifest: public.0,
        archive_bytes: public.1.sizes.archive_bytes,
        index_bytes: public.1.sizes.index_bytes,
        sealed: sealed.as_ref().map(|sealed| SealedToPublish {
            signature: sealed.signature.as_bytes(),
            signer: sealed.signer,
            segments_bytes: sealed.manifest.encryption.as_ref().map_or(0, |record| record.segments_bytes),
            kept: &manifest_bytes,
        }),
    })?;
    Ok(BackupOutcome {
        source: backup.source.display_name().to_owned(),
        archive: published.archive,
        manifest: Manifest::from_bytes(
            published.manifest.filter(|_| sealed.is_none()).as_ref().unwrap_or(&manifest_bytes),
        )?,
        worst_problem: backup.collector.collected().worst,
        replaced_until,
    })
}

fn stood_still(
    backup: &UnderWay<'_>,
    guard: &SnapshotGuard,
    archived: Result<ArchivedSource, BackupError>,
) -> Result<ArchivedSource, BackupError> {
    // If the snapshot overflowed, that is the error to report rather than the read error that follows from it.
    if archived.is_err()
        && let Err(unhealthy @ SourceError::Unhealthy { .. }) = guard.check_health()
    {
        return Err(unhealthy.into());
    }
    let archived = archived?;
    backup.step("checking that the source stood still");
    guard.check_health()?;
    Ok(archived)
}

/// The manifest of an encrypted backup as it is published: it names no files, and has no layout.
struct Sealed<'a> {
    manifest: Manifest,
    bytes: Vec<u8>,
    signature: String,
    signer: &'a Signer,
}

fn sealed<'a>(
    backup: &'a UnderWay<'_>,
    pending: &PendingBackup,
    manifest: &Manifest,
) -> Result<Option<Sealed<'a>>, BackupError> {
    let (Some(encryption), Some(signer)) = (backup.encryption(), &backup.signer) else { return Ok(None) };
    let index = pending.seal_index(&encryption.recipients)?;
    let manifest = manifest.clone().sealed(&encryption.recipients, index)?;
    let bytes = manifest.to_bytes()?;
    let signature = signer.sign(&bytes).map_err(BackupError::Sign)?;
    Ok(Some(Sealed { manifest, bytes, signature, signer }))
}
