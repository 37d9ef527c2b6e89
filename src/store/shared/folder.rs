//! A volume's folder in which archives may be composed.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::facts::SegmentFacts;
use super::file::SharedFile;
use super::free::free;
use super::index_file::{IndexFile, index_of};
use super::marks;
use super::names::{PARTS, SEGMENTS_FOLDER};
use super::reading::{SegmentsOf, hold_to_read, read_recipe};
use super::recipe::Recipe;
use super::segment::first_name;
use super::segments_now::SegmentsNow;
use crate::archive::kind::ArchiveKind;
use crate::manifest::{LockedRecord, ObjectRecord};
use crate::outside::{BlockRead, Composed, Parts, Traffic};
use crate::store::api::{Folder, Freed, Listing, Lock, ObjectStates, Store, StoreFile, Writers};
use crate::store::error::StoreError;
use crate::store::names::INDEX;
use crate::store::open::OpenError;
use crate::store::options::LockOptions;
use crate::store::presence::Space;

/// Shows the composed archives of the folder below it like others. New archives are composed only if it was told so.
#[derive(Debug)]
pub struct SharedFolder {
    below: Folder,
    composes: bool,
    /// The lengths of segments that were looked up.
    lengths: Mutex<HashMap<String, Option<u64>>>,
    facts: Arc<SegmentFacts>,
    /// Whether all is read from the store, and nothing from the cache of this host: verifications do so.
    is_detached: bool,
}

impl SharedFolder {
    /// Over the folder of a volume. With `composes`, new archives are composed.
    pub fn over(below: Folder, composes: bool) -> Folder {
        Arc::new(Self::new(below, composes))
    }

    fn new(below: Folder, composes: bool) -> Self {
        Self { below, composes, lengths: Mutex::default(), facts: Arc::default(), is_detached: false }
    }

    fn segments(&self) -> Result<Option<Folder>, StoreError> {
        self.below.folder(SEGMENTS_FOLDER, false)
    }

    /// The segments to be read: in an object store as one listing shows them.
    fn segments_to_read(&self) -> Result<Option<Folder>, StoreError> {
        let Some(segments) = self.segments()? else { return Ok(None) };
        Ok(Some(segments.survey(&[])?.unwrap_or(segments)))
    }

    /// The length of a segment, as it was when it was first asked for.
    fn segment_length(&self, segments: &dyn Store, name: &str) -> Option<u64> {
        let mut lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        // A listing may lack what was just written.
        let length = || segments.length(name).or_else(|| segments.detached().length(name));
        *lengths.entry(name.to_owned()).or_insert_with(length)
    }

    /// Whether the new file `name` will be composed, or may be.
    fn will_be_composed(&self, name: &str) -> bool {
        self.composes && may_be_composed(name)
    }

