//! A store below a prefix of a bucket.
//!
//! What is staged belongs to this process: a short file is kept in memory, a long one is an upload in parts, which shows no
//! object until it is completed. A published file is one object, which is never written again; its key has to be unique to
//! its run, since no store's condition is relied on. What is set aside is an object under another name, and so is a staged
//! file that was announced.

mod cache;
mod catalogue;
mod connect;
mod file;
mod keys;
mod known;
mod lease;
mod locked;
mod locks;
mod names;
mod parts;
mod published;
mod reading;
mod seen;
mod states;
mod uploads;
mod versions;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use self::cache::Cache;
pub use self::connect::client;
pub(super) use self::connect::readable_credentials;
use self::connect::scope;
use self::file::{Stage, Staged};
use self::known::Known;
use self::locks::Locks;
pub(crate) use self::names::known_names;
use self::reading::{ObjectBlocks, stored};
use self::seen::Seen;
use super::api::{Folder, Listing, Lock, ObjectStates, Store, StoreFile, Writers};
use super::backup::RECORD;
use super::error::StoreError;
use super::local::TEMPORARY_PREFIX;
use super::open::OpenError;
use super::options::LockOptions;
use super::presence::Space;
use super::publication::PUBLISHED_WITHIN;
use super::shared::PARTS;
use crate::manifest::{LockedRecord, ObjectRecord};
use crate::objects::ObjectClient;
use crate::outside::{BlockRead, Traffic};
use crate::store::OWN_DIRECTORY;

/// An empty object that makes a folder of a prefix.
const FOLDER_MARK: &str = ".volbak-folder";
/// A longer object is not set aside: it would pass this host twice.
const MOST_SET_ASIDE: u64 = 64 << 20;

/// An announced file is abandoned after this time, by the store's clock. A run publishes in half of it or not at all.
const ABANDONED_AFTER: Duration = PUBLISHED_WITHIN.saturating_mul(2);

/// A prefix of a bucket.
#[derive(Debug)]
pub struct ObjectStore {
    client: Arc<ObjectClient>,
    stage: Arc<Stage>,
    /// The prefix with a slash at its end; empty for the whole bucket.
    prefix: String,
    path: PathBuf,
    cache: Arc<Cache>,
    locks: Arc<Locks>,
    known: Arc<Known>,
    /// What is looked at; `None` to ask the store for each file.
    seen: Option<Arc<Seen>>,
}

impl ObjectStore {
    /// The store at the client's prefix.
    pub fn new(client: ObjectClient) -> Self {
        let address = client.address().clone();
        let prefix = if address.prefix.is_empty() { String::new() } else { format!("{}/", address.prefix) };
        let path = PathBuf::from(address.to_string());
        let (stage, cache, locks, known) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
        Self { client: Arc::new(client), stage, prefix, path, cache, locks, known, seen: None }
    }

    /// Locks new backups.
    #[must_use]
    pub fn locking(self, options: Option<LockOptions>) -> Self {
        Self { locks: Arc::new(Locks::new(options)), ..self }
    }

    /// Keeps manifests and indexes that are read or written in this directory of this host.
    #[must_use]
    pub fn keeping_in(self, directory: &Path) -> Self {
        let scope = scope(self.client.settings(), self.client.address());
        Self { cache: Arc::new(Cache::new(directory, scope)), ..self }
    }

    fn at(&self, prefix: String, path: PathBuf, seen: Option<Arc<Seen>>) -> Folder {
        let (client, stage, cache) = (Arc::clone(&self.client), Arc::clone(&self.stage), Arc::clone(&self.cache));
        let (locks, known) = (Arc::clone(&self.locks), Arc::clone(&self.known));
        Arc::new(Self { client, stage, prefix, path, cache, locks, known, seen })
    }
}

fn opened(error: StoreError) -> OpenError {
    match error {
        StoreError::Io { path, source, .. } => OpenError::Io { path, source },
        other => OpenError::Io { path: PathBuf::new(), source: io::Error::other(other) },
    }
}

impl Store for ObjectStore {
    fn path(&self) -> &Path {
        &self.path
    }

    fn detached(&self) -> Folder {
        self.at(self.prefix.clone(), self.path.clone(), None)
    }

    fn survey(&self, below: &[String]) -> Result<Option<Folder>, StoreError> {
        let covers = match below {
            [alone] => format!("{}/", self.key(alone)?),
            _ => self.prefix.clone(),
        };
        if self.seen_of(&covers).is_some() {
            return Ok(Some(self.at(self.prefix.clone(), self.path.clone(), self.seen.clone())));
        }
        let seen = self.known.seen(&self.client, &covers, || Seen::look(&self.client, &self.cache, covers.clone()));
        let seen = seen.map_err(|error| self.failed("listing", "", error))?;
        Ok(Some(self.at(self.prefix.clone(), self.path.clone(), Some(seen))))
    }

    fn survey_anew(&self) -> Result<Option<Folder>, StoreError> {
        self.known.forget_survey();
        self.detached().survey(&[])
    }

