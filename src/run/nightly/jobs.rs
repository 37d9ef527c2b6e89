//! Several volumes at once: who may begin next, and the reports in the order of the selection.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::limits::Stop;
use super::select::SelectedVolume;
use super::sets::Sets;
use crate::report::{Outcome, RunReport, VolumeReport};

/// What one job does without a pause: a volume, or all volumes of a set. Indexes of the selection.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// The set's index.
    pub(super) set: Option<usize>,
    pub(super) members: Vec<usize>,
    /// Its volume groups, each once.
    groups: Vec<String>,
}

/// The units, in order. The members of a set stand together.
pub(super) fn units(chosen: &[SelectedVolume], sets: &Sets) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for (at, candidate) in chosen.iter().enumerate() {
        let set = sets.of(candidate);
        let group = candidate.facts.vg.clone();
        match units.last_mut().filter(|last| set.is_some() && last.set == set) {
            Some(last) => {
                last.members.push(at);
                if !last.groups.contains(&group) {
                    last.groups.push(group);
                }
            }
            None => units.push(Unit { set, members: vec![at], groups: vec![group] }),
        }
    }
    units
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
    /// The number of jobs that read each volume group.
    reading: BTreeMap<String, usize>,
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

    /// The first waiting unit none of whose groups has all the readers that it may have.
    fn next(&mut self, per_group: usize) -> Option<Unit> {
        let is_free =
            |unit: &Unit| unit.groups.iter().all(|group| self.reading.get(group).copied().unwrap_or(0) < per_group);
        let at = self.waiting.iter().position(is_free)?;
        let unit = self.waiting.remove(at);
        for group in &unit.groups {
            *self.reading.entry(group.clone()).or_default() += 1;
        }
        Some(unit)
    }
}

impl<'r> Turns<'r> {
    pub(super) fn new(report: &'r mut RunReport, units: Vec<Unit>, per_group: usize) -> Self {
        let shared = Shared { report, places: Vec::new(), waiting: units, reading: BTreeMap::new(), stop: None };
        Self { shared: Mutex::new(shared), ended: Condvar::new(), per_group }
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared<'r>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next unit, once its groups are free; `None` if there is none, or `stop` says that none is begun any more.
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
            if let Some(unit) = shared.next(self.per_group) {
                return Some(Begun { turns: self, others_wait: !shared.waiting.is_empty(), unit });
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

/// A unit that a job works on. Its groups are free again when it is dropped.
pub(super) struct Begun<'t, 'r> {
    turns: &'t Turns<'r>,
    pub(super) unit: Unit,
    pub(super) others_wait: bool,
}

impl Drop for Begun<'_, '_> {
    fn drop(&mut self) {
        let mut shared = self.turns.shared();
        for group in &self.unit.groups {
            if let Some(readers) = shared.reading.get_mut(group) {
                *readers = readers.saturating_sub(1);
            }
        }
        drop(shared);
        self.turns.ended.notify_all();
    }
}

/// How many of these units can be under way at the same time.
pub(super) fn at_once(units: &[Unit], jobs: usize, per_group: usize) -> usize {
    let mut of_group: BTreeMap<&str, usize> = BTreeMap::new();
    for unit in units {
        if let Some(group) = unit.groups.first() {
            *of_group.entry(group).or_default() += 1;
        }
    }
    let all = of_group.values().map(|units| (*units).min(per_group)).sum::<usize>();
    all.min(jobs).max(1)
}

#[cfg(test)]
mod tests {
    use super::{Turns, Unit, at_once};
    use crate::report::{RunReport, VolumeReport};

    fn unit(at: usize, groups: &[&str]) -> Unit {
        Unit { set: None, members: vec![at], groups: groups.iter().map(|group| (*group).to_owned()).collect() }
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
        assert_eq!((at_once(&units, 8, 1), at_once(&units, 2, 1), at_once(&units, 8, 2)), (4, 2, 5));
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
