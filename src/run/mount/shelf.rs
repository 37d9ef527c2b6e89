//! The backups that are served: their names, and the content of those used last.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::contents::Contents;
use super::error::ContentsError;
use crate::archive::read::anywhere::MemberCache;
use crate::error::with_causes;
use crate::events::{Observer, Severity};
use crate::outside::Cancel;
use crate::run::collect::tell;
use crate::run::locate::{bad_note, typed};
use crate::store::catalog::{BackupState, list_volume};
use crate::store::{Backup, Destination};

/// How long a listing of the destination is used.
const LISTED_FOR: Duration = Duration::from_secs(5);
/// The entries and members of the backups that are kept.
const KEPT_LINES: u64 = 4 << 20;

/// A volume or a backup, in the list that each keeps its number in.
pub(super) type Number = u32;

/// All that is served.
pub(super) struct Shelf {
    destination: Option<Destination>,
    cache: Arc<MemberCache>,
    observer: Arc<dyn Observer>,
    listing: Mutex<Listing>,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Listing {
    volumes: Vec<Volume>,
    backups: Vec<Shelved>,
    listed: Option<Instant>,
}

struct Volume {
    name: String,
    /// The backups that were there when it was listed last.
    backups: Vec<Number>,
    listed: Option<Instant>,
}

#[derive(Clone)]
struct Shelved {
    name: String,
    volume: Number,
    files: Backup,
    began: SystemTime,
}

impl Shelved {
    /// Whether the files of this name are those of another backup by now.
    fn is_replaced(&self) -> bool {
        self.files.manifest().is_some_and(|manifest| SystemTime::from(manifest.started_at) != self.began)
    }
}

#[derive(Default)]
struct Loaded {
    kept: HashMap<Number, (Arc<Contents>, u64)>,
    uses: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    pub(super) fn of_destination(
        destination: Destination,
        cache: Arc<MemberCache>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let (listing, loaded) = (Mutex::default(), Mutex::default());
        Self { destination: Some(destination), cache, observer, listing, loaded }
    }

    /// One backup, which is read now.
    pub(super) fn of_backup(
        files: Backup,
        cache: Arc<MemberCache>,
        observer: Arc<dyn Observer>,
        cancel: &Cancel,
    ) -> Result<Self, ContentsError> {
        let contents = Contents::load(&files, &cache, cancel)?;
        let began = files.manifest().map_or(SystemTime::UNIX_EPOCH, |manifest| manifest.started_at.into());
        let shelved = Shelved { name: files.stem().to_owned(), volume: 0, files, began };
        let shelf = Self {
            destination: None,
            cache,
            observer,
            listing: Mutex::new(Listing { volumes: Vec::new(), backups: vec![shelved], listed: None }),
            loaded: Mutex::default(),
        };
        let contents = Arc::new(contents);
        shelf.say_left_out(0, &contents);
        lock(&shelf.loaded).kept.insert(0, (contents, 0));
        Ok(shelf)
    }

    /// Whether it is a single backup, whose number is 0.
    pub(super) fn is_backup(&self) -> bool {
        self.destination.is_none()
    }

    /// The volumes, with their numbers.
    pub(super) fn volumes(&self) -> io::Result<Vec<(Number, String)>> {
        let mut listing = lock(&self.listing);
        if let Some(destination) = &self.destination
            && listing.listed.is_none_or(|listed| listed.elapsed() > LISTED_FOR)
        {
            for name in destination.volume_names().map_err(io::Error::other)? {
                if !listing.volumes.iter().any(|volume| volume.name == name) {
                    listing.volumes.push(Volume { name, backups: Vec::new(), listed: None });
                }
            }
            listing.listed = Some(Instant::now());
        }
        Ok((0..).zip(listing.volumes.iter().map(|volume| volume.name.clone())).collect())
    }

