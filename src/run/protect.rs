//! Protects backups from retention.

use super::named::{self, Named, NamedError};
use super::prune::{Kept, Shelf};
use crate::outside::Clock;
use crate::store::Destination;

/// Protects the backup that `spec` names, see [`find`](super::locate::find), or removes its protection; returns its stem.
pub fn set(destination: &Destination, spec: &str, protect: bool, clock: &dyn Clock) -> Result<String, NamedError> {
    let _lock = destination.lock(clock.now())?;
    // What was protected may be damaged since.
    let find = if protect { named::find } else { named::find_even_damaged };
    let Named { volume: name, stem } = find(destination, spec, clock.now())?;
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
