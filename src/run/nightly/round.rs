//! All selected volumes of a night, one after another or several at once, and a second attempt for those that may have failed
//! for a passing reason.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::dump::Dumps;
use super::jobs::{Postponed, Turns, Unit, at_once, units};
use super::limits::Stop;
use super::night::Night;
use super::select::SelectedVolume;
use super::sets::Sets;
use super::volume::{Came, Turn};
use crate::events::{Event, Observer, OfSource, Severity};
use crate::report::{Outcome, RunReport, VolumeReport};
use crate::run::backup::BackupWorld;
use crate::run::prune::{Shelf, shelf_of};
use crate::source::disks_of;

/// How often a wait looks for a cancellation.
const SLICE: Duration = Duration::from_millis(100);

/// What all volumes of a night have in common.
pub(super) struct Round<'n> {
    pub(super) night: Night<'n>,
    pub(super) chosen: &'n [SelectedVolume],
    pub(super) shelves: &'n [Shelf],
    /// The names of all volumes on the host.
    pub(super) existing: &'n [String],
    pub(super) sets: &'n Sets,
    pub(super) dumps: Mutex<Dumps<'n>>,
    pub(super) may_prune: bool,
}

impl Round<'_> {
    /// Backs up all of them, and adds them to the report in the order of the selection.
    pub(super) fn work(mut self, report: &mut RunReport) {
        let units = units(self.chosen, self.sets, disks_of);
        let config = self.night.config;
        self.night.at_once = at_once(&units, config.jobs, config.jobs_per_group);
        let turns = Turns::new(report, units, config.jobs_per_group);
        thread::scope(|scope| {
            for number in 2..=self.night.at_once {
                let job = thread::Builder::new().name(format!("job {number}"));
                if let Err(error) = job.spawn_scoped(scope, || self.job(&turns)) {
                    let what = format!("fewer volumes are backed up at once: no thread could be started: {error}");
                    self.night.tell(Severity::Warning, "jobs", what);
                    break;
                }
            }
            self.job(&turns);
        });
        self.try_again(&turns);
        // What cuts the last volume short aborts the run, too.
        self.night.end_of_run(turns.shared().report);
        let is_aborted = turns.shared().report.aborted.is_some();
        if let Some((stop, left)) = turns.take_left() {
            for at in left {
                let Some(candidate) = self.chosen.get(at) else { continue };
                let report = self.not_started(candidate, &stop, is_aborted);
                turns.shared().add(at, report);
            }
        }
        turns.put_in_order();
    }

    fn job(&self, turns: &Turns<'_>) {
        while let Some(begun) = turns.next(|report| self.night.reason_to_stop(report)) {
            self.unit(&begun.unit, begun.others_wait, !begun.is_again, turns);
        }
    }

    /// A volume, or the volumes of a set. With `may_be_postponed` it is tried again later, if it fails for a reason that may pass.
    fn unit(&self, unit: &Unit, others_wait: bool, may_be_postponed: bool, turns: &Turns<'_>) {
        if let Some(together) = unit.set.and_then(|at| self.sets.get(at)) {
            self.set(together, unit, others_wait, may_be_postponed, turns);
            return;
        }
        for at in &unit.members {
            let Some(candidate) = self.chosen.get(*at) else { continue };
            let turn = Turn { others_wait, may_prune: self.may_prune, taken: None, may_be_postponed };
            if self.attempt(*at, candidate, &turn, turns) {
                self.try_later(unit, turns);
            }
        }
    }

    pub(super) fn try_later(&self, unit: &Unit, turns: &Turns<'_>) {
        turns.shared().postpone(unit.clone(), Instant::now() + self.night.config.retry_pause);
    }

    /// Backs up one volume, and replaces the report of an earlier attempt. Returns whether it is to be tried again.
    pub(super) fn attempt(&self, at: usize, candidate: &SelectedVolume, turn: &Turn, turns: &Turns<'_>) -> bool {
        let came = self.one(candidate, turn);
        let mut shared = turns.shared();
        let earlier = shared.take(at);
        let Some(Came { mut report, is_postponed }) = came else { return false };
        report.first_failure = earlier.and_then(|earlier| {
            earlier.first_failure.or(match earlier.outcome {
                Outcome::Failed(why) => Some(why),
                _ => None,
            })
        });
        shared.add(at, report);
        is_postponed
    }

    /// Backs up one volume. While there are others, its events name it.
    fn one(&self, candidate: &SelectedVolume, turn: &Turn) -> Option<Came> {
        if self.night.at_once == 1 {
            return self.night.one_volume(candidate, self.shelves, &self.dumps, turn);
        }
        let observer = OfSource::new(Arc::clone(&self.night.world.observer), candidate.facts.name());
        let world = BackupWorld { observer: Arc::new(observer) as Arc<dyn Observer>, ..self.night.world.clone() };
        Night { world: &world, ..self.night }.one_volume(candidate, self.shelves, &self.dumps, turn)
    }

    /// The second and last attempt, one volume or set after another, some time after the first. Sets that were due while
    /// others waited had theirs.
    fn try_again(&mut self, turns: &Turns<'_>) {
        self.night.at_once = 1;
        let mut waiting = turns.shared().take_postponed().into_iter();
        while let Some(Postponed { unit, due }) = waiting.next() {
            self.wait_until(due);
            // A set was begun with its first snapshot, and none of it is backed up: the time of day does not end it.
            let is_set = unit.set.and_then(|at| self.sets.get(at)).is_some();
            let stop = if is_set {
                self.night.end_of_run(turns.shared().report)
            } else {
                self.night.reason_to_stop(turns.shared().report)
            };
            let Some(stop) = stop else {
                self.unit(&unit, !waiting.as_slice().is_empty(), false, turns);
                continue;
            };
            for at in &unit.members {
                let Some(candidate) = self.chosen.get(*at) else { continue };
                self.not_reached(*at, candidate, &stop, turns);
            }
        }
    }

    pub(super) fn wait_until(&self, moment: Instant) {
        while !self.night.world.cancel.is_cancelled() {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(SLICE));
        }
    }

    /// Also called after an abort, which the run's last line reports once for all volumes.
    pub(super) fn not_started(&self, candidate: &SelectedVolume, stop: &Stop, is_aborted: bool) -> VolumeReport {
        let why = &stop.why;
        if !is_aborted {
            let source = candidate.facts.name();
            self.night.collector.on_event(&Event::SourceFailed { source, why: format!("not started: {why}") });
        }
        VolumeReport {
            outcome: Outcome::NotStarted(why.clone()),
            out_of_time: stop.is_out_of_time,
            ..self.blank(candidate)
        }
    }

    /// The report of a volume that was not read.
    pub(super) fn blank(&self, candidate: &SelectedVolume) -> VolumeReport {
        let before = shelf_of(self.shelves, &candidate.facts.lv);
        VolumeReport {
            group: Some(candidate.facts.vg.clone()),
            ..self.night.blank_volume(&candidate.facts.lv, before.map(|shelf| shelf.history(None)).unwrap_or_default())
        }
    }
}
