//! Checks the destination, and the backups in it.

use chrono::{DateTime, Utc};

use super::finding::{Add, Answer};
use crate::config::Config;
use crate::error::with_causes;
use crate::run::next_room::next_bytes;
use crate::run::prune::Shelf;
use crate::shown::counted;
use crate::store::Destination;
use crate::store::catalog::BackupState;
use crate::store::presence::is_on_mount;
use crate::units::ByteLen;

/// Returns the backups in it, as far as they can be read.
pub(super) fn destination(config: &Config, now: DateTime<Utc>, add: &mut Add<'_>) -> Vec<Shelf> {
    let path = &config.backup_destination;
    let destination = match config.open_destination() {
        Ok(destination) => destination,
        Err(error) => {
            add("destination", Answer::Bad, with_causes(&error));
            return Vec::new();
        }
    };
    if !destination.is_local() {
        add(
            "destination",
            Answer::Good,
            format!("{} is in an object store: test it with `volbak store check`", path.display()),
        );
        return shelves(&destination, now, add);
    }
    match is_on_mount(path) {
        Ok(true) => add("destination", Answer::Good, format!("{} is on a mounted filesystem", path.display())),
        Ok(false) if config.require_mount => {
            let what = format!("neither {} nor a directory above it is a mount point", path.display());
            add("destination", Answer::Bad, what);
            return Vec::new();
        }
        Ok(false) => add("destination", Answer::Good, format!("{} is there (require_mount is off)", path.display())),
        Err(error) => add("destination", Answer::Bad, with_causes(&error)),
    }
    if rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_err() {
        add("destination", Answer::Bad, format!("{} cannot be written to", path.display()));
    }
    shelves(&destination, now, add)
}

/// The backups in it, and whether the next ones have room.
fn shelves(destination: &Destination, now: DateTime<Utc>, add: &mut Add<'_>) -> Vec<Shelf> {
    let found = Shelf::all(destination)
        .and_then(|shelves| Ok((shelves, destination.space()?.map(|space| space.available_bytes))));
    match found {
        Ok((shelves, free_bytes)) => {
            backups(&shelves, free_bytes, now, add);
            shelves
        }
        Err(error) => {
            add("destination", Answer::Bad, with_causes(&error));
            Vec::new()
        }
    }
}

/// `free_bytes` is `None` for an object store, which has no known limit.
fn backups(shelves: &[Shelf], free_bytes: Option<u64>, now: DateTime<Utc>, add: &mut Add<'_>) {
    let next_bytes = shelves.iter().filter_map(next_bytes).fold(0, u64::saturating_add);
    if let Some(free_bytes) = free_bytes {
        let answer = if free_bytes < next_bytes { Answer::Doubtful } else { Answer::Good };
        let what =
            format!("{} free; the last backups of all volumes took {}", ByteLen(free_bytes), ByteLen(next_bytes));
        add("destination", answer, what);
    }
    let count = |wanted: fn(&BackupState) -> bool| {
        shelves.iter().flat_map(|shelf| &shelf.entries).filter(|entry| wanted(&entry.state)).count()
    };
    let damaged = count(|state| matches!(state, BackupState::Damaged { .. }));
    if damaged > 0 {
        add("backups", Answer::Doubtful, format!("{damaged} are damaged; see volbak list"));
    }
    let foreign = count(|state| matches!(state, BackupState::WithoutManifest));
    if foreign > 0 {
        let what = format!(
            "{} no manifest (another program's), and none is ever removed",
            counted(foreign as u64, "archive has", "archives have")
        );
        add("backups", Answer::Doubtful, what);
    }
    let in_the_future = shelves.iter().filter_map(Shelf::newest).filter(|newest| newest.started_at > now).count();
    if in_the_future > 0 {
        add(
            "backups",
            Answer::Doubtful,
            format!(
                "{} a newest backup that is dated in the future",
                counted(in_the_future as u64, "volume has", "volumes have")
            ),
        );
    }
}
