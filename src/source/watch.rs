//! Monitors a frozen source in a thread of its own: the fill of a snapshot, its overflow, writes to an image. The
//! decisions are in [`FillState::decide`], which knows neither threads nor LVM.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::events::{Event, Problem, Severity};
use crate::source::context::Context;
use crate::source::error::SourceError;
use crate::source::health::{Fill, HealthFlag, Subject};
use crate::source::lvm::{run_tool, vg, words};
use crate::source::snapshot_facts::SnapshotFacts;
use crate::units::ByteLen;

/// The fill of a snapshot or pool that causes a warning.
const WARN_PERCENT: f64 = 80.0;
/// The fill at which a snapshot is extended, and the part of its size by which it grows.
const EXTEND_PERCENT: f64 = 70.0;
const EXTEND_BY_PERCENT: f64 = 20.0;
/// At this fill it is extended earlier if it would be nearly full within this many seconds at the present rate: on
/// a busy host lvextend alone can take some of them.
const SOON_FULL_PERCENT: f64 = 15.0;
const SOON_FULL_SECONDS: f64 = 10.0;
/// The query interval: usually, and when it may be full soon.
const USUAL_PAUSE: Duration = Duration::from_millis(1500);
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// An extension should last this many seconds at the present rate.
const EXTEND_FOR_SECONDS: f64 = 20.0;
/// The maximum number of failed extensions.
const EXTEND_TRIES: u32 = 3;
/// LVM takes sizes in whole sectors and rounds them up to extents.
const SECTOR_BYTES: u64 = 512;
/// How long to wait for the thread to end: a hanging lvs must not hang the run.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// The monitor's thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Option<SyncSender<()>>,
    ended: Receiver<()>,
}

impl Watcher {
    /// Starts the thread. Reports a failure to start it.
    pub(crate) fn start(watch: Watch) -> Self {
        let (stop, stopped) = sync_channel::<()>(0);
        let (end, ended) = sync_channel::<()>(1);
        let (name, observer) = (watch.name.clone(), Arc::clone(&watch.context.observer));
        let started = thread::Builder::new().name("snapshot-watch".to_owned()).spawn(move || {
            watch.run(&stopped);
            drop(end);
        });
        if let Err(error) = started {
            let what = format!("it is not watched while it is read (no thread: {error}); it is checked at the end");
            observer.on_event(&Event::Problem(Problem::new(Severity::Warning, name, what)));
        }
        Self { stop: Some(stop), ended }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Usually the channel is disconnected; after a timeout the thread is abandoned.
        let _ = self.ended.recv_timeout(END_PATIENCE);
    }
}

/// The monitored source, and the receivers of findings.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) name: String,
    pub(crate) subject: Arc<Subject>,
    pub(crate) facts: Arc<Mutex<SnapshotFacts>>,
    pub(crate) health: HealthFlag,
    /// Whether a thick snapshot is extended before it is full.
    pub(crate) extend: bool,
    pub(crate) context: Context,
}

