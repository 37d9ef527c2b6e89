//! Which backups a destination has.

use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::api::{Folder, Listing, Store};
use super::at_once::AtOnce;
use super::backup::Backup;
use super::destination::Destination;
use super::error::StoreError;
use super::open::OpenError;
use super::pending::{ARCHIVE, INDEX, MANIFEST};
use super::remains::{cut_off, is_published};
use crate::error::with_causes;
use crate::manifest::{MAX_BYTES, Manifest};
use crate::outside::BlockCursor;

/// How many volumes' directories are open for each thread.
const DIRECTORIES_A_THREAD: usize = 4;
/// A manifest longer than this is read while no other such is: while it is understood it takes several times its length.
const LARGE_BYTES: u64 = 8 << 20;
static LARGE: Mutex<()> = Mutex::new(());

/// Waits until no other large manifest is read, if one of this length is large; kept until it is understood.
pub fn turn_of(manifest_bytes: u64) -> Option<MutexGuard<'static, ()>> {
    (manifest_bytes > LARGE_BYTES).then(|| LARGE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A backup, or what looks like one.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogEntry {
    /// The volume: its directory's name.
    pub name: String,
    /// What its files' names begin with.
    pub stem: String,
    /// The archive.
    pub archive: PathBuf,
    /// The archive's length on the disk; `None` when it is not there, or is no file.
    pub archive_bytes: Option<u64>,
    /// What is known of it.
    pub state: BackupState,
    #[serde(skip)]
    files: Backup,
}

impl CatalogEntry {
    /// The handle of its files.
    pub fn files(&self) -> Backup {
        self.files.clone()
    }
}

/// What is known of a backup without reading its archive.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BackupState {
    /// The manifest is there and unchanged, and the archive is as long as it says.
    Complete {
        /// The manifest.
        manifest: Box<Manifest>,
    },
    /// There is an archive, and neither manifest nor index: made by another program, the documented script above all.
    WithoutManifest,
    /// Something is wrong.
    Damaged {
        /// What, one line.
        what: String,
    },
}

/// A volume's directory, and what was made of each of its backups.
#[derive(Clone, Debug)]
pub struct Volume<T> {
    /// The volume: the directory's name.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
    /// Its backups in the order of their dates; those without a manifest that can be read come first.
    pub backups: Vec<T>,
}

/// All backups of the destination, by volume and stem; each volume's in the order of their dates.
pub fn list(destination: &Destination) -> Result<Vec<CatalogEntry>, StoreError> {
    let volumes = volumes(destination, &destination.volume_names()?, |entry| entry)?;
    Ok(volumes.into_iter().flat_map(|volume| volume.backups).collect())
}

/// The backups of the volumes called `names` that are there, in this order, and what `each` makes of them. Many are read
/// at once, and `each` is called for many at once; what comes out, an error too, is the same as one after another.
pub fn volumes<T: Send>(
    destination: &Destination,
    names: &[String],
    each: impl Fn(CatalogEntry) -> T + Send + Sync,
) -> Result<Vec<Volume<T>>, StoreError> {
    let at_once = AtOnce::default();
    let mut all = Vec::with_capacity(names.len());
    // Each has its directory open while its backups are read.
    for names in names.chunks(at_once.threads() * DIRECTORIES_A_THREAD) {
        let listed = at_once.map(names.to_vec(), |name| match destination.existing_volume_directory(&name)? {
            Some(directory) => Ok(Some((stems(&*directory)?, name, directory))),
            None => Ok(None),
        });
        let listed: Vec<Option<_>> = listed.into_iter().collect::<Result<_, StoreError>>()?;
        let mut pieces = Vec::new();
        let mut directories = Vec::new();
        for (stems, name, directory) in listed.into_iter().flatten() {
            pieces.extend(stems.into_iter().map(|stem| (directories.len(), stem)));
            directories.push((name, directory.detached(), directory));
        }
        let read = at_once.map(pieces, |(volume, stem)| {
            let (name, detached, directory): &(String, Folder, Folder) = &directories[volume];
            let entry = read_entry(&**directory, detached, name, stem);
            (volume, started_at(&entry), each(entry))
        });
        let mut of_volumes: Vec<Vec<_>> = directories.iter().map(|_| Vec::new()).collect();
        for (volume, date, made) in read {
            of_volumes[volume].push((date, made));
        }
        for ((name, directory, _), mut backups) in directories.into_iter().zip(of_volumes) {
            backups.sort_by_key(|(date, _)| *date);
            let backups = backups.into_iter().map(|(_, made)| made).collect();
            all.push(Volume { name, directory: directory.path().to_owned(), backups });
        }
    }
    Ok(all)
}

