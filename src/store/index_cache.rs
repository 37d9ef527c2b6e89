//! What a host that can encrypt and not decrypt keeps of the last backup of each volume: its index and its manifest, in
//! plain text. The next backup carries forward by them. Without them everything is read once.
//!
//! Files: `FOLDER/VOLUME.index` and `FOLDER/VOLUME.manifest.json`, mode 0600 in a folder of mode 0700.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;
use super::open::{OpenError, open_regular};
use crate::manifest::{MAX_BYTES, Manifest};
use crate::outside::BlockRead;
use crate::outside::replaced::replace;

/// The folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexCache(PathBuf);

/// What is kept of a volume's last backup.
pub(crate) struct Kept {
    pub(crate) manifest: Manifest,
    pub(crate) index: Arc<dyn BlockRead>,
}

impl IndexCache {
    /// The cache in this folder, which may be missing.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    fn path(&self, volume: &str, suffix: &str) -> PathBuf {
        self.0.join(format!("{volume}{suffix}"))
    }

    /// What is kept of the backup of this volume with this manifest; `None` if that is nothing, or is damaged, or if another
    /// backup was the last one.
    pub(crate) fn of(&self, volume: &str, published: &Manifest) -> Option<Kept> {
        let bytes = open_regular(&self.path(volume, ".manifest.json")).ok()?;
        let len = usize::try_from(bytes.len_bytes()).ok().filter(|len| *len as u64 <= MAX_BYTES)?;
        let mut text = vec![0; len];
        bytes.read_at(0, &mut text).ok()?;
        // The table of segments has a digest of each byte, also where the archive has no SHA-1.
        let segments = |manifest: &Manifest| manifest.encryption.as_ref().map(|record| record.segments_sha256.clone());
        let is_of = |kept: &Manifest| {
            kept.stem == published.stem
                && kept.digests.archive_sha1 == published.digests.archive_sha1
                && segments(kept) == segments(published)
        };
        let manifest = Manifest::from_bytes(&text).ok().filter(is_of)?;
        let index = open_regular(&self.path(volume, ".index")).ok()?;
        Some(Kept { manifest, index })
    }

    /// Begins the index of a new backup of this volume.
    pub(super) fn begin(&self, volume: &str) -> Result<NewIndex, StoreError> {
        let failed = || StoreError::io("making the folder of indexes", &self.0);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(failed())?;
        let path = self.path(volume, ".index.new");
        let file = create(&path).map_err(StoreError::io("creating", &path))?;
        Ok(NewIndex { cache: self.clone(), volume: volume.to_owned(), path, file })
    }
}

/// A new file that only its owner can read, in place of one that is there.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The index of a backup that is being written. Dropping it before [`NewIndex::keep`] removes it.
#[derive(Debug)]
pub(super) struct NewIndex {
    cache: IndexCache,
    volume: String,
    path: PathBuf,
    file: File,
}

impl NewIndex {
    /// A writer at its end.
    pub(super) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// What was written.
    pub(super) fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        open_regular(&self.path)
    }

    /// Discards what was written.
    pub(super) fn start_over(&self) -> Result<(), StoreError> {
        let rewound = self.file.set_len(0).and_then(|()| io::Seek::rewind(&mut &self.file));
        rewound.map_err(StoreError::io("emptying", &self.path))
    }

    /// Keeps it, with the manifest, in place of what was kept before.
    pub(super) fn keep(&self, manifest: &[u8]) -> io::Result<()> {
        // The manifest has the digest of its index: after a crash between the two, they do not match, and are not used.
        fs::rename(&self.path, self.cache.path(&self.volume, ".index"))?;
        replace(&self.cache.path(&self.volume, ".manifest.json"), manifest, 0o600)
    }
}

impl Drop for NewIndex {
    fn drop(&mut self) {
        // After it was kept, there is none of this name.
        let _ = fs::remove_file(&self.path);
    }
}
