//! Ends a freeze at its limit: an instance must not stand still because a snapshot hangs, for example at a lock of its volume
//! group.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::options::{AroundError, AroundFreeze};
use crate::events::{Observer, Severity};
use crate::run::collect::tell;
use crate::source::SnapshotGuard;

/// What is around a freeze, until it ends. Dropping it ends the freeze as a failed one.
pub(in crate::run) struct LimitedFreeze {
    thaw: Arc<Thaw>,
    watchdog: Option<(Sender<()>, JoinHandle<bool>)>,
}

/// How a freeze ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::run) struct FreezeEnd {
    /// Why what comes after the snapshot failed.
    pub(in crate::run) failures: Vec<String>,
    /// Whether it ended at its limit, before the snapshot was there.
    pub(in crate::run) is_late: bool,
}

impl LimitedFreeze {
    /// A freeze that does not end by itself yet.
    pub(in crate::run) fn of(arounds: Vec<Arc<dyn AroundFreeze>>) -> Self {
        Self { thaw: Arc::new(Thaw { arounds, done: Mutex::new(None) }), watchdog: None }
    }

    /// Ends it after that time. Fails if no thread can be started: nothing would end it.
    pub(in crate::run) fn limit_to(&mut self, limit: Duration) -> io::Result<()> {
        let (ended, over) = channel();
        let late = Arc::clone(&self.thaw);
        let watch = move || {
            let is_late = matches!(over.recv_timeout(limit), Err(RecvTimeoutError::Timeout));
            if is_late {
                drop(late.run(None, false));
            }
            is_late
        };
        self.watchdog = Some((ended, std::thread::Builder::new().name("thaw".to_owned()).spawn(watch)?));
        Ok(())
    }

    /// Runs what comes after the snapshot, unless the limit did.
    pub(in crate::run) fn end(mut self, snapshot: Option<&str>, is_frozen: bool) -> FreezeEnd {
        let is_late = self.watchdog.take().is_some_and(|(ended, thread)| {
            drop(ended);
            thread.join().unwrap_or(true)
        });
        FreezeEnd { failures: self.thaw.run(snapshot, is_frozen), is_late }
    }
}

/// Takes the snapshot of one source between what comes before and after it. Failures of what comes after it, and a freeze that
/// ended at its limit, are warnings.
pub(in crate::run) fn freeze_within<E>(
    around: &Arc<dyn AroundFreeze>,
    observer: &dyn Observer,
    failed_before: impl Fn(AroundError) -> E,
    take: impl FnOnce() -> Result<SnapshotGuard, E>,
) -> Result<SnapshotGuard, E> {
    let limit = around.freeze_limit();
    let mut freeze = LimitedFreeze::of(vec![Arc::clone(around)]);
    let frozen = around
        .before()
        .and_then(|()| freeze.limit_to(limit).map_err(|error| format!("no thread could be started: {error}").into()))
        .map_err(failed_before)
        .and_then(|()| take());
    let snapshot = frozen.as_ref().ok().and_then(|guard| guard.facts().name);
    let FreezeEnd { failures, is_late } = freeze.end(snapshot.as_deref(), frozen.is_ok());
    let late = is_late.then(|| {
        let limit = limit.as_secs();
        format!("the snapshot took more than {limit} s (freeze_limit_seconds): this ran before it was there, and it is not quiesced")
    });
    for what in failures.into_iter().chain(late) {
        tell(observer, Severity::Warning, "after the snapshot".to_owned(), what);
    }
    frozen
}

/// Runs what comes after the snapshots exactly once: when it is asked to, when the time is over, or when it is dropped.
struct Thaw {
    arounds: Vec<Arc<dyn AroundFreeze>>,
    done: Mutex<Option<Vec<String>>>,
}

impl Thaw {
    /// Runs it unless it ran; a second caller waits for the first. Returns the failures.
    fn run(&self, snapshot: Option<&str>, is_frozen: bool) -> Vec<String> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.get_or_insert_with(|| {
            let after = |around: &Arc<dyn AroundFreeze>| around.after(snapshot, is_frozen).err();
            self.arounds.iter().filter_map(after).map(|error| error.to_string()).collect()
        })
        .clone()
    }
}

impl Drop for Thaw {
    fn drop(&mut self) {
        let _ = self.run(None, false);
    }
}
