//! A backup: the files with one stem.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::api::{Folder, ObjectState, ObjectStates, Writers};
use super::belongs::{is_image_index, kind_of_manifest, kind_of_stem};
use super::error::StoreError;
use super::local::LocalStore;
use super::names::{CHECKSUM, INDEX, MANIFEST, SEGMENTS, SIGNATURE, checksum_line, index_suffix};
use super::open::OpenError;
use super::shared::{PARTS, SharedFolder, changed_segments};
use super::unread::{Refused, Unread};
use crate::archive::kind::ArchiveKind;
use crate::encryption::{LockedError, Opened, keyring};
use crate::manifest::{MAX_BYTES, Manifest, ManifestError, ObjectRecord, UnsealError};
use crate::outside::{BlockCursor, BlockRead};
use crate::shown;

/// The suffix of the verification record.
pub const RECORD: &str = ".verified.json";
/// A checksum file is one short line; a longer file is something else.
const MAX_CHECKSUM_BYTES: u64 = 64 << 10;
/// Far above the length of a verification record.
const MAX_RECORD_BYTES: u64 = 4 << 20;

/// The handle of a backup's files, whether they exist or not: archive, checksum, index, manifest and verification
/// record. All of them are opened through it.
#[derive(Clone)]
pub struct Backup {
    folder: Folder,
    /// The folder as it was when the backup was found.
    seen: Option<Folder>,
    stem: String,
    kind: ArchiveKind,
    unread: Option<Arc<Unread>>,
}

/// Why a small file of a backup cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was opened, but reading failed.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// It is longer than such a file can be.
    #[error("it cannot be read: it is longer than such a file can be")]
    TooLong,
    /// Its content is no valid manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is encrypted.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
}

/// The backup is an image, and what is asked for needs an archive of files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is the image of a whole volume, and this needs an archive of files: restore its files with \
     `volbak restore BACKUP --to DIRECTORY`", .0.display()
)]
pub struct IsImage(pub PathBuf);

impl Backup {
    /// Fails for an image.
    pub fn require_files(&self) -> Result<(), IsImage> {
        match self.kind {
            ArchiveKind::Files(_) | ArchiveKind::SealedFiles(_) => Ok(()),
            ArchiveKind::Image | ArchiveKind::SealedImage => Err(IsImage(self.archive_path())),
        }
    }

    /// The backup in `directory` whose file names start with `stem`; of the kind whose archive is there.
    pub fn in_directory(directory: impl AsRef<Path>, stem: impl Into<String>) -> Self {
        let (folder, stem) = (folder_at(directory.as_ref()), stem.into());
        let kind = kind_of_stem(&*folder, &stem);
        Self::new(folder, stem, kind)
    }

    /// The backup of this kind in `folder` whose file names start with `stem`.
    pub fn new(folder: Folder, stem: String, kind: ArchiveKind) -> Self {
        Self { folder, seen: None, stem, kind, unread: None }
    }

    /// The same, and `seen` is a survey of its folder.
    pub(crate) fn with_survey(self, seen: Folder) -> Self {
        Self { seen: Some(seen), ..self }
    }

    /// The same backup as it was when it was found, to be read with fewer requests: what this host has of it is not read
    /// from the store. A verification reads the store.
    pub(crate) fn seen(&self) -> Self {
        let folder = self.seen.as_ref().unwrap_or(&self.folder);
        Self { folder: Arc::clone(folder), ..self.clone() }
    }

    /// The backup of the archive, or of its list of parts, at this path; `None` if the name is not that of an archive.
    pub fn of_archive(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (stem, kind) = ArchiveKind::of_name(name.strip_suffix(PARTS).unwrap_or(name))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(Self::new(folder_at(directory), stem.to_owned(), kind))
    }

    /// The common start of its file names.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// What its archive is.
    pub fn kind(&self) -> ArchiveKind {
        self.kind
    }

    /// The folder of its files.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// The name of its volume: the name of its directory.
    pub fn volume(&self) -> String {
        let directory = self.directory().file_name().map(|name| shown::bytes(name.as_encoded_bytes()));
        // An archive in the working directory: the stem without the date.
        directory.unwrap_or_else(|| self.stem.clone())
    }

    /// The archive's path.
    pub fn archive_path(&self) -> PathBuf {
        self.path_of(self.kind.suffix())
    }

    /// The checksum's path.
    pub fn checksum_path(&self) -> PathBuf {
        self.path_of(CHECKSUM)
    }

    /// The index's path.
    pub fn index_path(&self) -> PathBuf {
        self.path_of(index_suffix(self.kind))
    }

    /// The manifest's path.
    pub fn manifest_path(&self) -> PathBuf {
        self.path_of(MANIFEST)
    }

    /// The verification record's path.
    pub fn record_path(&self) -> PathBuf {
        self.path_of(RECORD)
    }