impl Watch {
    fn run(&self, stopped: &Receiver<()>) {
        let started = Instant::now();
        let mut state = FillState { may_extend: self.extend, ..FillState::default() };
        let mut warned_of_pool = false;
        let mut failed_looks = 0_u32;
        let mut pause = SHORTEST_PAUSE;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
            pause = USUAL_PAUSE;
            let reading = match self.subject.look(&*self.context.commands) {
                Ok(reading) => reading,
                Err(error) => {
                    failed_looks += 1;
                    if failed_looks == 3 {
                        self.tell(Severity::Warning, format!("it cannot be watched at the moment: {error}"));
                    }
                    continue;
                }
            };
            failed_looks = 0;
            self.facts.lock().unwrap_or_else(PoisonError::into_inner).note(&reading);
            if let Some(fill) = reading.fill {
                let decision = state.decide(fill, started.elapsed());
                pause = decision.pause;
                if decision.report {
                    let event = Event::SnapshotFill { snapshot: self.name.clone(), percent: fill.percent };
                    self.context.observer.on_event(&event);
                }
                if reading.failure.is_none() {
                    self.carry_out(&mut state, &decision, fill);
                }
            }
            if let Some(percent) = reading.pool_percent.filter(|percent| *percent >= WARN_PERCENT && !warned_of_pool) {
                warned_of_pool = true;
                self.tell(Severity::Warning, format!("its thin pool is {percent:.1}% full; extend the pool"));
            }
            if let Some(failure) = reading.failure {
                self.health.fail(failure);
                // An invalid snapshot never becomes valid again.
                return;
            }
        }
    }

    fn carry_out(&self, state: &mut FillState, decision: &FillAction, fill: Fill) {
        if let Some(bytes) = decision.extend_by_bytes {
            match self.extend_by(bytes, fill.size_bytes) {
                Ok(Some(extended_bytes)) => {
                    let (by, from) = (ByteLen(extended_bytes), ByteLen(fill.size_bytes));
                    self.tell(
                        Severity::Notice,
                        format!("it was {:.1}% full, and was extended by {by} from {from}", fill.percent),
                    );
                    state.extended();
                    return;
                }
                Ok(None) => state.may_extend = false,
                Err(error) => {
                    state.extend_failures += 1;
                    if state.extend_failures >= EXTEND_TRIES {
                        state.may_extend = false;
                        self.tell(Severity::Warning, format!("it could not be extended: {error}"));
                    }
                }
            }
        }
        if decision.warn && !state.warned {
            state.warned = true;
            let what = format!(
                "the snapshot is {:.1}% full (of {}); it becomes worthless when it overflows: extend it with \
                 `lvextend -L +SIZE {}`, or use a larger snapshot size",
                fill.percent,
                ByteLen(fill.size_bytes),
                self.name
            );
            self.tell(Severity::Warning, what);
        }
    }

    /// Extends the snapshot by about `bytes`, limited by the group's free space. `None` if there is none, or if it
    /// already has its maximum useful size.
    fn extend_by(&self, bytes: u64, size_bytes: u64) -> Result<Option<u64>, SourceError> {
        let Subject::Snapshot { vg: group, lv, largest_bytes, .. } = &*self.subject else { return Ok(None) };
        let commands = &*self.context.commands;
        let wanted = bytes.min(largest_bytes.saturating_sub(size_bytes)).next_multiple_of(SECTOR_BYTES);
        if wanted == 0 {
            return Ok(None);
        }
        let extend = |bytes: u64| {
            let by = format!("+{bytes}b");
            run_tool(commands, "lvextend", &words(&["-L", &by, &format!("{group}/{lv}")])).map(|_| Some(bytes))
        };
        // A snapshot may fill up within seconds, so the group's free space is queried only after lvextend
        // failed.
        extend(wanted).or_else(|error| {
            let group = vg(commands, group)?;
            let free_bytes = group.free_extents.saturating_mul(group.extent_size_bytes);
            match wanted.min(free_bytes) {
                0 => Ok(None),
                less if less < wanted => extend(less),
                _ => Err(error),
            }
        })
    }

    fn tell(&self, severity: Severity, what: String) {
        self.context.observer.on_event(&Event::Problem(Problem::new(severity, self.name.clone(), what)));
    }
}

/// The history of a thick snapshot's fill.
#[derive(Debug, Default)]
struct FillState {
    last: Option<(Fill, Duration)>,
    bytes_per_second: f64,
    warned: bool,
    may_extend: bool,
    extend_failures: u32,
}

/// The action after a query of a thick snapshot.
#[derive(Debug, PartialEq)]
struct FillAction {
    report: bool,
    warn: bool,
    extend_by_bytes: Option<u64>,
    pause: Duration,
}

