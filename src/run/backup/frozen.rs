//! Freezes the source with the hooks around it, and releases it.

use super::error::BackupError;
use super::freeze_limit::freeze_within;
use super::under_way::UnderWay;
use crate::events::Severity;
use crate::manifest::SnapshotRecord;
use crate::run::collect::tell;
use crate::run::record::snapshot_record;
use crate::source::{self, SnapshotGuard};

/// Freezes the source with the hooks around it.
pub(super) fn freeze(backup: &UnderWay<'_>, context: &source::Context) -> Result<SnapshotGuard, BackupError> {
    if let Some(taken) = &backup.options.set {
        return taken.take(backup.collector).map_err(BackupError::NotInSet);
    }
    let Some(around) = &backup.options.around else {
        return Ok(source::freeze(backup.source, &backup.options.freeze, context)?);
    };
    backup.step("running what comes before the snapshot");
    freeze_within(around, &**backup.collector, BackupError::Before, || {
        if backup.world.cancel.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        Ok(source::freeze(backup.source, &backup.options.freeze, context)?)
    })
}

/// Removes the snapshot, or keeps it if requested. A failed removal does not make the backup worse: the next run
/// tries again.
pub(super) fn release(backup: &UnderWay<'_>, guard: SnapshotGuard) -> Result<Option<SnapshotRecord>, BackupError> {
    let facts = guard.facts();
    let kept = backup.options.keep_snapshot;
    let released = if kept { guard.keep() } else { guard.finish() };
    let facts = match released {
        Ok(facts) => facts,
        Err(error) if kept => return Err(error.into()),
        Err(error) => {
            let location = facts.name.clone().unwrap_or_default();
            tell(&**backup.collector, Severity::Warning, location, format!("{error}; the next run tries again"));
            facts
        }
    };
    Ok(snapshot_record(facts, kept))
}
