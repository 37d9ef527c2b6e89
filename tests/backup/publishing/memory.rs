//! A store in memory that loses what was not synced, and stops at any of its steps as a machine does whose power is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;
use volbak::archive::members::ArchiveFile;
use volbak::manifest::ObjectRecord;
use volbak::outside::BlockRead;
use volbak::store::StoreError;
use volbak::store::api::{Content, Folder, Listing, Lock, RunLock, Store, StoreFile, Writers};
use volbak::store::open::OpenError;
use volbak::store::presence::Space;

/// A staged or a published name of a folder.
type Name = (String, bool, String);
type Names = BTreeMap<Name, usize>;

/// One file: what was written, and how much of it survives a power cut.
#[derive(Clone, Debug, Default)]
struct Data {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

/// One change of a name, which a power cut may lose until the folder is synced.
#[derive(Clone, Debug)]
struct Change {
    folder: String,
    removed: Option<Name>,
    added: Option<(Name, usize)>,
}

#[derive(Clone, Debug, Default)]
struct World {
    files: Vec<Data>,
    names: Names,
    synced_names: Names,
    pending: Vec<Change>,
    folders: BTreeSet<String>,
    locks: BTreeSet<String>,
    /// Of each folder, who holds it: so many together, or one alone.
    held: BTreeMap<String, (usize, bool)>,
    steps: usize,
    stop_at: Option<usize>,
}

/// What a power cut leaves of the changes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    /// The bits say which of the changes of names, in their order, came to the disk; and files that were not synced have
    /// a half of what was written.
    Changes(u32),
    /// None of them; and files that were not synced are empty.
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    world: Arc<Mutex<World>>,
    /// `""` for the root.
    folder: String,
    path: PathBuf,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self::of(World::default())
    }

    fn of(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)), folder: String::new(), path: "/memory".into() }
    }

    fn lock_world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// From the step `stop_at` on, counted from 0, nothing works any more.
    pub(crate) fn stop_at(&self, stop_at: usize) {
        let mut world = self.lock_world();
        (world.steps, world.stop_at) = (0, Some(stop_at));
    }

    /// How many steps were made since [`Memory::stop_at`].
    pub(crate) fn steps(&self) -> usize {
        self.lock_world().steps
    }

    /// How many changes of names a power cut may lose now.
    pub(crate) fn unsynced(&self) -> usize {
        self.lock_world().pending.len()
    }

    /// A machine with the power cut now, and switched on again.
    pub(crate) fn after_power_cut(&self, left: Left) -> Self {
        let mut world = self.lock_world().clone();
        let mut names = std::mem::take(&mut world.synced_names);
        for (number, change) in std::mem::take(&mut world.pending).into_iter().enumerate() {
            if matches!(left, Left::Changes(bits) if bits >> number & 1 == 1) {
                // What is removed was there, unless the change that made it was lost.
                let was_there = change.removed.as_ref().is_none_or(|name| names.remove(name).is_some());
                if let Some((name, file)) = change.added.filter(|_| was_there) {
                    names.insert(name, file);
                }
            }
        }
        for file in &mut world.files {
            if file.synced.len() != file.bytes.len() {
                let kept = if matches!(left, Left::Nothing) { file.synced.len() } else { file.bytes.len() / 2 };
                file.bytes.truncate(kept.max(file.synced.len()));
            }
            file.synced.clone_from(&file.bytes);
        }
        (world.synced_names, world.names) = (names.clone(), names);
        (world.steps, world.stop_at) = (0, None);
        world.locks.clear();
        world.held.clear();
        Self::of(world)
    }

    fn step(&self, what: &'static str, name: &str) -> Result<MutexGuard<'_, World>, StoreError> {
        let mut world = self.lock_world();
        if world.stop_at.is_some_and(|stop_at| world.steps >= stop_at) {
            return Err(self.error(what, name, io::Error::other("the power is cut")));
        }
        world.steps += 1;
        Ok(world)
    }

    fn error(&self, what: &'static str, name: &str, source: io::Error) -> StoreError {
        StoreError::Io { what, path: self.path.join(name), source }
    }

    fn name(&self, staged: bool, name: &str) -> Name {
        (self.folder.clone(), staged, name.to_owned())
    }

    fn rename(&self, name: &str, (from, to): (bool, bool), replace: bool) -> Result<(), StoreError> {
        let mut world = self.step("renaming to", name)?;
        let (from, to) = (self.name(from, name), self.name(to, name));
        let failed = |errno: Errno| Err(self.error("renaming to", name, errno.into()));
        let Some(file) = world.names.get(&from).copied() else { return failed(Errno::NOENT) };
        if !replace && world.names.contains_key(&to) {
            return failed(Errno::EXIST);
        }
        world.change(&self.folder, Some(from), Some((to, file)));
        Ok(())
    }

    fn unlink(&self, staged: bool, name: &str) -> Result<(), StoreError> {
        let mut world = self.step("removing", name)?;
        let name = self.name(staged, name);
        if world.names.contains_key(&name) {
            world.change(&self.folder, Some(name), None);
        }
        Ok(())
    }
}

