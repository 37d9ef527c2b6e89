//! The history of files over the backups of a volume: when each version appeared, which backups have it, when it
//! vanished. Reads only manifests and indexes.

mod pattern;
mod scan;
mod versions;

use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use serde::Serialize;

pub use self::pattern::{BadFindPattern, PathPattern};
pub use self::scan::ScanError;
pub use self::versions::{Appearance, PathHistory, Step, Version};

use self::scan::scan;
use self::versions::{Facts, Histories};
use crate::error::with_causes;
use crate::manifest::Manifest;
use crate::outside::Cancel;
use crate::run::locate::typed;
use crate::run::restore::select::plain;
use crate::store::at_once::AtOnce;
use crate::store::catalog::{BackupState, CatalogEntry, list_volume};
use crate::store::{Backup, Destination, StoreError};

/// The memory for paths and versions.
const MAX_BYTES: usize = 256 << 20;

/// Why a search ended without a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The destination cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The matches would take too much memory.
    #[error("the matches would take more than {} MiB of memory: use a narrower pattern, or fewer volumes", MAX_BYTES >> 20)]
    TooMany,
    /// The command was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// A backup that could not be searched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotSearched {
    /// The backup, in a form that can be typed.
    pub backup: String,
    /// The reason.
    pub why: String,
}

/// The paths of one volume that match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VolumeHistory {
    /// The volume.
    pub volume: String,
    /// The number of backups that were searched.
    pub searched: usize,
    /// Backups that could not be searched: what they have is not known.
    pub not_searched: Vec<NotSearched>,
    /// The number of image backups: their indexes do not list files.
    pub images: usize,
    /// The matches, by path.
    pub paths: Vec<PathHistory>,
}

/// A backup to search.
struct Searched {
    typed: String,
    files: Backup,
    manifest: Box<Manifest>,
}

/// Searches the backups of `volume` that began at or after `since`, in the order of their dates. Many are read in
/// parallel. Memory: about 200 bytes and the path for each match, and 100 bytes for each of its versions.
pub fn history(
    destination: &Destination,
    volume: &str,
    pattern: &PathPattern,
    since: Option<DateTime<Utc>>,
    cancel: &Cancel,
) -> Result<VolumeHistory, HistoryError> {
    let mut result = VolumeHistory { volume: volume.to_owned(), ..VolumeHistory::default() };
    let Some(directory) = destination.existing_volume_directory(volume)? else { return Ok(result) };
    let mut backups = Vec::new();
    for entry in list_volume(&*directory, volume)? {
        match to_search(volume, entry, since) {
            Some(Ok(backup)) if backup.manifest.image.is_some() => result.images += 1,
            Some(Ok(backup)) => backups.push(backup),
            Some(Err(not_searched)) => result.not_searched.push(not_searched),
            None => {}
        }
    }
    let at_once = AtOnce::default();
    let used = AtomicUsize::new(0);
    let mut histories = Histories::default();
    let mut names = Vec::new();
    // What the first backup has is known when the others are read: only differences from it take memory then.
    let (first, others) = backups.split_at(backups.len().min(1));
    for together in first.chunks(1).chain(others.chunks(at_once.threads())) {
        used.store(histories.bytes(), Ordering::Relaxed);
        let found = at_once.map(together.iter().collect(), |backup: &Searched| {
            let mut sightings = Vec::new();
            let scanned = scan(&backup.files, &backup.manifest, pattern, cancel, |line| {
                let sighting = histories.sighting(plain(&line.path), Facts::of(&line));
                if used.fetch_add(sighting.bytes(), Ordering::Relaxed) <= MAX_BYTES {
                    sightings.push(sighting);
                }
            });
            scanned.map(|()| sightings)
        });
        if used.load(Ordering::Relaxed) > MAX_BYTES {
            return Err(HistoryError::TooMany);
        }
        for (backup, found) in together.iter().zip(found) {
            match found {
                Ok(sightings) => {
                    histories.add(names.len(), sightings);
                    let (backup, manifest) = (backup.typed.clone(), &backup.manifest);
                    names.push(Appearance { backup, began: manifest.started_at, partial: !manifest.is_whole() });
                }
                Err(ScanError::Interrupted) => return Err(HistoryError::Interrupted),
                Err(error) => {
                    let why = with_causes(&error);
                    result.not_searched.push(NotSearched { backup: backup.typed.clone(), why });
                }
            }
        }
        histories.settle();
    }
    result.searched = names.len();
    result.paths = histories.into_paths(&names);
    Ok(result)
}

/// The backup if it is to be searched, or why it cannot be.
fn to_search(volume: &str, entry: CatalogEntry, since: Option<DateTime<Utc>>) -> Option<Result<Searched, NotSearched>> {
    let typed = typed(volume, &entry);
    let files = entry.files().seen();
    let why = match entry.state {
        BackupState::Complete { manifest } => {
            if since.is_some_and(|since| manifest.started_at < since) {
                return None;
            }
            // The index of an encrypted backup is that of the facts which are encrypted, too.
            match manifest.unsealed() {
                Ok(manifest) => return Some(Ok(Searched { typed, files, manifest: Box::new(manifest) })),
                Err(error) => with_causes(&error),
            }
        }
        BackupState::WithoutManifest => "it has no index: another program made it".to_owned(),
        BackupState::Damaged { what } => format!("it is damaged: {what}"),
    };
    Some(Err(NotSearched { backup: typed, why }))
}
