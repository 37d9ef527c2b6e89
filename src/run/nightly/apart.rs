//! Retention apart from a night: `prune --apply`, on any host, with credentials that may delete.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::destination::open;
use super::error::NightError;
use crate::config::Config;
use crate::error::with_causes;
use crate::events::{Problem, Severity};
use crate::run::backup::BackupWorld;
use crate::run::prune::{Shelf, carry_out, now, plans_of, problems_of};
use crate::store::retention::{Health, Now, Occasion, brake};

/// A volume whose newest backup is older has no new one, and nothing of it is removed: its host may be down.
const NEW_DAYS: i64 = 2;

/// What was removed.
#[derive(Debug, Default)]
pub struct Applied {
    /// The archives of the removed backups.
    pub removed: Vec<PathBuf>,
    /// What is kept though it is due, and what went wrong.
    pub problems: Vec<Problem>,
}

impl Applied {
    /// Whether something needs attention. A lock that has not ended does not.
    pub fn is_doubtful(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity != Severity::Notice)
    }
}

/// Removes what the config's retention does not keep, of volumes that have a new backup. `only` are volumes; all if it is
/// empty. The volumes themselves are not looked at, so that this works on any host.
pub fn apply(config: &Config, only: &[String], force: bool, world: &BackupWorld) -> Result<Applied, NightError> {
    let destination = open(config)?;
    let _lock = destination.lock(world.clock.now())?;
    let moment = now(world.clock.now());
    let mut shelves = Shelf::all(&destination)?;
    let is_of_volume = |shelf: &Shelf| shelf.newest().is_some_and(|newest| newest.source.kind == "lv");
    shelves.retain(is_of_volume);
    let new: BTreeMap<String, String> =
        shelves.iter().filter_map(|shelf| Some((shelf.name.clone(), new_backup(shelf, moment)?))).collect();
    let occasion = |shelf: &Shelf| new.get(&shelf.name).map_or(Occasion::NothingNew, |id| Occasion::Published(id));
    let plans = plans_of(&shelves.iter().collect::<Vec<_>>(), config, moment, occasion);
    let mut applied = Applied::default();
    if let Some(refusal) = brake(&plans).filter(|_| !force) {
        applied.problems.push(Problem::new(Severity::Warning, "retention", refusal.to_string()));
        return Ok(applied);
    }
    for (plan, shelf) in plans.iter().zip(&shelves) {
        if !only.is_empty() && !only.contains(&shelf.name) {
            continue;
        }
        applied.problems.extend(problems_of(plan));
        if plan.removals().next().is_none() {
            continue;
        }
        match destination.existing_volume_directory(&shelf.name) {
            Ok(Some(volume)) => {
                let pruned = carry_out(&volume, plan);
                applied.removed.extend(pruned.removed);
                applied.problems.extend(pruned.problems);
            }
            Ok(None) => {}
            Err(error) => {
                applied.problems.push(Problem::new(Severity::Warning, shelf.name.clone(), with_causes(&error)));
            }
        }
    }
    Ok(applied)
}

/// The newest backup of a volume, if it is new and not known to be bad.
fn new_backup(shelf: &Shelf, now: Now) -> Option<String> {
    let not_bad = shelf.backups.iter().filter(|backup| backup.health != Health::Bad && backup.taken_at <= now.utc);
    let newest = not_bad.max_by_key(|backup| (backup.taken_at, &backup.id))?;
    ((now.utc - newest.taken_at).num_days() < NEW_DAYS).then(|| newest.id.clone())
}