    fn write_catalogue(&self) -> Result<(), StoreError> {
        seen::write_catalogue(&self.client, &self.cache)
            .map_err(|error| self.failed("writing", catalogue::FOLDER, error))
    }

    fn folder(&self, name: &str, make: bool) -> Result<Option<Folder>, StoreError> {
        let prefix = format!("{}/", self.key(name)?);
        // volbak's own folder needs no mark: it is there as soon as something is in it.
        if name == OWN_DIRECTORY || self.is_own() || self.known.has_folder(&prefix) {
            return Ok(Some(self.at(prefix, self.path.join(name), self.seen.clone())));
        }
        let mut is_there = match self.seen_of(&prefix) {
            Some(seen) => seen.starting_with(&prefix).next().is_some(),
            None => self.client.has_any(&prefix).map_err(|error| self.failed("listing", name, error))?,
        };
        if make && !is_there {
            let made = self.client.put(&format!("{prefix}{FOLDER_MARK}"), b"", false);
            made.map_err(|error| self.failed("making", name, error))?;
            is_there = true;
        }
        if is_there {
            self.known.add_folders([prefix.clone()]);
        }
        Ok(is_there.then(|| self.at(prefix, self.path.join(name), self.seen.clone())))
    }

    fn list(&self) -> Result<Listing, StoreError> {
        let found = match self.seen_of(&self.prefix) {
            Some(seen) => seen.folder(&self.prefix),
            None => self.client.list(&self.prefix, true).map_err(|error| self.failed("listing", "", error))?,
        };
        self.known.add_folders(found.prefixes.iter().cloned());
        let mut listing = Listing { staged: self.stage.names(&self.prefix), ..Listing::default() };
        for object in &found.objects {
            let name = &object.key[self.prefix.len()..];
            // An empty version is what remains of a removed file.
            let name = match versions::name_of(name).filter(|name| self.is_written_again(name)) {
                Some(_) if object.len == 0 => continue,
                version_of => version_of.unwrap_or(name),
            };
            match name.strip_prefix(TEMPORARY_PREFIX) {
                _ if name.is_empty() || name == FOLDER_MARK => {}
                Some(staged) => listing.staged.push(staged.to_owned()),
                None => listing.files.push(name.to_owned()),
            }
        }
        let folders = found.prefixes.iter().map(|prefix| prefix[self.prefix.len()..].trim_end_matches('/').to_owned());
        listing.folders = folders.filter(|name| !name.is_empty()).collect();
        Ok(listing.settled())
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let missing = || OpenError::Missing(self.path.join(name));
        let key = self.newest_key(name).map_err(opened)?.ok_or_else(missing)?;
        if let Some(seen) = self.seen_of(&key) {
            match seen.get(&key) {
                Some(object) => {
                    if let Some(opened) = self.read_seen(object) {
                        return Ok(opened);
                    }
                }
                // Only what is missing by its name is missing, but an archive has one name.
                None if !name.ends_with(RECORD) && seen.get(&format!("{key}{PARTS}")).is_none() => {}
                None => return Err(missing()),
            }
        }
        self.read_object(&key, name)
    }

    fn open_unread(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let (key, path) = (self.key(name).map_err(opened)?, self.path.join(name));
        if let Some(object) =
            self.seen_of(&key).and_then(|seen| seen.get(&key)).filter(|object| !object.etag.is_empty())
        {
            return Ok(Arc::new(self.blocks_of(object)));
        }
        if self.seen_of(&key).is_some_and(|seen| seen.get(&format!("{key}{PARTS}")).is_some()) {
            return Err(OpenError::Missing(path));
        }
        match self.client.head(&key) {
            Ok(Some(found)) => {
                Ok(Arc::new(ObjectBlocks::new(&self.client, stored(&self.client, key, found), Vec::new())))
            }
            Ok(None) => Err(OpenError::Missing(path)),
            Err(error) => Err(OpenError::Io { path, source: io::Error::other(error) }),
        }
    }

    fn open_staged(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        match self.stage.find(&self.key(name).map_err(opened)?) {
            Some(staged) => staged.read().map_err(|source| OpenError::Io { path: self.path.join(name), source }),
            None => self.read_object(&self.aside(name).map_err(opened)?, name),
        }
    }

    fn create(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        if self.is_there(&self.aside(name)?, name)? {
            return Err(StoreError::errno("making", &self.path.join(name))(Errno::EXIST));
        }
        self.staged(name, |staged| staged)
    }

    fn create_own(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        self.staged(name, Staged::own)
    }

    fn publish(&self, name: &str) -> Result<Option<ObjectRecord>, StoreError> {
        let (key, path) = (self.key(name)?, self.path.join(name));
        let staged = self.stage.find(&key);
        // Of the names of one run the manifest's is looked up, before anything of it is published.
        if !staged.as_ref().is_some_and(Staged::is_own) && self.is_there(&key, name)? {
            return Err(StoreError::errno("publishing", &path)(Errno::EXIST));
        }
        let published = match staged {
            Some(staged) => self.publish_staged(&key, name, &staged),
            None => self.publish_set_aside(&key, name),
        };
        published.map(Some)
    }

