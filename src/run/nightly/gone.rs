//! Gone volumes, and the removal of backups in general.

use super::destination::is_present;
use super::night::Night;
use crate::error::with_causes;
use crate::events::{Problem, Severity, SourceName};
use crate::outside::host;
use crate::report::GoneReport;
use crate::run::prune::{self, Shelf, Standing};
use crate::store::retention::{Occasion, Plan, gone_kept_until};

impl Night<'_> {
    /// The gone volumes, and the decisions about their backups. `shelves` were read when the night began.
    pub(super) fn gone(&self, shelves: &[Shelf], existing: &[String], may_prune: bool) -> Vec<GoneReport> {
        let host = host::name();
        let now = prune::now(self.world.clock.now());
        let is_gone = |shelf: &Shelf| shelf.standing(&host, existing) == Standing::Gone;
        let occasion = |shelf: &Shelf| if is_gone(shelf) { Occasion::Gone } else { Occasion::Forecast };
        let plans =
            |shelves: &[Shelf]| prune::plans_of(&shelves.iter().collect::<Vec<_>>(), self.config, now, occasion);
        let first = plans(shelves);
        let mut removing =
            shelves.iter().zip(&first).filter(|(shelf, plan)| is_gone(shelf) && plan.removals().count() > 0);
        // A person or a verification may have said something about a backup since then.
        let anew = if may_prune && removing.next().is_some() { self.shelves_anew() } else { None };
        let (shelves, plans) = anew.as_deref().map_or((shelves, first), |anew| (anew, plans(anew)));
        let may_prune = may_prune && anew.is_some();

        let mut gone = Vec::new();
        for (shelf, plan) in shelves.iter().zip(plans).filter(|(shelf, _)| is_gone(shelf)) {
            for problem in prune::problems_of(&plan) {
                let problem = Problem::new(problem.severity, shelf.name.clone(), problem.what);
                self.tell_of(SourceName::of_backups(&shelf.name), problem);
            }
            let removed = if may_prune { self.carry_out(&shelf.name, &plan) } else { prune::Pruned::default() };
            for problem in removed.problems {
                self.tell_of(SourceName::of_backups(&shelf.name), problem);
            }
            gone.push(GoneReport {
                name: shelf.name.clone(),
                directory: shelf.directory.display().to_string(),
                backups: (shelf.backups.len() as u64).saturating_sub(removed.removed.len() as u64),
                directory_bytes: self.destination.used_by_volume(&shelf.name),
                kept_until: gone_kept_until(&shelf.backups, &shelf.policy(self.config), now),
                removed: removed.removed.iter().map(|path| path.display().to_string()).collect(),
            });
        }
        gone
    }

    fn shelves_anew(&self) -> Option<Vec<Shelf>> {
        let read = Shelf::all(self.destination);
        read.inspect_err(|error| {
            let what = format!("nothing of gone volumes was removed: {}", with_causes(error));
            self.tell(Severity::Warning, "retention", what);
        })
        .ok()
    }

    /// Carries out a plan for the volume `name`, if the destination is still the same.
    pub(super) fn carry_out(&self, name: &str, plan: &Plan) -> prune::Pruned {
        let failed = |what: String| prune::Pruned {
            removed: Vec::new(),
            problems: vec![Problem::new(Severity::Warning, "retention", what)],
        };
        if plan.removals().next().is_none() {
            return prune::Pruned::default();
        }
        if !is_present(self.config, self.destination) {
            return failed("nothing was removed, since the backup volume is not mounted".to_owned());
        }
        match self.destination.existing_volume_directory(name) {
            Ok(Some(volume)) => prune::carry_out(&volume, plan),
            Ok(None) => prune::Pruned::default(),
            Err(error) => failed(with_causes(&error)),
        }
    }
}