    /// The recipe of the archive `name`, all of whose segments are long enough; and their folder.
    fn recipe(&self, name: &str) -> Result<(Recipe, Option<Folder>), OpenError> {
        let path = self.path().join(name);
        let recipe = read_recipe(&*self.below, &format!("{name}{PARTS}")).map_err(|error| match error {
            OpenError::Missing(_) => OpenError::Missing(path),
            error => error,
        })?;
        let failed = |path: PathBuf, source| OpenError::Io { path, source };
        let segments_path = self.path().join(SEGMENTS_FOLDER);
        let segments = self.segments_to_read();
        let segments = segments.map_err(|error| failed(segments_path.clone(), io::Error::other(error)))?;
        for (segment, end) in recipe.segments.iter().zip(recipe.ends()) {
            let found = segments.as_ref().and_then(|segments| self.segment_length(&**segments, segment));
            let what = match found {
                Some(found) if found >= end => continue,
                Some(found) => format!("it has {found} bytes, and {name} needs {end} of it"),
                None => format!("it is missing, and {name} needs it"),
            };
            return Err(failed(segments_path.join(segment), io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        Ok((recipe, segments))
    }

    fn open_composed(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        // What is read is not freed. Before the recipe is read: it may be removed, but what it needs stays.
        let path = self.path().join(SEGMENTS_FOLDER);
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let segments = self.segments().map_err(|error| failed(io::Error::other(error)))?;
        let held = segments.map(|segments| hold_to_read(&*segments)).transpose().map_err(failed)?;
        let (recipe, segments) = self.recipe(name)?;
        let (is_remote, is_cached) = (!self.below.is_local(), !self.is_detached);
        let open = Box::new(SegmentsOf { segments, is_remote, is_cached, path: path.clone(), held });
        let Recipe { segments, places, len_bytes } = recipe;
        Ok(Arc::new(Composed(Arc::new(Parts::new(path, segments, places, len_bytes, open)))))
    }

    fn or_composed(
        &self,
        name: &str,
        opened: Result<Arc<dyn BlockRead>, OpenError>,
    ) -> Result<Arc<dyn BlockRead>, OpenError> {
        match opened {
            Err(OpenError::Missing(_)) if is_archive(name) => self.open_composed(name),
            Err(OpenError::Missing(_)) if name.ends_with(INDEX) => {
                index_of(&*self.below, name, self.open_composed(name)?)
            }
            opened => opened,
        }
    }

    /// The name that the published file has below.
    fn below(&self, name: &str) -> String {
        let parts = format!("{name}{PARTS}");
        let is_composed =
            may_be_composed(name) && self.below.length(name).is_none() && self.below.length(&parts).is_some();
        if is_composed { parts } else { name.to_owned() }
    }

    /// Does `work` with both names that the file may have.
    fn with_each(name: &str, work: impl Fn(&str) -> Result<(), StoreError>) -> Result<(), StoreError> {
        work(name)?;
        if may_be_composed(name) { work(&format!("{name}{PARTS}")) } else { Ok(()) }
    }
}

fn is_not_staged(folder: &dyn Store, name: &str) -> bool {
    matches!(folder.open_staged(name), Err(OpenError::Missing(_)))
}

fn is_archive(name: &str) -> bool {
    ArchiveKind::of_name(name).is_some()
}

/// Whether there may be a recipe instead of this file.
fn may_be_composed(name: &str) -> bool {
    is_archive(name) || name.ends_with(INDEX)
}

/// The stored text of the index `name` in the folder `volume`.
fn stored_text(volume: &Folder, name: &str) -> Option<Arc<dyn BlockRead>> {
    SharedFolder::new(Arc::clone(volume), false).open_composed(name).ok()
}

/// The name under which a file is shown.
fn shown_as(name: String) -> String {
    match name.strip_suffix(PARTS) {
        Some(name) if may_be_composed(name) => name.to_owned(),
        _ => name,
    }
}

impl Store for SharedFolder {
    fn path(&self) -> &Path {
        self.below.path()
    }

    fn path_of_staged(&self, name: &str) -> PathBuf {
        self.below.path_of_staged(name)
    }

    fn detached(&self) -> Folder {
        Arc::new(Self { is_detached: true, ..Self::new(self.below.detached(), self.composes) })
    }

    fn folder(&self, name: &str, make: bool) -> Result<Option<Folder>, StoreError> {
        self.below.folder(name, make)
    }

    fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = self.below.list()?;
        for names in [&mut listing.files, &mut listing.staged] {
            *names = std::mem::take(names).into_iter().map(shown_as).collect();
        }
        Ok(listing.settled())
    }

    fn survey(&self, below: &[String]) -> Result<Option<Folder>, StoreError> {
        Ok(self.below.survey(below)?.map(|seen| Self::over(seen, self.composes)))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.or_composed(name, self.below.open(name))
    }

    fn open_unread(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.or_composed(name, self.below.open_unread(name))
    }

    fn etag(&self, name: &str) -> Result<Option<String>, OpenError> {
        self.below.etag(&self.below(name))
    }

    fn open_staged(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.below.open_staged(name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        if !self.will_be_composed(name) {
            return self.below.create(name);
        }
        if is_archive(name) {
            return Ok(Box::new(SharedFile::create(&self.below, name, Arc::clone(&self.facts))?));
        }
        Ok(Box::new(IndexFile::create(&self.below, name, Arc::clone(&self.facts), stored_text)?))
    }

    fn create_own(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        if self.will_be_composed(name) { self.create(name) } else { self.below.create_own(name) }
    }

    fn resume(&self, name: &str) -> Result<Option<Box<dyn StoreFile>>, StoreError> {
        self.below.resume(name)
    }

    fn publish(&self, name: &str) -> Result<Option<ObjectRecord>, StoreError> {
        let parts = format!("{name}{PARTS}");
        if !may_be_composed(name) {
            return self.below.publish(name);
        }
        if !self.below.refuses_to_replace() {
            // Its name is that of a run, so that there is no other of it.
            let is_composed = |name| is_archive(name) || is_not_staged(&*self.below, name);
            return self.below.publish(if self.will_be_composed(name) && is_composed(name) { &parts } else { name });
        }
        // It has one of the two names.
        let is_composed = is_not_staged(&*self.below, name);
        let (own, other) = if is_composed { (parts.as_str(), name) } else { (name, parts.as_str()) };
        if self.below.length(other).is_some() {
            return Err(StoreError::Taken(self.path().join(other)));
        }
        self.below.publish(own)
    }

    fn objects(&self, start: &str) -> Result<Option<ObjectStates>, StoreError> {
        let Some(mut states) = self.below.objects(start)? else { return Ok(None) };
        for (name, state) in std::mem::take(&mut states.by_name) {
            // A file of its own comes before its list, also for a reader.
            let shown = states.by_name.entry(shown_as(name)).or_default();
            if shown.current.is_none() {
                *shown = state;
            }
        }
        Ok(Some(states))
    }

    fn is_half_published(&self, name: &str) -> bool {
        self.below.is_half_published(name)
            || (may_be_composed(name) && self.below.is_half_published(&format!("{name}{PARTS}")))
    }

    fn set_aside(&self, name: &str) -> Result<(), StoreError> {
        self.below.set_aside(&self.below(name))
    }

    fn put(&self, name: &str, bytes: &[u8], writers: Writers) -> Result<(), StoreError> {
        self.below.put(name, bytes, writers)
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        Self::with_each(name, |name| self.below.remove(name))
    }

    fn discard(&self, name: &str) -> Result<(), StoreError> {
        Self::with_each(name, |name| self.below.discard(name))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.below.sync()
    }

    fn remove_if_empty(&self) -> Result<bool, StoreError> {
        // It stays if it has segments, and with it the folder.
        if let Some(segments) = self.segments()? {
            segments.remove_if_empty()?;
        }
        self.below.remove_if_empty()
    }

    fn lock(&self, name: &str, holder: &str) -> Result<Lock, StoreError> {
        self.below.lock(name, holder)
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.below.space()
    }

    fn is_local(&self) -> bool {
        self.below.is_local()
    }

    fn refuses_to_replace(&self) -> bool {
        self.below.refuses_to_replace()
    }

    fn length(&self, name: &str) -> Option<u64> {
        let length = self.below.length(name);
        if length.is_some() || !may_be_composed(name) {
            return length;
        }
        // Otherwise each name that an archive might have is asked for.
        self.below.length(&format!("{name}{PARTS}"))?;
        if !is_archive(name) {
            return self.open(name).ok().map(|index| index.len_bytes());
        }
        self.recipe(name).ok().map(|(recipe, _)| recipe.len_bytes)
    }

    fn announce(&self, name: &str) -> Result<(), StoreError> {
        self.below.announce(name)
    }

    fn is_abandoned(&self, name: &str) -> Result<bool, StoreError> {
        self.below.is_abandoned(name)
    }

    fn end_dead_uploads(&self) -> Result<usize, StoreError> {
        self.below.end_dead_uploads()
    }

    fn used_bytes(&self) -> Result<u64, StoreError> {
        self.below.used_bytes()
    }

    fn traffic(&self) -> Option<Traffic> {
        self.below.traffic()
    }

    fn lock_options(&self) -> Option<LockOptions> {
        self.below.lock_options()
    }

    fn lock_files(&self, stem: &str, lock: LockedRecord) -> Result<(), StoreError> {
        self.below.lock_files(stem, lock)
    }

    fn check_removable(&self, name: &str) -> Result<(), StoreError> {
        self.below.check_removable(name)
    }

    fn is_still_there(&self) -> Result<bool, StoreError> {
        self.below.is_still_there()
    }

    fn new_bytes(&self, name: &str) -> Option<u64> {
        let stem = ArchiveKind::of_name(name).map(|(stem, _)| stem)?;
        let recipe = read_recipe(&*self.below, &format!("{name}{PARTS}")).ok()?;
        // The new segment has the date of the night.
        let start = first_name(stem);
        Some(recipe.parts().filter(|(segment, ..)| segment.starts_with(&start)).map(|(_, _, length)| length).sum())
    }

    fn segments_of(&self, name: &str) -> Result<Vec<String>, OpenError> {
        match read_recipe(&*self.below, &format!("{name}{PARTS}")) {
            Ok(recipe) => Ok(recipe.segments),
            Err(OpenError::Missing(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn leave_segments(&self, names: Option<Vec<String>>) {
        self.facts.leave(names);
    }

    fn know_segments(&self, recorded: &[(&str, &ObjectRecord)]) -> Vec<String> {
        self.facts.note_all(recorded);
        let segments = self.segments().ok().flatten();
        segments.map(|segments| SegmentsNow::of(&segments).overwritten(&self.facts)).unwrap_or_default()
    }

    fn confirm_segments(&self, names: &[String]) -> Result<BTreeMap<String, ObjectRecord>, StoreError> {
        // Where there is a lock, nothing is removed meanwhile.
        if self.below.refuses_to_replace() || !self.composes {
            return Ok(BTreeMap::new());
        }
        let needed = marks::confirm(&*self.below, names.iter().filter(|name| may_be_composed(name)))?;
        Ok(self.facts.objects_of(&needed))
    }

    fn age(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        self.below.age(name)
    }

    fn free_unneeded(&self) -> Result<Freed, StoreError> {
        if self.below.refuses_to_replace() { free(&*self.below) } else { marks::free(&*self.below) }
    }
}
