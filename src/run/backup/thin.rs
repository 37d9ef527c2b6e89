//! What the thin pool of a volume says about it, and what follows for its backup: members that are proven to be unchanged are
//! not read. `docs/decisions/0058-unread-members.md` gives the reasons.

use super::under_way::UnderWay;
use crate::archive::image::mapping::{ChunkRun, MappingBuilder, VolumeMapping};
use crate::error::with_causes;
use crate::events::Severity;
use crate::manifest::PoolRecord;
use crate::run::parent::PreviousImage;
use crate::source::{PoolFacts, SnapshotGuard, ThinSnapshot};

/// The mapping of the volume, and the facts by which the next backup knows how far it may trust it.
pub(super) struct KnownMapping {
    pub(super) mapping: VolumeMapping,
    pub(super) facts: PoolFacts,
    snapshot: ThinSnapshot,
    /// What was written to the snapshot before its mapping was read.
    written: Option<(u64, u64)>,
}

impl KnownMapping {
    /// The record for the manifest, after the volume was read.
    pub(super) fn into_record(self, backup: &UnderWay<'_>) -> PoolRecord {
        let was_written = self.written.is_none() || self.snapshot.written() != self.written;
        if was_written {
            backup.step("the snapshot was written to: the next backup reads everything");
        }
        PoolRecord { facts: self.facts, was_written }
    }
}

/// Reads the mapping of a thin snapshot. `None` if there is none, or if it cannot be read: the log says why, and all is read.
pub(super) fn read_mapping(backup: &UnderWay<'_>, guard: &SnapshotGuard) -> Option<KnownMapping> {
    // Where nothing is carried forward, nothing is left unread.
    let snapshot = guard.thin_snapshot().filter(|_| backup.destination.is_local())?;
    backup.step("reading the mapping of the thin volume");
    let unknown = |why: String| backup.step(&format!("the mapping of the thin volume is not known: {why}"));
    let written = snapshot.written();
    let mut builder = None;
    let new_builder = |chunk_bytes| MappingBuilder::new(guard.size_bytes(), chunk_bytes);
    let read = snapshot.read_mapping(&backup.world.cancel, &mut |chunk_bytes, run| {
        let mut of_volume = builder.take().map_or_else(|| new_builder(chunk_bytes), Ok)?;
        let (first_chunk, chunks, data_block, time) = (run.first_chunk, run.chunks, run.data_block, run.time);
        of_volume.push(ChunkRun { first_chunk, chunks, data_block, time })?;
        builder = Some(of_volume);
        Ok(())
    });
    let read = read.map_err(|error| unknown(with_causes(&error))).ok()?;
    if read.has_released_left {
        let what = "released the metadata snapshot of its thin pool, which an interrupted run had left";
        backup.tell(Severity::Notice, what);
    }
    if let Some(error) = &read.not_released {
        let what = format!(
            "the metadata snapshot of its thin pool could not be released; the next run tries again: {}",
            with_causes(error)
        );
        backup.tell(Severity::Warning, what);
    }
    let builder = builder.map_or_else(|| new_builder(read.facts.chunk_bytes), Ok);
    let mapping = builder.and_then(MappingBuilder::finish).map_err(|error| unknown(error.to_string())).ok()?;
    Some(KnownMapping { mapping, facts: read.facts, snapshot, written })
}

/// The time before which an equal mapping proves equal content; `None` if nothing does, with the reason in the log.
pub(super) fn unchanged_before(
    backup: &UnderWay<'_>,
    previous: Option<&PreviousImage>,
    now: &PoolFacts,
) -> Option<u64> {
    let proven = match &previous?.pool {
        None => Err("the previous backup does not have the mapping"),
        Some(before) => proven(before, now),
    };
    proven.map_err(|why| backup.step(&format!("everything is read: {why}"))).ok()
}

/// Whether `now` is later in the same history of the same pool and volume. The kernel must have had the pool open all the
/// time: then nothing else can have written its metadata.
fn proven(before: &PoolRecord, now: &PoolFacts) -> Result<u64, &'static str> {
    if before.was_written {
        return Err("the snapshot of the previous backup was written to while it was read");
    }
    let before = &before.facts;
    if before.pool_uuid != now.pool_uuid {
        return Err("the volume is in another thin pool than at the previous backup");
    }
    if before.volume_uuid != now.volume_uuid || before.thin_id != now.thin_id {
        return Err("the volume was merged or made anew since the previous backup");
    }
    if before.boot_id != now.boot_id || before.disk_sequence != now.disk_sequence {
        return Err("the thin pool was deactivated since the previous backup, or the host restarted");
    }
    if before.chunk_bytes != now.chunk_bytes {
        return Err("the thin pool has other chunks than at the previous backup");
    }
    // Taking tonight's snapshot alone has raised both.
    if now.created <= before.counter || now.counter < now.created || now.transaction <= before.transaction {
        return Err("the thin pool's metadata is older than at the previous backup");
    }
    Ok(before.created)
}

#[cfg(test)]
mod tests {
    use super::proven;
    use crate::manifest::PoolRecord;
    use crate::source::PoolFacts;

    #[test]
    fn only_a_later_state_of_the_same_pool_proves_anything() {
        let before = PoolFacts {
            pool_uuid: "p".to_owned(),
            volume_uuid: "v".to_owned(),
            thin_id: 1,
            boot_id: "b".to_owned(),
            disk_sequence: 18,
            transaction: 20,
            counter: 11,
            created: 10,
            chunk_bytes: 64 << 10,
        };
        let now = PoolFacts { transaction: 21, counter: 12, created: 12, ..before.clone() };
        let record = |was_written| PoolRecord { facts: before.clone(), was_written };
        assert_eq!(proven(&record(false), &now), Ok(10));
        let other = || "x".to_owned();
        for unproven in [
            before.clone(),
            PoolFacts { pool_uuid: other(), ..now.clone() },
            PoolFacts { volume_uuid: other(), ..now.clone() },
            PoolFacts { thin_id: 2, ..now.clone() },
            PoolFacts { boot_id: other(), ..now.clone() },
            PoolFacts { disk_sequence: 19, ..now.clone() },
            PoolFacts { chunk_bytes: 128 << 10, ..now.clone() },
            PoolFacts { created: 11, ..now.clone() },
            PoolFacts { counter: 11, ..now.clone() },
            PoolFacts { transaction: 20, ..now.clone() },
        ] {
            assert!(proven(&record(false), &unproven).is_err(), "{unproven:?}");
        }
        assert!(proven(&record(true), &now).is_err());
    }
}