impl World {
    fn change(&mut self, folder: &str, removed: Option<Name>, added: Option<(Name, usize)>) {
        if let Some(name) = &removed {
            self.names.remove(name);
        }
        if let Some((name, file)) = &added {
            self.names.insert(name.clone(), *file);
        }
        self.pending.push(Change { folder: folder.to_owned(), removed, added });
    }
}

impl Store for Memory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn detached(&self) -> Folder {
        Arc::new(self.clone())
    }

    fn folder(&self, name: &str, make: bool) -> Result<Option<Folder>, StoreError> {
        let mut world = self.lock_world();
        let folder = format!("{}/{name}", self.folder);
        if make {
            world.folders.insert(folder.clone());
        }
        let is_there = world.folders.contains(&folder);
        let there = Self { world: Arc::clone(&self.world), folder, path: self.path.join(name) };
        Ok(is_there.then(|| Arc::new(there) as Folder))
    }

    fn list(&self) -> Result<Listing, StoreError> {
        let world = self.lock_world();
        let mut listing = Listing::default();
        for (folder, staged, name) in world.names.keys().filter(|(folder, _, _)| *folder == self.folder) {
            let _ = folder;
            if *staged { &mut listing.staged } else { &mut listing.files }.push(name.clone());
        }
        let below = format!("{}/", self.folder);
        let folders = world.folders.iter().filter_map(|folder| folder.strip_prefix(&below));
        listing.folders = folders.filter(|name| !name.contains('/')).map(str::to_owned).collect();
        Ok(listing)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let world = self.lock_world();
        let file = world.names.get(&self.name(false, name)).ok_or(OpenError::Missing(self.path.join(name)))?;
        Ok(Arc::new(world.files[*file].bytes.clone()))
    }

    fn open_staged(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let world = self.lock_world();
        let file = world.names.get(&self.name(true, name)).ok_or(OpenError::Missing(self.path.join(name)))?;
        Ok(Arc::new(world.files[*file].bytes.clone()))
    }

    fn create(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        let mut world = self.step("making", name)?;
        let staged = self.name(true, name);
        if world.names.contains_key(&staged) {
            return Err(self.error("making", name, Errno::EXIST.into()));
        }
        let file = world.files.len();
        world.files.push(Data::default());
        world.change(&self.folder, None, Some((staged, file)));
        Ok(Box::new(MemoryFile { store: self.clone(), name: name.to_owned(), file }))
    }

    fn publish(&self, name: &str) -> Result<Option<ObjectRecord>, StoreError> {
        self.rename(name, (true, false), false)?;
        Ok(None)
    }

    fn set_aside(&self, name: &str) -> Result<(), StoreError> {
        self.rename(name, (false, true), true)
    }

    fn put(&self, name: &str, bytes: &[u8], _: Writers) -> Result<(), StoreError> {
        self.discard(name)?;
        let file = self.create(name)?;
        file.write_all(bytes)?;
        file.settle(bytes.len() as u64)?;
        self.rename(name, (true, false), true)?;
        self.sync()
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.unlink(false, name)
    }

    fn discard(&self, name: &str) -> Result<(), StoreError> {
        self.unlink(true, name)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut world = self.step("syncing", "")?;
        let (synced, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut world.pending).into_iter().partition(|change| change.folder == self.folder);
        world.pending = pending;
        for Change { removed, added, .. } in synced {
            if let Some(name) = removed {
                world.synced_names.remove(&name);
            }
            world.synced_names.extend(added);
        }
        Ok(())
    }

    fn remove_if_empty(&self) -> Result<bool, StoreError> {
        let mut world = self.lock_world();
        let is_empty = !world.names.keys().any(|(folder, _, _)| *folder == self.folder);
        Ok(is_empty && world.folders.remove(&self.folder))
    }

    fn lock(&self, name: &str, holder: &str) -> Result<Lock, StoreError> {
        struct Held(Memory, String);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.lock_world().locks.remove(&self.1);
            }
        }
        let _ = holder;
        let taken = self.lock_world().locks.insert(name.to_owned());
        let held = || RunLock::new(Held(self.clone(), name.to_owned()));
        Ok(if taken { Lock::Taken(held()) } else { Lock::Held { by: String::new() } })
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        Ok(None)
    }

    fn free_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<bool, StoreError> {
        let mut world = self.step("freeing", name)?;
        let file = world.names.get(&self.name(false, name)).copied();
        let file = file.ok_or_else(|| self.error("freeing", name, Errno::NOENT.into()))?;
        let Data { bytes, synced } = &mut world.files[file];
        for range in ranges {
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            bytes[range.clone()].fill(0);
            // Whatever else comes to the disk, this may.
            synced[range].fill(0);
        }
        Ok(true)
    }

    fn hold(&self, alone: bool) -> Option<RunLock> {
        struct Holds(Memory, bool);
        impl Drop for Holds {
            fn drop(&mut self) {
                let mut world = self.0.lock_world();
                let Some(held) = world.held.get_mut(&self.0.folder) else { return };
                if self.1 {
                    held.1 = false;
                } else {
                    held.0 = held.0.saturating_sub(1);
                }
            }
        }
        let mut world = self.lock_world();
        let held = world.held.entry(self.folder.clone()).or_default();
        if held.1 || (alone && held.0 > 0) {
            return None;
        }
        if alone {
            held.1 = true;
        } else {
            held.0 += 1;
        }
        Some(RunLock::new(Holds(self.clone(), alone)))
    }
}

/// A staged file.
#[derive(Clone, Debug)]
struct MemoryFile {
    store: Memory,
    name: String,
    file: usize,
}

impl StoreFile for MemoryFile {
    fn writer(&self, _: Content) -> io::Result<Box<dyn ArchiveFile>> {
        Ok(Box::new(self.clone()))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.step("writing", &self.name)?.files[self.file].bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn start_over(&self) -> Result<(), StoreError> {
        self.store.step("emptying", &self.name)?.files[self.file].bytes.clear();
        Ok(())
    }

    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        Ok(Arc::new(self.store.lock_world().files[self.file].bytes.clone()))
    }

    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError> {
        let mut world = self.store.step("syncing", &self.name)?;
        let file = &mut world.files[self.file];
        file.synced.clone_from(&file.bytes);
        let found_bytes = file.bytes.len() as u64;
        let path = self.store.path.join(&self.name);
        if found_bytes == expected_bytes {
            Ok(())
        } else {
            Err(StoreError::WrongLength { path, found_bytes, expected_bytes })
        }
    }
}

impl Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        StoreFile::write_all(self, buf).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveFile for MemoryFile {}
