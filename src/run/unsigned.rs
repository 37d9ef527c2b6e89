//! Plain backups where encrypted ones are expected: they have no signature, so that nothing shows who made them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::archive::kind::ArchiveKind;
use crate::config::Config;
use crate::encryption::keyring;
use crate::run::prune::Shelf;
use crate::shown::counted;
use crate::store::Backup;
use crate::store::api::Store;
use crate::store::catalog::{BackupState, CatalogEntry, list_volume};

/// What to know of the plain backups of a destination, or of some of its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainBackups {
    /// A line for each volume with a plain backup that is newer than an encrypted one.
    pub doubtful: Vec<String>,
    /// One line about all others, where encryption is expected.
    pub others: Option<String>,
}

impl PlainBackups {
    /// Those among `backups`. With `is_expected`, each should be encrypted.
    pub fn of(backups: impl IntoIterator<Item = Seen>, is_expected: bool) -> Self {
        let mut volumes: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for seen in backups {
            volumes.entry(seen.name.clone()).or_default().push(seen);
        }
        let mut doubtful = Vec::new();
        let mut others = Vec::new();
        for (name, backups) in volumes {
            let first_sealed = backups.iter().filter(|one| one.is_sealed).map(|one| one.started_at).min();
            let plain = backups.iter().filter(|one| !one.is_sealed);
            let (newer, older): (Vec<&Seen>, Vec<&Seen>) =
                plain.partition(|one| first_sealed.is_some_and(|first| first < one.started_at));
            if let Some(newest) = newer.iter().max_by_key(|one| one.started_at) {
                doubtful.push(match newer.len() - 1 {
                    0 => newest.told(Among::Earlier),
                    more => format!("{}; the same holds for {more} more of it", newest.told(Among::Earlier)),
                });
            }
            if !older.is_empty() {
                others.push(format!("{name} ({})", older.len()));
            }
        }
        Self { doubtful, others: if is_expected { about_others(&others) } else { None } }
    }

    /// All lines, the doubtful ones first.
    pub fn lines(&self) -> impl Iterator<Item = &String> {
        self.doubtful.iter().chain(&self.others)
    }
}

fn about_others(volumes: &[String]) -> Option<String> {
    const NAMED: usize = 5;
    if volumes.is_empty() {
        return None;
    }
    let mut names = volumes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = volumes.len().checked_sub(NAMED) {
        names += &format!(", {}", counted(more as u64, "more volume", "more volumes"));
    }
    Some(format!(
        "backups are not encrypted: {names}; they have no signature, and everybody who can read the destination can read them until \
         they are removed"
    ))
}

/// Whether each backup should be encrypted: the config or the keys of this process say so.
pub fn is_expected(config: Option<&Config>) -> bool {
    config.is_some_and(|config| config.archive.encryption.is_some()) || are_keys_given()
}

fn are_keys_given() -> bool {
    keyring::has_identities() || !keyring::signers().is_empty()
}

/// A complete backup, as far as its encryption matters.
#[derive(Clone, Debug)]
pub struct Seen {
    name: String,
    stem: String,
    started_at: DateTime<Utc>,
    is_sealed: bool,
}

impl Seen {
    /// `None` if the backup is not complete.
    pub fn of(entry: &CatalogEntry) -> Option<Self> {
        let BackupState::Complete { manifest } = &entry.state else { return None };
        Some(Self {
            name: entry.name.clone(),
            stem: entry.stem.clone(),
            started_at: manifest.started_at,
            is_sealed: manifest.kind().is_sealed(),
        })
    }

    fn told(&self, among: Among) -> String {
        let Self { name, stem, .. } = self;
        let why = match among {
            Among::Earlier => format!("and earlier backups of {name} are"),
            Among::Later => format!("and later backups of {name} are"),
            Among::Keys => "though keys for encrypted backups are given".to_owned(),
        };
        format!(
            "{stem} is not encrypted, {why}: it has no signature, so that anyone with write access to the destination may have made it"
        )
    }
}

/// The complete backups of these volumes.
pub(super) fn seen_of(shelves: &[Shelf]) -> impl Iterator<Item = Seen> {
    shelves.iter().flat_map(|shelf| &shelf.entries).filter_map(Seen::of)
}

/// Why a plain backup is told.
#[derive(Clone, Copy)]
enum Among {
    /// Earlier backups of the volume are encrypted.
    Earlier,
    Later,
    /// None is, and there are keys.
    Keys,
}

/// When the first encrypted one of these backups was begun.
pub(super) fn first_sealed(entries: &[CatalogEntry]) -> Option<DateTime<Utc>> {
    let started = entries.iter().filter_map(|entry| match &entry.state {
        BackupState::Complete { manifest } if manifest.kind().is_sealed() => Some(manifest.started_at),
        _ => None,
    });
    started.min()
}

/// What to know of a plain backup.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) line: String,
    /// It is newer than an encrypted one of its volume.
    pub(super) is_doubtful: bool,
}

/// What to know of a backup that was chosen among those of its volume, `entries`.
pub(super) fn note(chosen: &CatalogEntry, entries: &[CatalogEntry]) -> Option<Note> {
    note_of(chosen, first_sealed(entries))
}

/// The same, where it is known when the first encrypted backup of the volume was begun.
pub(super) fn note_of(chosen: &CatalogEntry, first_sealed: Option<DateTime<Utc>>) -> Option<Note> {
    let plain = Seen::of(chosen).filter(|chosen| !chosen.is_sealed)?;
    let among = match first_sealed {
        Some(first) if first < plain.started_at => Among::Earlier,
        Some(_) => Among::Later,
        None if are_keys_given() => Among::Keys,
        None => return None,
    };
    Some(Note { line: plain.told(among), is_doubtful: matches!(among, Among::Earlier) })
}

/// The same for a backup that was named by its path.
pub(super) fn note_beside(files: &Backup) -> Option<Note> {
    let seen = files.seen();
    let folder: &dyn Store = &**seen.folder();
    let is_sealed = |name: &String| ArchiveKind::of_name(name).is_some_and(|(_, kind)| kind.is_sealed());
    if files.kind().is_sealed() || !(are_keys_given() || folder.list().ok()?.files.iter().any(is_sealed)) {
        return None;
    }
    let entries = list_volume(folder, &files.volume()).ok()?;
    note(entries.iter().find(|entry| is_of(entry, files))?, &entries)
}

fn is_of(entry: &CatalogEntry, files: &Backup) -> bool {
    entry.stem == files.stem() && entry.files().kind() == files.kind()
}
