//! Lists the backups of a destination.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::api::{Folder, Listing, Store};
use super::at_once::AtOnce;
use super::backup::Backup;
use super::belongs::{is_image_index, kind_of_stem};
use super::destination::Destination;
use super::error::StoreError;
use super::names::{INDEX, MANIFEST};
use super::open::OpenError;
use super::remains::{cut_off, is_published};
use crate::archive::kind::ArchiveKind;
use crate::error::with_causes;
use crate::manifest::{MAX_BYTES, Manifest};
use crate::outside::BlockCursor;

/// Open volume directories per thread.
const DIRECTORIES_A_THREAD: usize = 4;
/// A longer manifest is parsed alone: parsing takes several times its length in memory.
const LARGE_BYTES: u64 = 8 << 20;
static LARGE: Mutex<()> = Mutex::new(());

/// Waits until no other large manifest is being parsed, if this one is large. Keep the guard until it is parsed.
pub fn turn_of(manifest_bytes: u64) -> Option<MutexGuard<'static, ()>> {
    (manifest_bytes > LARGE_BYTES).then(|| LARGE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A backup, or files that look like one.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogEntry {
    /// The volume: the name of its directory.
    pub name: String,
    /// The common start of its file names.
    pub stem: String,
    /// The archive.
    pub archive: PathBuf,
    /// The archive's length on disk; `None` if it is missing or no file.
    pub archive_bytes: Option<u64>,
    /// Its state.
    pub state: BackupState,
    #[serde(skip)]
    files: Backup,
}

impl CatalogEntry {
    /// Its manifest, if it is complete.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            BackupState::Complete { manifest } => Some(manifest),
            _ => None,
        }
    }

    /// The handle of its files.
    pub fn files(&self) -> Backup {
        self.files.clone()
    }
}

/// The state of a backup, found without reading its archive.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BackupState {
    /// The manifest is valid, and the archive has the length it states.
    Complete {
        /// The manifest.
        manifest: Box<Manifest>,
    },
    /// An archive without manifest and index: made by another program, usually the documented script.
    WithoutManifest,
    /// Something is wrong.
    Damaged {
        /// The problem, one line.
        what: String,
    },
}

/// A volume's directory, and a value for each of its backups.
#[derive(Clone, Debug)]
pub struct Volume<T> {
    /// The volume: the name of its directory.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
    /// Its backups by date; those without a readable manifest come first.
    pub backups: Vec<T>,
}

/// All backups of the destination, by volume and date.
pub fn list(destination: &Destination) -> Result<Vec<CatalogEntry>, StoreError> {
    let volumes = volumes(destination, &destination.volume_names()?, |entry| entry)?;
    Ok(volumes.into_iter().flat_map(|volume| volume.backups).collect())
}

