//! Several volumes at once: who may begin next, and the reports in the order of the selection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::limits::Stop;
use super::select::SelectedVolume;
use super::sets::Sets;
use crate::report::{Outcome, RunReport, VolumeReport};
use crate::source::LvFacts;

/// What one job does without a pause: a volume, or all volumes of a set. Indexes of the selection.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// The set's index.
    pub(super) set: Option<usize>,
    pub(super) members: Vec<usize>,
    /// What it reads from.
    read: BTreeSet<ReadFrom>,
}

/// What has few readers at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ReadFrom {
    Group(String),
    /// By its device number.
    Disk((u32, u32)),
}

/// The units, in order. The members of a set stand together. `disks_of` has the disks of a volume, as far as they are known.
pub(super) fn units(
    chosen: &[SelectedVolume],
    sets: &Sets,
    disks_of: impl Fn(&LvFacts) -> Vec<(u32, u32)>,
) -> Vec<Unit> {
    let disks: Vec<Vec<(u32, u32)>> = chosen.iter().map(|candidate| disks_of(&candidate.facts)).collect();
    let mut of_group: BTreeMap<&str, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for (candidate, disks) in chosen.iter().zip(&disks) {
        of_group.entry(&candidate.facts.vg).or_default().extend(disks);
    }
    let mut units: Vec<Unit> = Vec::new();
    for (at, (candidate, disks)) in chosen.iter().zip(disks).enumerate() {
        let set = sets.of(candidate);
        let group = &candidate.facts.vg;
        // An inactive volume may lie on any disk of its group.
        let disks = if disks.is_empty() {
            of_group.get(group.as_str()).cloned().unwrap_or_default()
        } else {
            disks.into_iter().collect()
        };
        let read = disks.into_iter().map(ReadFrom::Disk).chain([ReadFrom::Group(group.clone())]);
        match units.last_mut().filter(|last| set.is_some() && last.set == set) {
            Some(last) => {
                last.members.push(at);
                last.read.extend(read);
            }
            None => units.push(Unit { set, members: vec![at], read: read.collect() }),
        }
    }
    units
}

/// A volume or a set that failed, and is tried again.
#[derive(Debug)]
pub(super) struct Postponed {
    pub(super) unit: Unit,
    /// Not before this moment.
    pub(super) due: Instant,
}

/// The state that all jobs share.
pub(super) struct Turns<'r> {
    shared: Mutex<Shared<'r>>,
    /// A job ended.
    ended: Condvar,
    per_group: usize,
}

pub(super) struct Shared<'r> {
    pub(super) report: &'r mut RunReport,
    /// The place of each of the report's volumes in the selection.
    places: Vec<usize>,
    waiting: Vec<Unit>,
    postponed: Vec<Postponed>,
    /// The number of jobs that read each volume group and each disk.
    reading: BTreeMap<ReadFrom, usize>,
    /// The first reason for which no unit is begun any more.
    stop: Option<Stop>,
}

impl Shared<'_> {
    pub(super) fn add(&mut self, at: usize, report: VolumeReport) {
        self.report.volumes.push(report);
        self.places.push(at);
    }

    /// Removes the report of a volume that is tried again.
    pub(super) fn take(&mut self, at: usize) -> Option<VolumeReport> {
        let place = self.places.iter().position(|place| *place == at)?;
        self.places.remove(place);
        Some(self.report.volumes.remove(place))
    }

    /// Why this volume failed.
    pub(super) fn failure(&self, at: usize) -> Option<String> {
        let place = self.places.iter().position(|place| *place == at)?;
        match &self.report.volumes.get(place)?.outcome {
            Outcome::Failed(why) => Some(why.clone()),
            _ => None,
        }
    }

    pub(super) fn postpone(&mut self, unit: Unit, due: Instant) {
        self.postponed.push(Postponed { unit, due });
    }

    pub(super) fn take_postponed(&mut self) -> Vec<Postponed> {
        std::mem::take(&mut self.postponed)
    }

    /// The first unit none of whose groups and disks has all the readers that it may have, and whether it is tried again: a
    /// set that is due, or else one that waits. A set comes before the others, since it lost its turn, and the time may be
    /// over before all of them are done.
    fn next(&mut self, per_group: usize, now: Instant) -> Option<(Unit, bool)> {
        let is_free =
            |unit: &Unit| unit.read.iter().all(|from| self.reading.get(from).copied().unwrap_or(0) < per_group);
        let is_due = |one: &Postponed| one.unit.set.is_some() && one.due <= now && is_free(&one.unit);
        let (unit, is_again) = match self.postponed.iter().position(is_due) {
            Some(at) => (self.postponed.remove(at).unit, true),
            None => (self.waiting.remove(self.waiting.iter().position(is_free)?), false),
        };
        for from in &unit.read {
            *self.reading.entry(from.clone()).or_default() += 1;
        }
        Some((unit, is_again))
    }

    /// Whether others want a share of the time that is left.
    fn others_wait(&self) -> bool {
        !self.waiting.is_empty() || !self.postponed.is_empty()
    }
}

