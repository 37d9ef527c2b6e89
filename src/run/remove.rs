//! Removes backups that a person names. What retention would never remove is not removed either, unless it is forced.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::locate;
use super::named::{self, Named, NamedError};
use super::prune::{Kept, Shelf, now};
use crate::error::with_causes;
use crate::outside::Clock;
use crate::store::api::Freed;
use crate::store::catalog::{BackupState, CatalogEntry};
use crate::store::removal::{Removals, is_removable};
use crate::store::retention::{Occasion, Policy, Reason, SetFacts, plan};
use crate::store::{Destination, StoreError};

/// Options for a removal.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Nothing is removed.
    pub dry_run: bool,
    /// Backups are removed that are damaged or that retention keeps as the last good one, and single members of a set. What `volbak protect` or
    /// a sudden change keeps stays.
    pub force: bool,
}

/// A backup that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Its volume: the name of its directory.
    pub volume: String,
    /// Its name without a suffix.
    pub backup: String,
    /// The total size of its files. Less is freed where they share blocks with others.
    pub bytes: u64,
}

/// Why backups were not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// A name that stands for no backup.
    #[error(transparent)]
    Named(#[from] NamedError),
    /// A name without a date: what is removed has to be named.
    #[error("{0} names no date: write the backup to remove as VOLUME@DATE, see `volbak list`")]
    NoDate(String),
    /// Some may not be removed, so nothing was.
    #[error("nothing was removed: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// A removal failed; these were removed before.
    #[error("{backup} could not be removed: {source}; {} removed before it", counted(removed))]
    Failed {
        /// The backup.
        backup: String,
        /// The cause.
        source: StoreError,
        /// What was removed.
        removed: Vec<Removed>,
    },
    /// All were removed, but the room of a composed archive was not freed.
    #[error("{} removed, but {source}", counted(removed))]
    NotFreed {
        /// Why.
        source: StoreError,
        /// What was removed.
        removed: Vec<Removed>,
    },
}

/// How many backups, and which.
fn counted(removed: &[Removed]) -> String {
    if removed.is_empty() {
        return "none was".to_owned();
    }
    let names: Vec<&str> = removed.iter().map(|one| one.backup.as_str()).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "was" } else { "were" })
}

impl From<StoreError> for RemoveError {
    fn from(error: StoreError) -> Self {
        Self::Named(error.into())
    }
}

/// Removes the backups that `specs` name, see [`locate::find`]; all of them or, if one may not be removed, none. A bad backup
/// may be removed like any other, a damaged one only with `force`.
pub fn remove(
    destination: &Destination,
    specs: &[String],
    options: RemoveOptions,
    clock: &dyn Clock,
) -> Result<Vec<Removed>, RemoveError> {
    let _lock = if options.dry_run { None } else { Some(destination.lock(clock.now())?) };
    let wanted = named_backups(destination, specs, clock.now())?;
    let kept = Kept::of(destination)?;
    let mut chosen = Vec::new();
    let mut refused = Vec::new();
    for (volume, stems) in &wanted {
        let Some(shelf) = Shelf::read(destination, volume, &kept)? else { continue };
        // Only the rules that hold whatever the policy: the dates are the person's decision.
        let plan = plan(volume, &shelf.backups, &Policy::days(0), now(clock.now()), Occasion::NothingNew);
        for decision in plan.decisions.iter().filter(|decision| stems.contains(&decision.id)) {
            refused.extend(brake(&decision.reasons, options.force).map(|why| format!("{}: {why}", decision.id)));
            chosen.push(Removed { volume: volume.clone(), backup: decision.id.clone(), bytes: decision.size_bytes });
        }
        let damaged = shelf.entries.iter().filter(|entry| matches!(entry.state, BackupState::Damaged { .. }));
        for entry in damaged.filter(|entry| stems.contains(&entry.stem)) {
            let why = brake_of_damaged(destination, &shelf, entry, &kept, options.force)?;
            refused.extend(why.map(|why| format!("{}: {why}", entry.stem)));
            chosen.push(Removed {
                volume: volume.clone(),
                backup: entry.stem.clone(),
                bytes: entry.archive_bytes.unwrap_or(0),
            });
        }
        if !options.force {
            refused.extend(torn_sets(destination, &shelf, stems, &wanted, &kept)?);
        }
    }
    if !refused.is_empty() {
        return Err(RemoveError::Refused(refused));
    }
    if !options.dry_run {
        carry_out(destination, &chosen)?;
    }
    Ok(chosen)
}

/// The stems to remove, by volume.
type Wanted = BTreeMap<String, Vec<String>>;

fn named_backups(destination: &Destination, specs: &[String], at: DateTime<Utc>) -> Result<Wanted, RemoveError> {
    let mut wanted = Wanted::new();
    for spec in specs {
        if !locate::names_a_date(spec, destination).map_err(|error| NamedError::NoSuchBackup(with_causes(&error)))? {
            return Err(RemoveError::NoDate(spec.clone()));
        }
        let Named { volume, stem } = named::find_even_damaged(destination, spec, at)?;
        let stems = wanted.entry(volume).or_default();
        if !stems.contains(&stem) {
            stems.push(stem);
        }
    }
    Ok(wanted)
}

