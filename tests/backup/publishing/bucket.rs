//! A model of an object store, in which several processes make their requests in any order, time passes between any two of
//! them, and each process may be killed at any request. What was answered is there for all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;
use volbak::archive::members::ArchiveFile;
use volbak::manifest::ObjectRecord;
use volbak::outside::{BlockCursor, BlockRead};
use volbak::store::StoreError;
use volbak::store::api::{Content, Folder, Listing, Lock, RunLock, Store, StoreFile, Writers};
use volbak::store::open::OpenError;
use volbak::store::presence::Space;
use volbak::store::shared::{PARTS, Recipe};

use super::shared::Random;

/// The process that needs no turn: no other one is under way.
pub(crate) const ALONE: usize = usize::MAX;
const MANIFEST: &str = ".manifest.json";

#[derive(Debug, Default)]
struct World {
    /// By their keys: the bytes, and the minute of writing.
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    minute: u64,
    /// Whose turn it is.
    current: usize,
    under_way: BTreeSet<usize>,
    /// How many more requests each process makes.
    left: BTreeMap<usize, usize>,
    random: Random,
}

impl World {
    /// Fails if a backup refers to a segment that is not there.
    fn assert_whole(&self, what: &str) {
        for manifest in self.objects.keys().filter(|key| key.ends_with(MANIFEST) && !key.contains("/~")) {
            let (folder, name) = manifest.rsplit_once('/').unwrap();
            let recipe = format!("{folder}/{}.tar.gz{PARTS}", name.strip_suffix(MANIFEST).unwrap());
            let Some(text) = self.objects.get(&recipe) else { panic!("{what}: {recipe} is missing") };
            let index = recipe.replace(".tar.gz.parts", ".index");
            let of_index = self.objects.get(&format!("{index}{PARTS}"));
            assert!(of_index.is_some() || self.objects.contains_key(&index), "{what}: {index} is missing");
            for (text, _) in of_index.into_iter().chain([text]) {
                for segment in Recipe::parse(text).unwrap().segments {
                    let is_there = self.objects.contains_key(&format!("{folder}/segments/{segment}"));
                    assert!(is_there, "{what}: {segment} is missing, and {manifest} needs it");
                }
            }
        }
    }

