//! The health of a frozen source.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::outside::RunCommand;
use crate::source::device::WriteWatch;
use crate::source::error::SourceError;
use crate::source::image::Fingerprint;
use crate::source::lvm::{LvFacts, Which, lvs};

/// Whether the frozen source has become invalid: readable from any thread, as cheaply as an integer. Once set it
/// stays set. A clear flag is no proof; see [`SnapshotGuard::check_health`](super::SnapshotGuard::check_health).
#[derive(Clone, Debug, Default)]
pub struct HealthFlag(Arc<State>);

#[derive(Debug, Default)]
struct State {
    failed: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl HealthFlag {
    /// Whether the snapshot overflowed, or the image or device was written to.
    pub fn is_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }

    /// The reason, one line; `None` while the source is healthy.
    pub fn reason(&self) -> Option<String> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the flag. The first reason is kept.
    pub(crate) fn fail(&self, reason: impl Into<String>) {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.into());
        self.0.failed.store(true, Ordering::Release);
    }
}

/// The object that the monitor queries.
#[derive(Debug)]
pub(crate) enum Subject {
    /// A snapshot, the pool of a thin one, and the maximum useful size of a thick one.
    Snapshot { vg: String, lv: String, uuid: String, pool: Option<String>, largest_bytes: u64 },
    /// A block device, watched since it was opened.
    Device(WriteWatch),
    /// An image file, and its fingerprint when it was opened.
    Image { path: PathBuf, fingerprint: Fingerprint },
}

/// The result of a query of a [`Subject`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// A thick snapshot's fill, and the size of its exception store.
    pub(crate) fill: Option<Fill>,
    /// A thin snapshot's pool: the fuller of its data and metadata spaces, in percent.
    pub(crate) pool_percent: Option<f64>,
    /// Why the source is invalid.
    pub(crate) failure: Option<String>,
}

/// The fill of a thick snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fill {
    pub(crate) percent: f64,
    pub(crate) size_bytes: u64,
}

impl Subject {
    /// Queries it. Fails if LVM cannot be queried.
    pub(crate) fn look(&self, commands: &dyn RunCommand) -> Result<Reading, SourceError> {
        match self {
            Self::Snapshot { vg, uuid, pool, .. } => {
                let volumes = lvs(commands, Which::Volume { vg, uuid, pool: pool.as_deref() })?;
                let snapshot = volumes.iter().find(|volume| volume.uuid == *uuid);
                let pool = volumes.iter().find(|volume| Some(&volume.lv) == pool.as_ref());
                Ok(judge_snapshot(snapshot, pool))
            }
            Self::Device(watch) => Ok(Reading { failure: watch.failure(), ..Reading::default() }),
            Self::Image { path, fingerprint } => {
                let failure = match Fingerprint::of_path(path) {
                    Ok(now) => fingerprint.difference(&now).map(str::to_owned),
                    Err(error) => Some(format!("it can no longer be found: {error}")),
                };
                Ok(Reading { failure, ..Reading::default() })
            }
        }
    }
}

/// Judges a snapshot by the facts from lvs about it and its pool.
fn judge_snapshot(snapshot: Option<&LvFacts>, pool: Option<&LvFacts>) -> Reading {
    let failed = |reason: String| Reading { failure: Some(reason), ..Reading::default() };
    let Some(snapshot) = snapshot else { return failed("the snapshot is gone: it was removed".to_owned()) };
    let fill = if snapshot.is_thin() {
        None
    } else {
        snapshot.data_percent.map(|percent| Fill { percent, size_bytes: snapshot.size_bytes })
    };
    if snapshot.snapshot_invalid {
        let size = crate::units::ByteLen(snapshot.size_bytes);
        let fill = Some(Fill { percent: 100.0, size_bytes: snapshot.size_bytes });
        return Reading { fill, ..failed(format!("snapshot overflowed: 100% of {size} used")) };
    }
    if !snapshot.is_active {
        return Reading { fill, ..failed("the snapshot is no longer active".to_owned()) };
    }
    let pool_percent = pool.and_then(|pool| {
        let (data, metadata) = (pool.data_percent?, pool.metadata_percent?);
        Some(data.max(metadata))
    });
    let sick = std::iter::once(snapshot).chain(pool).find(|volume| !volume.health.is_empty());
    let failure = match sick {
        Some(volume) => Some(format!("{} is damaged: {}", volume.full_name(), volume.health.replace('_', " "))),
        None => match pool {
            Some(pool) if pool_percent.is_some_and(|percent| percent >= 100.0) => {
                Some(format!("the thin pool {} is full", pool.full_name()))
            }
            _ => None,
        },
    };
    Reading { fill, pool_percent, failure }
}

#[cfg(test)]
mod tests {
    use super::{HealthFlag, judge_snapshot};
    use crate::source::lvm::lv_row;

    #[test]
    fn the_first_reason_stays() {
        let flag = HealthFlag::default();
        let seen = flag.clone();
        assert!(!seen.is_failed() && seen.reason().is_none());
        flag.fail("one");
        flag.fail("two");
        assert!(seen.is_failed());
        assert_eq!(seen.reason().as_deref(), Some("one"));
    }

    #[test]
    fn an_overflowed_snapshot_says_how_large_it_was() {
        let mut snapshot = lv_row("a-s", "swi-a-s---", "public,snapshot,thicksnapshot", "linear", "a");
        snapshot.data_percent = Some(41.5);
        let reading = judge_snapshot(Some(&snapshot), None);
        assert!((reading.fill.unwrap().percent - 41.5).abs() < 1e-9);
        assert_eq!(reading.failure, None);
        snapshot.snapshot_invalid = true;
        let reading = judge_snapshot(Some(&snapshot), None);
        assert_eq!(reading.failure.as_deref(), Some("snapshot overflowed: 100% of 100 MiB used"));
        assert!((reading.fill.unwrap().percent - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_snapshot_that_somebody_took_away_is_a_failure() {
        assert!(judge_snapshot(None, None).failure.unwrap().contains("gone"));
        let inactive = lv_row("t-s", "Vwi---tz--", "public,snapshot,thinsnapshot", "thin,sparse", "t");
        assert!(judge_snapshot(Some(&inactive), None).failure.unwrap().contains("no longer active"));
    }

    #[test]
    fn a_full_pool_is_a_failure_of_its_snapshots() {
        let snapshot = lv_row("t-s", "Vwi-a-tz--", "public,snapshot,thinsnapshot", "thin,sparse", "t");
        let mut pool = lv_row("pool", "twi-aotz--", "private", "thin,pool", "");
        (pool.data_percent, pool.metadata_percent) = (Some(50.0), Some(81.0));
        let reading = judge_snapshot(Some(&snapshot), Some(&pool));
        assert_eq!((reading.pool_percent, reading.failure), (Some(81.0), None));
        pool.data_percent = Some(100.0);
        assert!(judge_snapshot(Some(&snapshot), Some(&pool)).failure.unwrap().contains("vg0/pool is full"));
        pool.health = "metadata_read_only".to_owned();
        let reading = judge_snapshot(Some(&snapshot), Some(&pool));
        assert_eq!(reading.failure.as_deref(), Some("vg0/pool is damaged: metadata read only"));
    }
}