    fn path_of(&self, suffix: &str) -> PathBuf {
        self.directory().join(format!("{}{suffix}", self.stem))
    }

    fn open(&self, suffix: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let opened = self.folder.open(&format!("{}{suffix}", self.stem));
        match &self.unread {
            Some(unread) => unread.watch(self.path_of(suffix), suffix, opened),
            None => opened,
        }
    }

    /// The same backup, which notes what of its files cannot be read.
    pub(crate) fn watched(&self) -> (Self, Arc<Unread>) {
        let unread = Arc::new(Unread::default());
        (Self { unread: Some(Arc::clone(&unread)), ..self.clone() }, unread)
    }

    /// What could not be read, if nothing of the backup is certainly lost.
    pub(crate) fn uncertain(&self, unread: &Unread) -> Vec<Refused> {
        unread.uncertain(|suffix| self.folder.open(&format!("{}{suffix}", self.stem)))
    }

    /// Opens the archive to read its contents. Fails if it is encrypted and there is no key.
    pub fn open_archive(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        if self.kind.is_sealed() {
            self.require_key()?;
        }
        self.open_stored_archive()
    }

    /// Opens the archive as it is stored.
    pub fn open_stored_archive(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.open(self.kind.suffix())
    }

    /// Fails if this process has no key for the backup. Without a valid manifest any key is tried.
    fn require_key(&self) -> Result<(), OpenError> {
        let locked = match self.read_public_manifest().map(Manifest::unsealed) {
            Ok(Err(UnsealError::Locked { why, .. })) => why,
            Err(_) if !keyring::has_identities() => LockedError::NoIdentity,
            _ => return Ok(()),
        };
        Err(self.encrypted(self.archive_path(), locked))
    }

    fn encrypted(&self, path: PathBuf, source: LockedError) -> OpenError {
        let record = self.read_public_manifest().ok().and_then(|manifest| manifest.encryption);
        OpenError::Encrypted { path, recipients: record.map(|record| record.recipients).unwrap_or_default(), source }
    }

    /// The path of the table of segments of an encrypted archive.
    pub(crate) fn segments_path(&self) -> PathBuf {
        self.path_of(SEGMENTS)
    }

    /// The path of the manifest's signature.
    pub(crate) fn signature_path(&self) -> PathBuf {
        self.path_of(SIGNATURE)
    }

    /// Opens the table of segments of an encrypted archive.
    pub(crate) fn open_segments(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.open(SEGMENTS)
    }

    /// Reads the manifest's signature.
    pub(crate) fn read_signature(&self) -> Result<Vec<u8>, ReadError> {
        self.read(SIGNATURE, MAX_CHECKSUM_BYTES)
    }

    /// Opens the index as it is stored: that of an encrypted backup is encrypted.
    pub(crate) fn open_stored_index(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        if self.kind.is_sealed() { self.open(index_suffix(self.kind)) } else { self.open_index() }
    }

    /// Opens the archive for its length alone and for what [`BlockRead::object`] says: nothing of it is read.
    pub(crate) fn open_archive_unread(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.folder.open_unread(&format!("{}{}", self.stem, self.kind.suffix()))
    }

    /// The objects of its files and their versions; `None` without an object store.
    pub(crate) fn objects(&self) -> Result<Option<ObjectStates>, StoreError> {
        self.folder.objects(&format!("{}.", self.stem))
    }

    /// The ETag of its archive, or of the list of its parts; `None` if its store has none.
    pub(crate) fn archive_etag(&self) -> Result<Option<String>, OpenError> {
        self.folder.etag(&format!("{}{}", self.stem, self.kind.suffix()))
    }

    /// Of these segments, those that are other objects by now.
    pub(crate) fn changed_segments(
        &self,
        recorded: &BTreeMap<String, ObjectRecord>,
    ) -> Result<Vec<(String, ObjectState)>, StoreError> {
        changed_segments(&*self.folder, recorded)
    }

    /// Bytes of its archive that were new in its night; `None` if it shares none with others.
    pub(crate) fn new_bytes(&self) -> Option<u64> {
        self.folder.new_bytes(&format!("{}{}", self.stem, self.kind.suffix()))
    }

    /// The names of the segments that its archive and its index refer to.
    pub(crate) fn segments(&self) -> Result<Vec<String>, OpenError> {
        let of = |suffix| self.seen().folder.segments_of(&format!("{}{suffix}", self.stem));
        Ok([of(self.kind.suffix())?, of(index_suffix(self.kind))?].concat())
    }

    /// Whether its files are in a directory of this host.
    pub(crate) fn is_local(&self) -> bool {
        self.folder.is_local()
    }