/// The backups of one volume, in the order of their dates; those without a manifest come first.
pub fn list_volume(volume: &dyn Store, name: &str) -> Result<Vec<CatalogEntry>, StoreError> {
    let (stems, detached) = (stems(volume)?, volume.detached());
    let mut entries = AtOnce::default().map(stems, |stem| read_entry(volume, &detached, name, stem));
    entries.sort_by_key(started_at);
    Ok(entries)
}

/// What the names of a volume's backups begin with, sorted.
fn stems(volume: &dyn Store) -> Result<Vec<String>, StoreError> {
    let listing = volume.list()?;
    // What a run was cut off at is no backup, whole or damaged: the next run removes it.
    let cut_off: HashSet<&str> = cut_off(&listing).filter(|stem| is_own(volume, &listing, stem)).collect();
    let names = listing.files.iter().chain(&listing.folders);
    let mut stems: Vec<String> = names
        .filter_map(|file| file.strip_suffix(ARCHIVE).or_else(|| file.strip_suffix(MANIFEST)))
        .filter(|stem| !cut_off.contains(stem))
        .map(str::to_owned)
        .collect();
    stems.sort_unstable();
    stems.dedup();
    Ok(stems)
}

/// Whether a published archive of this stem, whose manifest is staged, belongs to that manifest.
fn is_own(volume: &dyn Store, listing: &Listing, stem: &str) -> bool {
    let archive = format!("{stem}{ARCHIVE}");
    let is_foreign = listing.has_staged(&archive) && !volume.is_half_published(&archive);
    // A listing may be late.
    !is_foreign && !is_published(volume, &format!("{stem}{MANIFEST}")).unwrap_or(true)
}

/// What backups are sorted by.
fn started_at(entry: &CatalogEntry) -> Option<DateTime<Utc>> {
    match &entry.state {
        BackupState::Complete { manifest } => Some(manifest.started_at),
        _ => None,
    }
}

fn read_entry(volume: &dyn Store, detached: &Folder, name: &str, stem: String) -> CatalogEntry {
    let files = Backup::new(Arc::clone(detached), stem.clone());
    let archive_bytes = volume.open(&format!("{stem}{ARCHIVE}")).ok().map(|archive| archive.len_bytes());
    let state = read_state(volume, &stem, archive_bytes);
    CatalogEntry { name: name.to_owned(), stem, archive: files.archive_path(), archive_bytes, state, files }
}

fn read_state(volume: &dyn Store, stem: &str, archive_bytes: Option<u64>) -> BackupState {
    let damaged = |what: String| BackupState::Damaged { what };
    let file = match volume.open(&format!("{stem}{MANIFEST}")) {
        Ok(file) => file,
        Err(OpenError::Missing(_)) => {
            // An index is volbak's own: the manifest was lost, or taken away.
            return match volume.open(&format!("{stem}{INDEX}")) {
                Ok(_) => damaged("the manifest is missing, and its index is there".to_owned()),
                Err(_) => BackupState::WithoutManifest,
            };
        }
        Err(error) => return damaged(with_causes(&StoreError::from(error))),
    };
    // Those that take much memory are read one after another.
    let _turn = turn_of(file.len_bytes());
    let mut bytes = Vec::new();
    if let Err(error) = BlockCursor::new(file).take(MAX_BYTES + 1).read_to_end(&mut bytes) {
        return damaged(format!("the manifest cannot be read: {error}"));
    }
    if bytes.len() as u64 > MAX_BYTES {
        return damaged(format!("the manifest has more than {MAX_BYTES} bytes"));
    }
    let manifest = match Manifest::from_bytes(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => return damaged(with_causes(&error)),
    };
    match archive_bytes {
        None => damaged("the archive is missing, or is no file".to_owned()),
        Some(found) if found != manifest.sizes.archive_bytes => {
            damaged(format!("the archive has {found} bytes; the manifest says {}", manifest.sizes.archive_bytes))
        }
        Some(_) if manifest.stem != stem => damaged(format!("the manifest is that of {}", manifest.stem)),
        Some(_) => BackupState::Complete { manifest: Box::new(manifest) },
    }
}