    fn pass_time(&mut self) {
        if self.random.below(10) == 0 {
            self.minute += [1, 60, 600, 1500, 3000][self.random.below(5)];
        }
        let under_way: Vec<usize> = self.under_way.iter().copied().collect();
        // One goes on for a while, and the others are where they are.
        let goes_on = self.under_way.contains(&self.current) && self.random.below(40) > 0;
        if !under_way.is_empty() && !goes_on {
            self.current = under_way[self.random.below(under_way.len())];
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    world: Arc<(Mutex<World>, Condvar)>,
    process: usize,
    staged: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    prefix: String,
    path: PathBuf,
    /// Whether what was announced is taken for abandoned.
    is_old: bool,
}

impl Bucket {
    pub(crate) fn new(random: Random) -> Self {
        let world = World { random, ..World::default() };
        Self {
            world: Arc::new((Mutex::new(world), Condvar::new())),
            process: ALONE,
            staged: Arc::default(),
            prefix: String::new(),
            path: "/bucket".into(),
            is_old: false,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.0.lock().unwrap()
    }

    /// The bucket as a new process sees it, which is killed after so many requests.
    pub(crate) fn process(&self, process: usize, requests: usize) -> Self {
        let mut world = self.world();
        world.under_way.insert(process);
        world.left.insert(process, requests);
        world.current = process;
        drop(world);
        Self { process, staged: Arc::default(), ..self.clone() }
    }

    /// The same, after all runs.
    pub(crate) fn when_all_is_old(&self) -> Self {
        Self { is_old: true, ..self.clone() }
    }

    /// Ends this process.
    pub(crate) fn end(&self) {
        let mut world = self.world();
        world.under_way.remove(&self.process);
        world.pass_time();
        self.world.1.notify_all();
    }

    pub(crate) fn wait(&self, minutes: u64) {
        self.world().minute += minutes;
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.world().objects.keys().cloned().collect()
    }

    /// One request.
    fn ask<T>(&self, what: &str, carry_out: impl FnOnce(&mut World) -> T) -> Result<T, StoreError> {
        let mut world = self.world();
        if self.process != ALONE {
            while world.current != self.process {
                world = self.world.1.wait(world).unwrap();
            }
            let left = world.left.entry(self.process).or_default();
            if *left == 0 {
                return Err(self.failed(what, io::Error::other("the process was killed")));
            }
            *left -= 1;
        }
        let done = carry_out(&mut world);
        world.assert_whole(what);
        world.pass_time();
        self.world.1.notify_all();
        Ok(done)
    }

    fn failed(&self, name: &str, source: io::Error) -> StoreError {
        StoreError::Io { what: "asking for", path: self.path.join(name), source }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn aside(&self, name: &str) -> String {
        format!("{}~{name}", self.prefix)
    }

    fn staged(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.staged.lock().unwrap()
    }

    fn get(&self, key: &str, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let path = self.path.join(name);
        match self.ask(name, |world| world.objects.get(key).map(|(bytes, _)| bytes.clone())) {
            Ok(Some(bytes)) => Ok(Arc::new(bytes)),
            Ok(None) => Err(OpenError::Missing(path)),
            Err(error) => Err(OpenError::Io { path, source: io::Error::other(error) }),
        }
    }

    fn set(&self, key: String, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.ask(&key.clone(), |world| {
            let minute = world.minute;
            world.objects.insert(key, (bytes, minute));
        })
    }
}

impl Store for Bucket {
    fn path(&self) -> &Path {
        &self.path
    }

    fn detached(&self) -> Folder {
        Arc::new(self.clone())
    }

    fn folder(&self, name: &str, make: bool) -> Result<Option<Folder>, StoreError> {
        let there = Self { prefix: self.key(&format!("{name}/")), path: self.path.join(name), ..self.clone() };
        let is_there = make || self.world().objects.keys().any(|key| key.starts_with(&there.prefix));
        Ok(is_there.then(|| Arc::new(there) as Folder))
    }

    fn list(&self) -> Result<Listing, StoreError> {
        let keys: Vec<String> = self.ask("list", |world| world.objects.keys().cloned().collect())?;
        let mut listing = Listing::default();
        for name in keys.iter().filter_map(|key| key.strip_prefix(&self.prefix)) {
            match (name.split_once('/'), name.strip_prefix('~')) {
                (Some((folder, _)), _) => listing.folders.push(folder.to_owned()),
                (None, Some(name)) => listing.staged.push(name.to_owned()),
                (None, None) => listing.files.push(name.to_owned()),
            }
        }
        let staged = self.staged();
        let names = staged.keys().filter_map(|key| key.strip_prefix(&self.prefix));
        listing.staged.extend(names.filter(|name| !name.contains('/')).map(str::to_owned));
        for names in [&mut listing.files, &mut listing.staged, &mut listing.folders] {
            names.sort();
            names.dedup();
        }
        Ok(listing)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.get(&self.key(name), name)
    }

    fn open_staged(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        if let Some(bytes) = self.staged().get(&self.key(name)) {
            return Ok(Arc::new(bytes.clone()));
        }
        self.get(&self.aside(name), name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        self.staged().insert(self.key(name), Vec::new());
        Ok(Box::new(BucketFile { bucket: self.clone(), key: self.key(name) }))
    }

    fn publish(&self, name: &str) -> Result<Option<ObjectRecord>, StoreError> {
        let key = self.key(name);
        let missing = || self.failed(name, Errno::NOENT.into());
        let bytes = self.staged().get(&key).cloned().ok_or_else(missing)?;
        self.set(key.clone(), bytes)?;
        self.staged().remove(&key);
        Ok(None)
    }

    fn set_aside(&self, name: &str) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        BlockCursor::new(self.open(name)?).read_to_end(&mut bytes).map_err(|error| self.failed(name, error))?;
        self.set(self.aside(name), bytes)?;
        self.remove(name)
    }

    fn put(&self, name: &str, bytes: &[u8], _: Writers) -> Result<(), StoreError> {
        self.set(self.key(name), bytes.to_vec())
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let key = self.key(name);
        self.ask(name, |world| drop(world.objects.remove(&key)))
    }

    fn discard(&self, name: &str) -> Result<(), StoreError> {
        self.staged().remove(&self.key(name));
        let aside = self.aside(name);
        self.ask(name, |world| drop(world.objects.remove(&aside)))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove_if_empty(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn lock(&self, _: &str, _: &str) -> Result<Lock, StoreError> {
        Ok(Lock::Taken(RunLock::new(())))
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        Ok(None)
    }

    fn is_local(&self) -> bool {
        false
    }

    fn refuses_to_replace(&self) -> bool {
        false
    }

    fn announce(&self, name: &str) -> Result<(), StoreError> {
        let bytes = self.staged().get(&self.key(name)).cloned();
        self.set(self.aside(name), bytes.unwrap_or_default())
    }

    fn is_abandoned(&self, _: &str) -> Result<bool, StoreError> {
        Ok(self.is_old)
    }

    fn age(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        let key = self.key(name);
        self.ask(name, |world| {
            let (_, written) = world.objects.get(&key)?;
            Some(Duration::from_secs(60 * (world.minute - written)))
        })
    }
}

#[derive(Clone, Debug)]
struct BucketFile {
    bucket: Bucket,
    key: String,
}

impl StoreFile for BucketFile {
    fn writer(&self, _: Content) -> io::Result<Box<dyn ArchiveFile>> {
        Ok(Box::new(self.clone()))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bucket.staged().entry(self.key.clone()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn start_over(&self) -> Result<(), StoreError> {
        self.bucket.staged().insert(self.key.clone(), Vec::new());
        Ok(())
    }

    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        Ok(Arc::new(self.bucket.staged().get(&self.key).cloned().unwrap_or_default()))
    }

    fn settle(&self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Write for BucketFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        StoreFile::write_all(self, buf).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveFile for BucketFile {
    fn refer_to_range(&mut self, _: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