/// The existing volumes among `names`, in this order, with the result of `each` for every backup. Reads many
/// backups in parallel and calls `each` in parallel. Results and errors are the same as in sequence.
pub fn volumes<T: Send>(
    destination: &Destination,
    names: &[String],
    each: impl Fn(CatalogEntry) -> T + Send + Sync,
) -> Result<Vec<Volume<T>>, StoreError> {
    let at_once = AtOnce::default();
    let destination = &destination.surveyed(names)?;
    let mut all = Vec::with_capacity(names.len());
    // A volume's directory is open while its backups are read.
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
            directories.push((name, to_look_at(&directory), directory));
        }
        let read = at_once.map(pieces, |(volume, stem)| {
            let (name, seen, directory): &(String, Folder, Folder) = &directories[volume];
            let entry = read_entry(&**directory, seen, name, stem);
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

/// The backups of one volume by date; those without a manifest come first.
pub fn list_volume(volume: &dyn Store, name: &str) -> Result<Vec<CatalogEntry>, StoreError> {
    let surveyed = volume.survey(&[])?;
    let seen = surveyed.clone().unwrap_or_else(|| volume.detached());
    let volume = surveyed.as_deref().unwrap_or(volume);
    let mut entries = AtOnce::default().map(stems(volume)?, |stem| read_entry(volume, &seen, name, stem));
    entries.sort_by_key(started_at);
    Ok(entries)
}

/// A stem, and what its archive is; `None` without an archive.
type Stem = (String, Option<ArchiveKind>);

/// The stems of a volume's backups, sorted. One is there twice if another program made an archive of another kind.
fn stems(volume: &dyn Store) -> Result<Vec<Stem>, StoreError> {
    let listing = volume.list()?;
    // The remains of an interrupted run are no backup, not even a damaged one; the next run removes them.
    let cut_off: HashSet<&str> = cut_off(&listing).collect();
    let is_remain =
        |stem: &str, kind: ArchiveKind| cut_off.contains(stem) && is_own(volume, &listing, stem, kind.suffix());
    let mut stems: BTreeMap<&str, Vec<ArchiveKind>> = BTreeMap::new();
    for name in listing.files.iter().chain(&listing.folders) {
        if let Some((stem, kind)) = ArchiveKind::of_name(name) {
            if !is_remain(stem, kind) {
                stems.entry(stem).or_default().push(kind);
            }
        } else if let Some(stem) = name.strip_suffix(MANIFEST) {
            stems.entry(stem).or_default();
        }
    }
    let of_stem = |(stem, kinds): (&str, Vec<ArchiveKind>)| -> Vec<Stem> {
        let without = kinds.is_empty().then_some((stem.to_owned(), None));
        kinds.into_iter().map(|kind| (stem.to_owned(), Some(kind))).chain(without).collect()
    };
    Ok(stems.into_iter().flat_map(of_stem).collect())
}

/// Whether a published archive of this stem belongs to the staged manifest.
fn is_own(volume: &dyn Store, listing: &Listing, stem: &str, suffix: &str) -> bool {
    let archive = format!("{stem}{suffix}");
    let is_foreign = listing.has_staged(&archive) && !volume.is_half_published(&archive);
    // The listing may be stale.
    !is_foreign && !is_published(volume, &format!("{stem}{MANIFEST}")).unwrap_or(true)
}

/// The sort key of backups.
fn started_at(entry: &CatalogEntry) -> Option<DateTime<Utc>> {
    match &entry.state {
        BackupState::Complete { manifest } => Some(manifest.started_at),
        _ => None,
    }
}

/// The folder for later looks: a surveyed one, or one without a descriptor.
fn to_look_at(directory: &Folder) -> Folder {
    if directory.is_local() { directory.detached() } else { Arc::clone(directory) }
}

fn read_entry(volume: &dyn Store, seen: &Folder, name: &str, (stem, kind): Stem) -> CatalogEntry {
    let kind = kind.unwrap_or_else(|| kind_of_stem(volume, &stem));
    let files = Backup::new(volume.detached(), stem.clone(), kind).with_survey(Arc::clone(seen));
    let archive_bytes = length(volume, &stem, kind);
    let state = read_state(volume, &stem, kind, archive_bytes);
    CatalogEntry { name: name.to_owned(), stem, archive: files.archive_path(), archive_bytes, state, files }
}

/// The length of an archive; `None` if it is missing or no file.
fn length(volume: &dyn Store, stem: &str, kind: ArchiveKind) -> Option<u64> {
    volume.length(&format!("{stem}{}", kind.suffix()))
}

fn read_state(volume: &dyn Store, stem: &str, kind: ArchiveKind, archive_bytes: Option<u64>) -> BackupState {
    let damaged = |what: String| BackupState::Damaged { what };
    let file = match volume.open(&format!("{stem}{MANIFEST}")) {
        Ok(file) => file,
        Err(OpenError::Missing(_)) => {
            // Only volbak writes an index, so the manifest was lost or removed.
            if kind.is_sealed() {
                return damaged("the manifest is missing".to_owned());
            }
            return match volume.open(&format!("{stem}{INDEX}")) {
                // That of the other archive with this stem.
                Ok(index) if is_image_index(&*index) != kind.is_image() => BackupState::WithoutManifest,
                Ok(_) => damaged("the manifest is missing, and its index is there".to_owned()),
                Err(_) => BackupState::WithoutManifest,
            };
        }
        Err(error) => return damaged(with_causes(&StoreError::from(error))),
    };
    // Large manifests are parsed one after another.
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
    if manifest.kind() != kind {
        let other = manifest.kind();
        return match length(volume, stem, other) {
            Some(_) => BackupState::WithoutManifest,
            None => damaged(format!("its manifest is that of {stem}{}, which is missing", other.suffix())),
        };
    }
    match archive_bytes {
        None => match volume.open(&format!("{stem}{}", kind.suffix())) {
            Err(error @ OpenError::Io { .. }) => damaged(with_causes(&error)),
            _ => damaged("the archive is missing, or is no file".to_owned()),
        },
        Some(found) if found != manifest.sizes.archive_bytes => {
            damaged(format!("the archive has {found} bytes; the manifest says {}", manifest.sizes.archive_bytes))
        }
        Some(_) if manifest.stem != stem => damaged(format!("the manifest is that of {}", manifest.stem)),
        Some(_) => BackupState::Complete { manifest: Box::new(manifest) },
    }
}