    /// Writes the checksum file of a backup that was made without the SHA-1 of its archive, unless it is there.
    pub(crate) fn add_checksum(&self, archive_sha1: &str) -> Result<(), StoreError> {
        let name = format!("{}{CHECKSUM}", self.stem);
        if self.folder.length(&name).is_some() {
            return Ok(());
        }
        self.folder.put(&name, checksum_line(&self.stem, self.kind, archive_sha1).as_bytes(), Writers::Many)
    }

    /// Opens the index, decrypted.
    pub fn open_index(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        if self.kind.is_sealed() {
            let opened = Opened::new(self.open(index_suffix(self.kind))?);
            let index = opened.map_err(|why| self.encrypted(self.index_path(), why))?;
            return Ok(Arc::new(index));
        }
        let index = self.open(INDEX)?;
        // One that belongs to an archive of another kind with the same stem.
        let is_other = if is_image_index(&*index) == self.kind.is_image() {
            let of_manifest = || self.open(MANIFEST).ok().and_then(kind_of_manifest);
            self.has_archive(|kind| kind.mode() == self.kind.mode())
                && of_manifest().is_some_and(|kind| kind != self.kind)
        } else {
            self.has_other_archive()
        };
        if is_other { Err(OpenError::Missing(self.index_path())) } else { Ok(index) }
    }

    /// The length of the manifest in bytes; 0 if it is missing.
    pub fn manifest_bytes(&self) -> u64 {
        self.open(MANIFEST).map_or(0, |manifest| manifest.len_bytes())
    }

    /// Reads the manifest with all its facts. The error says why it is missing or invalid, or cannot be decrypted.
    pub fn read_manifest(&self) -> Result<Manifest, ReadError> {
        Ok(self.read_public_manifest()?.unsealed()?)
    }

    /// Reads the manifest; facts that are encrypted are missing in it.
    pub fn read_public_manifest(&self) -> Result<Manifest, ReadError> {
        let manifest = Manifest::from_bytes(&self.read(MANIFEST, MAX_BYTES)?)?;
        if manifest.kind() != self.kind && self.has_other_archive() {
            return Err(OpenError::Missing(self.manifest_path()).into());
        }
        Ok(manifest)
    }

    /// Reads the bytes of the manifest, valid or not.
    pub(crate) fn read_manifest_bytes(&self) -> Result<Vec<u8>, ReadError> {
        self.read(MANIFEST, MAX_BYTES)
    }

    /// The manifest, if it exists and is valid; facts that are encrypted may be missing in it.
    pub fn manifest(&self) -> Option<Manifest> {
        self.read_manifest().or_else(|_| self.read_public_manifest()).ok()
    }

    /// Reads the checksum file.
    pub fn read_checksum(&self) -> Result<Vec<u8>, ReadError> {
        let checksum = self.read(CHECKSUM, MAX_CHECKSUM_BYTES)?;
        let is_of = |kind: ArchiveKind| {
            checksum.trim_ascii_end().ends_with(format!("{}{}", self.stem, kind.suffix()).as_bytes())
        };
        if ArchiveKind::ALL.into_iter().any(|kind| kind != self.kind && is_of(kind)) && self.has_other_archive() {
            return Err(OpenError::Missing(self.checksum_path()).into());
        }
        Ok(checksum)
    }

    /// Reads the verification record.
    pub fn read_record(&self) -> Result<Vec<u8>, ReadError> {
        self.read(RECORD, MAX_RECORD_BYTES)
    }

    /// Writes or replaces the verification record. Needs no lock: of several writers the last wins.
    pub fn write_record(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.folder.put(&format!("{}{RECORD}", self.stem), bytes, Writers::Many)
    }

    /// Whether an archive of another kind has the same stem.
    fn has_other_archive(&self) -> bool {
        self.has_archive(|_| true)
    }

    /// Whether such an archive of another kind has the same stem.
    fn has_archive(&self, such: impl Fn(ArchiveKind) -> bool) -> bool {
        let others = ArchiveKind::ALL.into_iter().filter(|kind| *kind != self.kind && such(*kind));
        others.into_iter().any(|kind| self.folder.length(&format!("{}{}", self.stem, kind.suffix())).is_some())
    }

    /// Reads a small file.
    fn read(&self, suffix: &str, max_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        BlockCursor::new(self.open(suffix)?).take(max_bytes + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
        if bytes.len() as u64 > max_bytes { Err(ReadError::TooLong) } else { Ok(bytes) }
    }
}

/// The folder at a path.
fn folder_at(path: &Path) -> Folder {
    SharedFolder::over(Arc::new(LocalStore::by_path(path)), false)
}

impl PartialEq for Backup {
    fn eq(&self, other: &Self) -> bool {
        self.directory() == other.directory() && self.stem == other.stem && self.kind == other.kind
    }
}

impl Eq for Backup {}

impl fmt::Debug for Backup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Backup({})", self.archive_path().display())
    }
}

#[cfg(test)]
mod tests;
