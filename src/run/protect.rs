//! Protects backups from retention.

use chrono::{DateTime, Utc};

use super::locate::{self, LocateError};
use super::prune::{Kept, Shelf};
use crate::error::with_causes;
use crate::outside::Clock;
use crate::store::Destination;
use crate::store::StoreError;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// The name matches no backup.
    #[error("{0}")]
    NoSuchBackup(String),
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Protects the backup that `spec` names, see [`locate::find`], or removes its protection; returns its stem.
pub fn set(destination: &Destination, spec: &str, protect: bool, clock: &dyn Clock) -> Result<String, ProtectError> {
    let _lock = destination.lock(clock.now())?;
    let (name, stem) = find(destination, spec, clock.now())?;
    let line = format!("{name}/{stem}");
    let mut protected = destination.protected()?;
    // Forget backups that were removed by hand.
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
        let shelf = Shelf::read(destination, name, &Kept::default());
        // Forget only those that certainly do not exist.
        !matches!(shelf, Ok(None))
            && !shelf.is_ok_and(|shelf| shelf.is_some_and(|s| s.entries.iter().all(|e| e.stem != stem)))
    })
}

/// The complete backup of this destination that `spec` names, see [`locate::find`]. Returns volume and stem.
fn find(destination: &Destination, spec: &str, now: DateTime<Utc>) -> Result<(String, String), ProtectError> {
    let wrong = |what: String| ProtectError::NoSuchBackup(what);
    let found = match locate::find(spec, Some(destination.root()), now) {
        Ok(found) => found,
        Err(LocateError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(wrong(with_causes(&error))),
    };
    let (directory, stem) = (found.files.directory().to_owned(), found.files.stem().to_owned());
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let shelf = if name.is_empty() { None } else { Shelf::read(destination, &name, &Kept::default())? };
    let is_here = |shelf: &Shelf| {
        let same = shelf.directory.canonicalize().is_ok_and(|here| directory.canonicalize().is_ok_and(|it| it == here));
        same && shelf.backups.iter().any(|backup| backup.id == stem)
    };
    if shelf.as_ref().is_some_and(is_here) {
        Ok((name, stem))
    } else {
        Err(wrong(format!("{stem} is no complete backup in {}; see `volbak list`", destination.root().display())))
    }
}