const PROTECTED: &str = "it is protected; `volbak unprotect` releases it";

/// Why a damaged backup must not be removed.
fn brake_of_damaged(
    destination: &Destination,
    shelf: &Shelf,
    entry: &CatalogEntry,
    kept: &Kept,
    force: bool,
) -> Result<Option<String>, RemoveError> {
    let BackupState::Damaged { what } = &entry.state else { return Ok(None) };
    if kept.protects(&shelf.name, &entry.stem) {
        return Ok(Some(PROTECTED.to_owned()));
    }
    if shelf.pending.iter().any(|pin| pin.kept == entry.stem) {
        return Ok(Some(format!("it is {}", Reason::BeforeSuddenChange)));
    }
    // Another program may have made an archive of another kind with the same stem.
    let is_alone = shelf.entries.iter().filter(|other| other.stem == entry.stem).count() == 1;
    let directory = destination.existing_volume_directory(&shelf.name)?;
    if !is_alone || !directory.is_some_and(|directory| is_removable(&*directory, &entry.stem)) {
        let files = entry.archive.with_file_name(format!("{}.*", entry.stem));
        let why = "no manifest says which files are its own; look at them, and remove them by hand";
        return Ok(Some(format!("it is damaged ({what}), and {why}: {}", files.display())));
    }
    Ok((!force).then(|| format!("it is damaged ({what}); --force removes it nevertheless")))
}

/// Why a backup must not be removed.
fn brake(reasons: &[Reason], force: bool) -> Option<String> {
    reasons.iter().find_map(|reason| match reason {
        Reason::Protected => Some(PROTECTED.to_owned()),
        Reason::BeforeSuddenChange | Reason::Locked { .. } => Some(format!("it is {reason}")),
        Reason::LastVerified | Reason::LastGood | Reason::LastWhole | Reason::LastOfReplaced { .. } if !force => {
            Some(format!("it is {reason}; --force removes it nevertheless"))
        }
        _ => None,
    })
}

/// The sets of which only some members would be removed.
fn torn_sets(
    destination: &Destination,
    shelf: &Shelf,
    stems: &[String],
    wanted: &Wanted,
    kept: &Kept,
) -> Result<Vec<String>, RemoveError> {
    let mut torn = Vec::new();
    for backup in shelf.backups.iter().filter(|backup| stems.contains(&backup.id)) {
        let Some(SetFacts { group, id, members }) = &backup.set else { continue };
        for member in members.iter().filter(|member| **member != shelf.name) {
            let Some(other) = Shelf::read(destination, member, kept)? else { continue };
            let of_set = other.backups.iter().find(|other| other.set.as_ref().is_some_and(|set| set.id == *id));
            let stays = of_set.filter(|of_set| !wanted.get(member).is_some_and(|stems| stems.contains(&of_set.id)));
            torn.extend(stays.map(|stays| {
                format!(
                    "{}: {} of the same set of the group {group} would stay; name {group}@DATE to remove the set, or \
                     --force",
                    backup.id, stays.id
                )
            }));
        }
    }
    Ok(torn)
}

fn carry_out(destination: &Destination, chosen: &[Removed]) -> Result<(), RemoveError> {
    let mut not_freed = None;
    let mut done = 0;
    for of_volume in chosen.chunk_by(|one, next| one.volume == next.volume) {
        let removed = remove_from(destination, of_volume);
        done += removed.count;
        match removed.failed {
            Some(source) => {
                let backup = chosen.get(done).map_or_else(String::new, |one| one.backup.clone());
                return Err(RemoveError::Failed { backup, source, removed: chosen[..done].to_vec() });
            }
            None => not_freed = not_freed.or(removed.freed.err()),
        }
    }
    not_freed.map_or(Ok(()), |source| Err(RemoveError::NotFreed { source, removed: chosen.to_vec() }))
}

/// What became of the removals from a volume.
struct RemovedFrom {
    /// The first of them that worked, or were done by another program.
    count: usize,
    /// Why the one behind them did not.
    failed: Option<StoreError>,
    freed: Result<Freed, StoreError>,
}

/// Removes backups of one volume, up to the first one that fails.
fn remove_from(destination: &Destination, chosen: &[Removed]) -> RemovedFrom {
    let name = chosen.first().map_or("", |one| one.volume.as_str());
    let volume = match destination.existing_volume_directory(name) {
        Ok(Some(volume)) => volume,
        // Another program removed it in the meantime.
        Ok(None) => return RemovedFrom { count: chosen.len(), failed: None, freed: Ok(Freed::default()) },
        Err(error) => return RemovedFrom { count: 0, failed: Some(error), freed: Ok(Freed::default()) },
    };
    let (mut removals, mut count, mut failed) = (Removals::of(&*volume), 0, None);
    for one in chosen {
        match removals.remove(&one.backup) {
            Ok(()) => count += 1,
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    RemovedFrom { count, failed, freed: removals.finish().and_then(|removal| removal.freed) }
}