impl FillState {
    /// Decides the action after a query at time `at`, counted from a fixed moment.
    fn decide(&mut self, fill: Fill, at: Duration) -> FillAction {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let size = fill.size_bytes as f64;
        let used_bytes = |fill: Fill, size: f64| fill.percent / 100.0 * size;
        // A new snapshot is empty, so the first reading already gives a rate.
        let (last, last_at) = self.last.unwrap_or((Fill { percent: 0.0, size_bytes: fill.size_bytes }, Duration::ZERO));
        let report = self.last.is_none()
            || (last.percent - fill.percent).abs() > f64::EPSILON
            || last.size_bytes != fill.size_bytes;
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let grown = used_bytes(fill, size) - used_bytes(last, last.size_bytes as f64);
        let seconds = at.saturating_sub(last_at).as_secs_f64();
        if seconds > 0.0 {
            self.bytes_per_second = (grown / seconds).max(0.0);
        }
        self.last = Some((fill, at));
        let left_bytes = size - used_bytes(fill, size);
        let is_soon_full = fill.percent >= SOON_FULL_PERCENT && left_bytes < self.bytes_per_second * SOON_FULL_SECONDS;
        let wants_more = self.may_extend && (fill.percent >= EXTEND_PERCENT || is_soon_full);
        let by = (size * EXTEND_BY_PERCENT / 100.0).max(self.bytes_per_second * EXTEND_FOR_SECONDS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let by_bytes = by as u64;
        FillAction {
            report,
            warn: fill.percent >= WARN_PERCENT,
            extend_by_bytes: wants_more.then_some(by_bytes.max(1)),
            pause: pause_before(left_bytes, self.bytes_per_second),
        }
    }

    /// Resets the warning after an extension.
    fn extended(&mut self) {
        self.extend_failures = 0;
        self.warned = false;
    }
}

/// A tenth of the time until it is full, within bounds.
fn pause_before(left_bytes: f64, bytes_per_second: f64) -> Duration {
    if bytes_per_second <= 0.0 {
        return USUAL_PAUSE;
    }
    let seconds = (left_bytes / bytes_per_second / 10.0).clamp(SHORTEST_PAUSE.as_secs_f64(), USUAL_PAUSE.as_secs_f64());
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::{FillState, SHORTEST_PAUSE, USUAL_PAUSE};
    use crate::source::health::Fill;
    use std::time::Duration;

    const MIB: u64 = 1 << 20;

    fn at(percent: f64, size_mib: u64) -> Fill {
        Fill { percent, size_bytes: size_mib * MIB }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_snapshot_that_fills_slowly_is_left_alone() {
        let mut state = FillState { may_extend: true, ..FillState::default() };
        let first = state.decide(at(10.0, 1000), seconds(0));
        assert!(first.report && !first.warn && first.extend_by_bytes.is_none());
        assert_eq!(first.pause, USUAL_PAUSE);
        let second = state.decide(at(10.0, 1000), seconds(2));
        assert!(!second.report, "nothing changed");
        assert!(state.decide(at(10.5, 1000), seconds(4)).report);
    }

    #[test]
    fn a_snapshot_that_fills_fast_is_looked_at_often() {
        let mut state = FillState::default();
        state.decide(at(10.0, 1000), seconds(0));
        assert_eq!(state.decide(at(60.0, 1000), seconds(1)).pause, SHORTEST_PAUSE);
        assert_eq!(state.decide(at(60.0, 1000), seconds(3)).pause, USUAL_PAUSE);
    }

    #[test]
    fn it_is_extended_by_a_fifth_or_by_what_the_rate_demands() {
        let mut state = FillState { may_extend: true, ..FillState::default() };
        assert_eq!(state.decide(at(69.0, 1000), seconds(0)).extend_by_bytes, None);
        assert_eq!(state.decide(at(70.0, 1000), seconds(100)).extend_by_bytes, Some(200 * MIB));
        // 20% of 1000 MiB in a second, for 20 seconds.
        let fast = state.decide(at(90.0, 1000), seconds(101)).extend_by_bytes.unwrap();
        assert!((3999 * MIB..4001 * MIB).contains(&fast), "{fast}");
        state.may_extend = false;
        assert_eq!(state.decide(at(95.0, 1000), seconds(102)).extend_by_bytes, None);
    }

    #[test]
    fn it_is_extended_early_when_it_fills_fast() {
        let fresh = || FillState { may_extend: true, ..FillState::default() };
        assert!(fresh().decide(at(20.0, 40), seconds(1)).extend_by_bytes.is_some(), "full in 4 seconds");
        assert!(fresh().decide(at(10.0, 40), seconds(1)).extend_by_bytes.is_none(), "a first burst of writes");
        assert!(fresh().decide(at(20.0, 40), seconds(10)).extend_by_bytes.is_none(), "full in 40 seconds");
    }

    #[test]
    fn the_warning_comes_at_80_percent() {
        let mut state = FillState::default();
        assert!(!state.decide(at(79.9, 10), seconds(0)).warn);
        assert!(state.decide(at(80.0, 10), seconds(1)).warn);
    }
}