    /// The backups of a volume that can be read, with their numbers. A backup keeps its number while it is mounted.
    pub(super) fn backups(&self, volume: Number) -> io::Result<Vec<(Number, String)>> {
        let mut listing = lock(&self.listing);
        let Listing { volumes, backups, .. } = &mut *listing;
        let (Some(of_volume), Some(destination)) = (volumes.get_mut(volume as usize), &self.destination) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if of_volume.listed.is_none_or(|listed| listed.elapsed() > LISTED_FOR) {
            let directory = destination.existing_volume_directory(&of_volume.name).map_err(io::Error::other)?;
            let entries = match directory {
                Some(directory) => list_volume(&*directory, &of_volume.name).map_err(io::Error::other)?,
                None => Vec::new(),
            };
            of_volume.backups.clear();
            for entry in entries {
                let typed = typed(&of_volume.name, &entry);
                // The volume's name may contain an `@`, too.
                let date = typed.strip_prefix(&of_volume.name).and_then(|rest| rest.strip_prefix('@'));
                let name = date.unwrap_or(&entry.stem).to_owned();
                let files = entry.files();
                let BackupState::Complete { manifest } = entry.state else { continue };
                let began = SystemTime::from(manifest.started_at);
                // Another backup may get the name of one that was removed.
                let is_same = |known: &Shelved| known.volume == volume && known.files == files && known.began == began;
                let known = backups.iter().position(is_same);
                let at = known.unwrap_or_else(|| {
                    backups.push(Shelved { name, volume, files, began });
                    backups.len() - 1
                });
                of_volume.backups.extend(Number::try_from(at));
            }
            of_volume.listed = Some(Instant::now());
        }
        let named = |number: &Number| Some((*number, backups.get(*number as usize)?.name.clone()));
        Ok(of_volume.backups.iter().filter_map(named).collect())
    }

    /// The name of a volume.
    pub(super) fn is_volume(&self, volume: Number) -> bool {
        lock(&self.listing).volumes.len() > volume as usize
    }

    fn shelved(&self, backup: Number) -> Option<Shelved> {
        lock(&self.listing).backups.get(backup as usize).cloned()
    }

    /// The volume of a backup, and when the backup began.
    pub(super) fn origin(&self, backup: Number) -> Option<(Number, SystemTime)> {
        let listing = lock(&self.listing);
        listing.backups.get(backup as usize).map(|shelved| (shelved.volume, shelved.began))
    }

    /// The backup, for messages.
    pub(super) fn shown(&self, backup: Number) -> String {
        self.shelved(backup).map_or_else(String::new, |shelved| shelved.files.stem().to_owned())
    }

    /// The content of a backup, read if it is not there.
    pub(super) fn contents(&self, backup: Number) -> io::Result<Arc<Contents>> {
        // Others wait: two would read the same index.
        let mut loaded = lock(&self.loaded);
        loaded.uses += 1;
        let now = loaded.uses;
        if let Some((contents, used)) = loaded.kept.get_mut(&backup) {
            *used = now;
            return Ok(Arc::clone(contents));
        }
        let shelved = self.shelved(backup).ok_or(io::ErrorKind::NotFound)?;
        if shelved.is_replaced() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(note) = bad_note(&shelved.files) {
            tell(&*self.observer, Severity::Warning, shelved.files.stem().to_owned(), note);
        }
        let contents = Contents::load(&shelved.files, &self.cache, &Cancel::default()).map_err(|error| {
            tell(&*self.observer, Severity::Error, shelved.files.stem().to_owned(), with_causes(&error));
            io::Error::other(error)
        })?;
        let contents = Arc::new(contents);
        self.say_left_out(backup, &contents);
        loaded.kept.insert(backup, (Arc::clone(&contents), now));
        while loaded.kept.len() > 1
            && loaded.kept.values().map(|(contents, _)| contents.lines()).sum::<u64>() > KEPT_LINES
        {
            let oldest = loaded.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number);
            oldest.and_then(|oldest| loaded.kept.remove(&oldest));
        }
        Ok(contents)
    }

    fn say_left_out(&self, backup: Number, contents: &Contents) {
        let count = contents.left_out();
        if count > 0 {
            let what = format!("{count} of its entries have paths that cannot be served, or that another entry has");
            tell(&*self.observer, Severity::Warning, self.shown(backup), what);
        }
    }
}
