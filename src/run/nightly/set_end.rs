//! What comes after the last member of a set: its report, and the retirement of older sets.

use std::collections::BTreeSet;

use super::night::Night;
use super::sets::Together;
use crate::error::with_causes;
use crate::events::{Problem, Severity, SourceName};
use crate::report::{Outcome, RunReport};
use crate::run::prune::{self, Kept, Shelf};
use crate::store::StoreError;
use crate::store::retention::{Now, Occasion, Plan};

impl Night<'_> {
    /// After the last member: reports what is missing, and retires older sets as a whole.
    pub(super) fn end_set(&self, together: &Together, report: &mut RunReport, existing: &[String], may_prune: bool) {
        self.tell_set(together, &report.volumes);
        if let Err(error) = self.retire_sets(together, report, existing, may_prune) {
            let what = format!("nothing was removed: {}", with_causes(&error));
            self.tell(Severity::Warning, &format!("group {}", together.group.name), what);
        }
    }

    fn retire_sets(
        &self,
        together: &Together,
        report: &mut RunReport,
        existing: &[String],
        may_prune: bool,
    ) -> Result<(), StoreError> {
        let kept = Kept::of(self.destination)?;
        let mut shelves = Vec::new();
        for name in &together.members {
            shelves.extend(Shelf::read(self.destination, name, &kept)?);
        }
        let mut others = Vec::new();
        for name in self.others_of(&shelves)? {
            others.extend(Shelf::read(self.destination, &name, &kept)?);
        }
        let all: Vec<&Shelf> = shelves.iter().chain(&others).collect();
        let now = prune::now(self.world.clock.now());
        // The stem of the backup that each got tonight.
        let published = |shelf: &Shelf| {
            let volume = report.volumes.iter().find(|volume| volume.name == shelf.name)?;
            (matches!(volume.outcome, Outcome::BackedUp) && volume.manifest.is_some()).then_some(volume.taken_at)?
        };
        let stems: Vec<Option<String>> = all
            .iter()
            .map(|shelf| {
                let taken_at = published(shelf)?;
                shelf.manifests().rev().find(|manifest| manifest.started_at == taken_at).map(|one| one.stem.clone())
            })
            .collect();
        let occasion = |shelf: &Shelf| {
            let at = all.iter().position(|other| other.name == shelf.name);
            match at.and_then(|at| stems.get(at)).and_then(Option::as_ref) {
                Some(stem) => Occasion::Published(stem),
                None if !existing.contains(&shelf.name) => Occasion::Gone,
                None => Occasion::NothingNew,
            }
        };
        let plans = prune::plans_of(&all, self.config, now, occasion);
        for (shelf, plan) in shelves.iter().zip(plans) {
            // The volumes that are gone have their turn at the end.
            let Some(volume) = report.volumes.iter_mut().find(|volume| volume.name == shelf.name) else { continue };
            let mut problems = prune::problems_of(&plan);
            if may_prune {
                let pruned = self.carry_out(&shelf.name, &plan);
                volume.removed = pruned.removed.iter().map(|path| path.display().to_string()).collect();
                problems.extend(pruned.problems);
            }
            let source = SourceName::of_volume(volume.group.as_deref().unwrap_or_default(), &volume.name);
            for problem in problems {
                let location = format!("{}: {}", volume.name, problem.location);
                self.tell_of(source.clone(), Problem::new(problem.severity, location, problem.what.clone()));
                volume.problems.push(problem);
            }
        }
        Ok(())
    }

    /// The plan of a volume that has no set tonight; its older backups may belong to one.
    pub(super) fn with_its_sets(&self, there: &Shelf, now: Now, stem: &str) -> Result<Plan, StoreError> {
        let others = self.others_of(std::slice::from_ref(there))?;
        let mut read = Vec::new();
        if !others.is_empty() {
            let kept = Kept::of(self.destination)?;
            for name in others {
                read.extend(Shelf::read(self.destination, &name, &kept)?);
            }
        }
        let all: Vec<&Shelf> = std::iter::once(there).chain(&read).collect();
        let is_group = self.config.groups.iter().any(|group| group.has_named(&there.name));
        let occasion = |shelf: &Shelf| match shelf.name == there.name {
            true => Occasion::Published(stem),
            // A set of a group that the config still has is retired by a night with all of it.
            false if is_group => Occasion::NothingNew,
            false => Occasion::Forecast,
        };
        let mut plans = prune::plans_of(&all, self.config, now, occasion);
        Ok(plans.swap_remove(0))
    }

    /// The other volumes in the sets of these that have backups. A manifest's names are only compared.
    fn others_of(&self, shelves: &[Shelf]) -> Result<Vec<String>, StoreError> {
        let sets = shelves.iter().flat_map(|shelf| &shelf.backups).filter_map(|backup| backup.set.as_ref());
        let named: BTreeSet<&String> = sets.flat_map(|set| &set.members).collect();
        let is_other = |name: &String| named.contains(name) && !shelves.iter().any(|shelf| shelf.name == *name);
        if named.is_empty() {
            Ok(Vec::new())
        } else {
            Ok(self.destination.volume_names()?.into_iter().filter(is_other).collect())
        }
    }
}