    fn objects(&self, start: &str) -> Result<Option<ObjectStates>, StoreError> {
        self.states(start).map(Some)
    }

    fn set_aside(&self, name: &str) -> Result<(), StoreError> {
        let (key, aside) = (self.key(name)?, self.aside(name)?);
        let failed = |error| self.failed("setting aside", name, error);
        let Some(content) = self.client.get(&key, MOST_SET_ASIDE).map_err(failed)? else {
            return Err(StoreError::errno("setting aside", &self.path.join(name))(Errno::NOENT));
        };
        self.discard(name)?;
        self.client.put(&aside, &content, false).map_err(failed)?;
        self.erase(&key, name)
    }

    fn put(&self, name: &str, bytes: &[u8], _: Writers) -> Result<(), StoreError> {
        let key = self.key(name)?;
        let written = if self.is_written_again(name) {
            versions::write(&self.client, &key, bytes)
        } else {
            self.client.put(&key, bytes, false).map(drop)
        };
        written.map_err(|error| self.failed("writing", name, error))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let (key, failed) = (self.key(name)?, |error| self.failed("removing", name, error));
        if self.is_written_again(name) {
            let versions = versions::list(&self.client, &key).map_err(failed)?;
            let removed = versions.iter().try_for_each(|version| self.erase(&version.key, name));
            if self.is_own() && matches!(removed, Err(StoreError::Held { .. } | StoreError::MayNotDelete(_))) {
                // The key of a host needs no right to delete.
                return versions::write(&self.client, &key, b"").map_err(failed);
            }
            removed?;
        }
        self.erase(&key, name)
    }

    fn discard(&self, name: &str) -> Result<(), StoreError> {
        if let Some(staged) = self.stage.take(&self.key(name)?) {
            let ended = staged.start_over().map_err(StoreError::io("removing", &self.path.join(name)));
            if !staged.is_announced() {
                return ended;
            }
            ended?;
        }
        self.erase(&self.aside(name)?, name)
    }

    /// An answered request is durable.
    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove_if_empty(&self) -> Result<bool, StoreError> {
        let listing = self.list()?;
        if !listing.files.is_empty() || !listing.staged.is_empty() || !listing.folders.is_empty() {
            return Ok(false);
        }
        let mark = format!("{}{FOLDER_MARK}", self.prefix);
        self.known.forget_folder(&self.prefix);
        self.client.delete(&mark, None).map_err(|error| self.failed("removing", "", error))?;
        Ok(true)
    }

    fn lock(&self, name: &str, holder: &str) -> Result<Lock, StoreError> {
        let key = self.key(name)?;
        lease::take(&self.client, &key, holder).map_err(|error| self.failed("locking", name, error))
    }

    fn is_local(&self) -> bool {
        false
    }

    fn refuses_to_replace(&self) -> bool {
        false
    }

    fn length(&self, name: &str) -> Option<u64> {
        self.length_of(name)
    }

    fn announce(&self, name: &str) -> Result<(), StoreError> {
        let (key, path) = (self.key(name)?, self.path.join(name));
        let Some(staged) = self.stage.find(&key) else {
            return Err(StoreError::errno("announcing", &path)(Errno::NOENT));
        };
        let bytes = staged.in_memory().map_err(StoreError::io("announcing", &path))?;
        // Before it is written: the answer may be lost.
        staged.set_announced();
        let written = self.client.put(&self.aside(name)?, &bytes, false);
        written.map(drop).map_err(|error| self.failed("announcing", name, error))
    }

    fn is_abandoned(&self, name: &str) -> Result<bool, StoreError> {
        let found = self.client.head(&self.aside(name)?).map_err(|error| self.failed("asking", name, error))?;
        Ok(found.is_none_or(|found| found.age.is_some_and(|age| age >= ABANDONED_AFTER)))
    }

    fn age(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        let found = self.client.head(&self.key(name)?).map_err(|error| self.failed("asking", name, error))?;
        Ok(found.and_then(|found| found.age))
    }

    fn lock_options(&self) -> Option<LockOptions> {
        self.locks.options()
    }

    fn lock_files(&self, stem: &str, lock: LockedRecord) -> Result<(), StoreError> {
        self.begin_lock(stem, lock)
    }

    fn check_removable(&self, name: &str) -> Result<(), StoreError> {
        let key = self.key(name)?;
        self.held_until(&key).map_or(Ok(()), |until| Err(StoreError::Held { path: self.path.join(name), until }))
    }

    fn end_dead_uploads(&self) -> Result<usize, StoreError> {
        self.abort_dead_uploads()
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.client.traffic())
    }

    fn used_bytes(&self) -> Result<u64, StoreError> {
        let found = self.client.list(&self.prefix, false).map_err(|error| self.failed("listing", "", error))?;
        Ok(found.objects.iter().map(|object| object.len).fold(0, u64::saturating_add))
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        Ok(None)
    }
}
