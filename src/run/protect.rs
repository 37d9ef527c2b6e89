//! Keeping a backup out of retention's reach.

use chrono::NaiveDate;

use super::prune::Shelf;
use crate::outside::Clock;
use crate::store::StoreError;
use crate::store::local::Destination;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// It names no backup.
    #[error("{0}")]
    NoSuchBackup(String),
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Protects the backup that `spec` names, `VOLUME@DATE` (see [`find`]), or takes the protection away; gives its stem.
pub fn set(destination: &Destination, spec: &str, protect: bool, clock: &dyn Clock) -> Result<String, ProtectError> {
    let _lock = destination.lock(clock.now())?;
    let (name, stem) = find(destination, spec)?;
    let line = format!("{name}/{stem}");
    let mut protected = destination.protected()?;
    // What is gone in the meantime, removed by hand, needs no protection any more.
    protected.retain(|other| *other != line && is_there(destination, other));
    if protect {
        protected.push(line);
        protected.sort_unstable();
    }
    destination.set_protected(&protected)?;
    Ok(stem)
}

fn is_there(destination: &Destination, line: &str) -> bool {
    line.split_once('/').is_some_and(|(name, stem)| {
        let shelf = Shelf::read(destination, name, &[]);
        // Only what is surely gone is forgotten.
        !matches!(shelf, Ok(None))
            && !shelf.is_ok_and(|shelf| shelf.is_some_and(|s| s.entries.iter().all(|e| e.stem != stem)))
    })
}

/// The one complete backup that `spec` means: `VOLUME@YYYY-MM-DD`, `VOLUME@DD_MM_YYYY` or with `_HHMMSS` after that, as
/// in its files' names, or `VOLUME@last`. Gives the volume and the stem.
pub fn find(destination: &Destination, spec: &str) -> Result<(String, String), ProtectError> {
    let wrong = |what: String| ProtectError::NoSuchBackup(what);
    let Some((name, date)) = spec.rsplit_once('@') else {
        return Err(wrong(format!("{spec:?} names no backup: write VOLUME@DATE, like volume-1@2026-11-20")));
    };
    let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    let shelf = if is_plain { Shelf::read(destination, name, &[])? } else { None };
    let Some(shelf) = shelf else {
        return Err(wrong(format!("{} has no backups of {name:?}", destination.root().display())));
    };
    let stems: Vec<&str> = match NaiveDate::parse_from_str(date, "%Y-%m-%d") {
        Ok(day) => shelf.backups.iter().filter(|backup| backup.local_date == day).map(|b| b.id.as_str()).collect(),
        Err(_) if date == "last" => shelf.newest().map(|newest| newest.stem.as_str()).into_iter().collect(),
        Err(_) => {
            let stem = format!("{name}_{date}");
            shelf.backups.iter().map(|backup| backup.id.as_str()).filter(|id| *id == stem).collect()
        }
    };
    match stems[..] {
        [stem] => Ok((name.to_owned(), stem.to_owned())),
        [] => Err(wrong(format!("{name} has no complete backup of {date}; see `volbak list`"))),
        _ => Err(wrong(format!(
            "{name} has several backups of {date}: write the one that you mean as {}",
            stems
                .iter()
                .map(|stem| format!("{name}@{}", stem.strip_prefix(&format!("{name}_")).unwrap_or(stem)))
                .collect::<Vec<_>>()
                .join(" or ")
        ))),
    }
}
