//! The turn of a set: its snapshots, its members one after another, and what is tried again.
//!
//! A second attempt never mixes two moments. If a snapshot could not be taken, all of them are released before any is read, and
//! the whole set is taken again as soon as the pause is over and a job is free. If a member could not be read, it is read again from its snapshot, which
//! is kept for that until the other members are backed up.

use std::sync::Arc;
use std::time::Instant;

use super::jobs::{Turns, Unit};
use super::limits::Stop;
use super::round::Round;
use super::select::SelectedVolume;
use super::sets::{OpenSet, Together};
use super::volume::Turn;
use crate::events::Event;
use crate::report::{Outcome, VolumeReport};
use crate::run::backup::taken::TakenSnapshot;

/// A member that is read again from its snapshot.
struct Unread<'r> {
    at: usize,
    candidate: &'r SelectedVolume,
    taken: Option<Arc<TakenSnapshot>>,
    failed_at: Instant,
}

impl Round<'_> {
    /// The members of a set, from its snapshots to the removal of older sets. With `may_be_postponed` it is taken again later, if
    /// a snapshot cannot be taken for a reason that may pass.
    pub(super) fn set(
        &self,
        together: &Together,
        unit: &Unit,
        others_wait: bool,
        may_be_postponed: bool,
        turns: &Turns<'_>,
    ) {
        let candidates: Vec<(usize, &SelectedVolume)> =
            unit.members.iter().filter_map(|at| Some((*at, self.chosen.get(*at)?))).collect();
        let members: Vec<&SelectedVolume> = candidates.iter().map(|(_, candidate)| *candidate).collect();
        let mut open = self.night.take_set(together, &members);
        if may_be_postponed && open.may_be_better_later() && self.night.end_of_run(turns.shared().report).is_none() {
            self.postpone(unit, &open, &candidates, turns);
            return;
        }
        self.night.tell_missing(together, &open);
        let mut unread = Vec::new();
        let mut waiting = candidates.iter();
        while let Some((at, candidate)) = waiting.next() {
            // A set whose snapshots are taken was begun as a whole, so that it is not the time of day that ends it.
            let stop = self.night.end_of_run(turns.shared().report);
            if let Some(stop) = stop {
                for (at, candidate) in std::iter::once(&(*at, *candidate)).chain(waiting) {
                    self.not_reached(*at, candidate, &stop, turns);
                }
                return;
            }
            let taken = open.snapshot_of(candidate);
            let turn = Turn {
                others_wait: others_wait || !waiting.as_slice().is_empty(),
                may_prune: self.may_prune,
                taken: taken.clone(),
                may_be_postponed: taken.is_some(),
            };
            if self.attempt(*at, candidate, &turn, turns) {
                unread.push(Unread { at: *at, candidate, taken, failed_at: Instant::now() });
            }
        }
        drop(open);
        self.read_again(unread, others_wait, turns);
        self.night.end_set(together, turns.shared().report, self.existing, self.may_prune);
    }

    /// Releases the snapshots, to take all of them again later.
    fn postpone(&self, unit: &Unit, open: &OpenSet, candidates: &[(usize, &SelectedVolume)], turns: &Turns<'_>) {
        for (at, candidate) in candidates {
            let why = open.why_again(&candidate.facts.lv);
            let source = candidate.facts.name();
            self.night.world.observer.on_event(&Event::SourcePostponed { source, why: why.clone() });
            let report = VolumeReport { outcome: Outcome::Failed(why), ..self.blank(candidate) };
            turns.shared().add(*at, report);
        }
        self.try_later(unit, turns);
    }

    /// The second attempt of members whose snapshots are still there.
    fn read_again(&self, unread: Vec<Unread<'_>>, others_wait: bool, turns: &Turns<'_>) {
        let mut waiting = unread.into_iter();
        while let Some(Unread { at, candidate, taken, failed_at }) = waiting.next() {
            self.wait_until(failed_at + self.night.config.retry_pause);
            let stop = self.night.end_of_run(turns.shared().report);
            if let Some(stop) = stop {
                self.not_reached(at, candidate, &stop, turns);
                continue;
            }
            let turn = Turn {
                others_wait: others_wait || !waiting.as_slice().is_empty(),
                may_prune: self.may_prune,
                taken,
                may_be_postponed: false,
            };
            self.attempt(at, candidate, &turn, turns);
        }
    }

    /// A volume whose attempt is not made: the report of the first one stays, if there was one.
    pub(super) fn not_reached(&self, at: usize, candidate: &SelectedVolume, stop: &Stop, turns: &Turns<'_>) {
        let earlier = turns.shared().failure(at);
        if let Some(why) = earlier {
            let source = candidate.facts.name();
            self.night.world.observer.on_event(&Event::SourceFailed { source, why });
        } else {
            let is_aborted = turns.shared().report.aborted.is_some();
            let report = self.not_started(candidate, stop, is_aborted);
            turns.shared().add(at, report);
        }
    }
}