impl<'r> Turns<'r> {
    pub(super) fn new(report: &'r mut RunReport, units: Vec<Unit>, per_group: usize) -> Self {
        let (places, postponed, reading) = (Vec::new(), Vec::new(), BTreeMap::new());
        let shared = Shared { report, places, waiting: units, postponed, reading, stop: None };
        Self { shared: Mutex::new(shared), ended: Condvar::new(), per_group }
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared<'r>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next unit, once its groups and disks are free; `None` if there is none, or `stop` says that none is begun any more.
    pub(super) fn next(&self, stop: impl Fn(&mut RunReport) -> Option<Stop>) -> Option<Begun<'_, 'r>> {
        let mut shared = self.shared();
        loop {
            if shared.waiting.is_empty() || shared.stop.is_some() {
                return None;
            }
            if let Some(why) = stop(shared.report) {
                shared.stop = Some(why);
                return None;
            }
            if let Some((unit, is_again)) = shared.next(self.per_group, Instant::now()) {
                return Some(Begun { turns: self, others_wait: shared.others_wait(), is_again, unit });
            }
            shared = self.ended.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The volumes that no job came to, and why.
    pub(super) fn take_left(&self) -> Option<(Stop, Vec<usize>)> {
        let mut shared = self.shared();
        let left = std::mem::take(&mut shared.waiting).into_iter().flat_map(|unit| unit.members).collect();
        shared.stop.take().map(|stop| (stop, left))
    }

    /// Puts the reports into the order of the selection.
    pub(super) fn put_in_order(&self) {
        let mut shared = self.shared();
        let reports = std::mem::take(&mut shared.report.volumes);
        let places = std::mem::take(&mut shared.places);
        let mut ordered: Vec<(usize, VolumeReport)> = places.into_iter().zip(reports).collect();
        ordered.sort_by_key(|(at, _)| *at);
        shared.report.volumes = ordered.into_iter().map(|(_, report)| report).collect();
    }
}

/// A unit that a job works on. Its groups and disks are free again when it is dropped.
pub(super) struct Begun<'t, 'r> {
    turns: &'t Turns<'r>,
    pub(super) unit: Unit,
    pub(super) others_wait: bool,
    /// This is its second attempt.
    pub(super) is_again: bool,
}

impl Drop for Begun<'_, '_> {
    fn drop(&mut self) {
        let mut shared = self.turns.shared();
        for from in &self.unit.read {
            if let Some(readers) = shared.reading.get_mut(from) {
                *readers = readers.saturating_sub(1);
            }
        }
        drop(shared);
        self.turns.ended.notify_all();
    }
}

/// How many of these units can be under way at the same time, at most.
pub(super) fn at_once(units: &[Unit], jobs: usize, per_group: usize) -> usize {
    // Each unit counts for one group, and for one disk if its disks are known: there are never more of either.
    let most = |of: &dyn Fn(&Unit) -> Option<&ReadFrom>| {
        let mut readers: BTreeMap<&ReadFrom, usize> = BTreeMap::new();
        for from in units.iter().filter_map(of) {
            *readers.entry(from).or_default() += 1;
        }
        readers.values().map(|units| (*units).min(per_group)).sum::<usize>()
    };
    // Groups are ordered before disks.
    let all = most(&|unit| unit.read.first()).min(most(&|unit| unit.read.last()));
    all.min(jobs).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ReadFrom, Turns, Unit, at_once};
    use crate::report::{RunReport, VolumeReport};

    fn unit(at: usize, groups: &[&str]) -> Unit {
        let read = groups.iter().map(|group| ReadFrom::Group((*group).to_owned())).collect();
        Unit { set: None, members: vec![at], read }
    }

    fn on_disks(at: usize, group: &str, disks: &[u32]) -> Unit {
        let mut unit = unit(at, &[group]);
        unit.read.extend(disks.iter().map(|minor| ReadFrom::Disk((8, *minor))));
        unit
    }

    #[test]
    fn groups_that_share_a_disk_have_one_reader_together() {
        let mut report = report();
        let units =
            vec![on_disks(0, "a", &[0]), on_disks(1, "b", &[0, 16]), on_disks(2, "c", &[32]), on_disks(3, "d", &[32])];
        assert!(at_once(&units[..1], 8, 1) == 1 && at_once(&units[2..], 8, 1) == 1);
        assert!(at_once(&units, 8, 1) >= 2 && at_once(&units, 8, 2) == 4);
        let turns = Turns::new(&mut report, units, 1);
        let next = || turns.next(|_| None).unwrap();
        let (first, second) = (next(), next());
        assert_eq!([&first, &second].map(|begun| begun.unit.members[0]), [0, 2]);
        drop(first);
        assert_eq!(next().unit.members[0], 1);
    }

    fn report() -> RunReport {
        let json = r#"{"format_version": 1, "host": "h", "started": "2026-11-29T01:00:00Z", "duration_seconds": 0,
            "retention_days": 7, "destination": "/b", "usage": null, "aborted": null, "volumes": []}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_group_has_one_reader_and_another_group_does_not_wait_for_it() {
        let mut report = report();
        let units = vec![unit(0, &["a"]), unit(1, &["a"]), unit(2, &["b", "c"]), unit(3, &["c"]), unit(4, &["d"])];
        assert_eq!((at_once(&units, 8, 1), at_once(&units, 2, 1), at_once(&units, 8, 2)), (3, 2, 5));
        let turns = Turns::new(&mut report, units, 1);
        let next = || turns.next(|_| None).unwrap();
        let (first, second, third) = (next(), next(), next());
        let members = [&first, &second, &third].map(|begun| begun.unit.members.clone());
        assert_eq!(members, [[0], [2], [4]]);
        drop(second);
        let fourth = next();
        assert_eq!((fourth.unit.members[0], fourth.others_wait), (3, true));
        drop(first);
        assert_eq!(next().unit.members, [1]);
        assert!(turns.next(|_| None).is_none());
    }

    #[test]
    fn a_set_that_is_due_again_comes_before_those_that_wait_and_a_volume_does_not() {
        let mut report = report();
        let turns = Turns::new(&mut report, vec![unit(0, &["a"]), unit(1, &["a"]), unit(2, &["a"])], 1);
        let next = || turns.next(|_| None).unwrap();
        let first = next();
        let (set, now) = (Unit { set: Some(0), ..first.unit.clone() }, Instant::now());
        drop(first);
        turns.shared().postpone(set.clone(), now + Duration::from_secs(3600));
        turns.shared().postpone(unit(3, &["a"]), now);
        let second = next();
        assert_eq!((second.unit.members[0], second.is_again), (1, false), "the set is not due yet");
        turns.shared().postpone(set, now);
        drop(second);
        let again = next();
        assert_eq!((again.unit.members[0], again.is_again), (0, true));
        drop(again);
        let last = next();
        assert!(last.unit.members[0] == 2 && last.others_wait, "those that are tried again want some of the time, too");
        assert_eq!(turns.shared().take_postponed().len(), 2);
    }

    #[test]
    fn reports_are_in_the_order_of_the_selection_and_one_can_be_made_anew() {
        let mut report = report();
        let turns = Turns::new(&mut report, Vec::new(), 1);
        let of = |name: &str| VolumeReport::not_started(name.to_owned(), String::new());
        for (at, name) in [(2, "c"), (0, "a"), (1, "b")] {
            turns.shared().add(at, of(name));
        }
        assert_eq!(turns.shared().take(0).unwrap().name, "a");
        assert!(turns.shared().take(0).is_none());
        turns.shared().add(0, of("again"));
        turns.put_in_order();
        drop(turns);
        let names: Vec<&str> = report.volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["again", "b", "c"]);
    }
}
