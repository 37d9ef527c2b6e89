//! A backup during writing: first staged, then published.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::NaiveDateTime;

use super::api::{Content, Folder, StoreFile};
use super::error::StoreError;
use super::index_cache::{IndexCache, NewIndex};
use super::names::{CHECKSUM, MANIFEST, SEGMENTS, SIGNATURE, SUFFIXES, files_of, index_suffix};
use super::open::OpenError;
use super::publication::Publication;
use super::{lock, stem};
use crate::archive::kind::ArchiveKind;
use crate::archive::members::{ArchiveFile, Hashing};
use crate::encryption::{Recipients, Signer, WrittenTable};
use crate::manifest::LockedRecord;
use crate::outside::{BlockCursor, BlockRead};

/// A staged backup. Dropping it before publication removes its files.
#[derive(Debug)]
pub struct PendingBackup {
    volume: Folder,
    stem: String,
    kind: ArchiveKind,
    archive: Box<dyn StoreFile>,
    index: Box<dyn StoreFile>,
    /// Of an encrypted backup.
    sealed: Option<SealedFiles>,
    lock: Option<LockedRecord>,
    is_published: bool,
}

/// What an encrypted backup has besides.
#[derive(Debug)]
struct SealedFiles {
    segments: Box<dyn StoreFile>,
    plain_index: NewIndex,
}

/// Arguments of [`PendingBackup::publish`].
#[derive(Debug)]
pub struct ToPublish<'a> {
    /// The content of the checksum file; `None` for no file.
    pub checksum: Option<&'a [u8]>,
    /// The content of the manifest.
    pub manifest: &'a [u8],
    /// The expected length of the archive.
    pub archive_bytes: u64,
    /// The expected length of the index.
    pub index_bytes: u64,
    /// What an encrypted backup has besides.
    pub sealed: Option<SealedToPublish<'a>>,
}

/// What an encrypted backup has besides.
#[derive(Debug)]
pub struct SealedToPublish<'a> {
    /// The signature of the manifest.
    pub signature: &'a [u8],
    /// The key of that signature.
    pub signer: &'a Signer,
    /// The expected length of the table of segments.
    pub segments_bytes: u64,
    /// The manifest with all facts, which this host keeps.
    pub kept: &'a [u8],
}

/// The result of [`PendingBackup::publish`].
#[derive(Debug)]
pub struct Published {
    /// The archive's path.
    pub archive: PathBuf,
    /// The manifest as it was published, if it is not the one that was given: in an object store it records the objects.
    pub manifest: Option<Vec<u8>>,
}

impl PendingBackup {
    /// Begins a backup of the volume `name` at the local time `local_now`, with an unused stem.
    /// An encrypted backup needs the cache of indexes.
    pub fn begin(
        volume: Folder,
        name: &str,
        local_now: NaiveDateTime,
        kind: ArchiveKind,
        cache: Option<&IndexCache>,
    ) -> Result<Self, StoreError> {
        let plain_index = cache.filter(|_| kind.is_sealed()).map(|cache| cache.begin(name)).transpose()?;
        let stem = stem::new(&*volume, name, local_now, &SUFFIXES)?;
        let lock = lock::begin_lock(&*volume, name, &stem, local_now.date(), MANIFEST)?;
        let created = |suffix: &str| {
            volume.create_own(&format!("{stem}{suffix}")).inspect_err(|_| {
                // The files are still empty; a failed removal would not change the error to report.
                for suffix in files_of(kind) {
                    let _ = volume.discard(&format!("{stem}{suffix}"));
                }
            })
        };
        let archive = volume.create_own(&format!("{stem}{}", kind.suffix()))?;
        let index = created(index_suffix(kind))?;
        let sealed = match plain_index {
            Some(plain_index) => Some(SealedFiles { segments: created(SEGMENTS)?, plain_index }),
            None => None,
        };
        Ok(Self { volume, stem, kind, archive, index, sealed, lock, is_published: false })
    }

    /// The common start of the four names.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The lock that its files get.
    pub fn lock(&self) -> Option<LockedRecord> {
        self.lock
    }

    /// A writer for the archive. With `share_blocks`, ranges in common with other files need not be copied.
    pub fn archive_writer(&self, share_blocks: bool) -> io::Result<Box<dyn ArchiveFile>> {
        self.archive.writer(Content::Archive { share_blocks })
    }

    /// A writer for the index; that of an encrypted backup goes to the cache of indexes first.
    pub fn index_writer(&self) -> io::Result<Box<dyn Write + Send>> {
        match &self.sealed {
            Some(sealed) => Ok(Box::new(sealed.plain_index.writer()?)),
            None => Ok(self.index.writer(Content::Index)?),
        }
    }

    /// A writer for the table of segments of an encrypted backup.
    pub fn segments_writer(&self) -> io::Result<Option<Box<dyn Write + Send>>> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        Ok(Some(sealed.segments.writer(Content::Index)?))
    }

    /// Encrypts the index, after it was written. Returns the digest and the length of what is published.
    pub fn seal_index(&self, recipients: &Recipients) -> Result<WrittenTable, StoreError> {
        let failed = |error| StoreError::io("encrypting the index in", self.volume.path())(error);
        let plain = self.read_index()?;
        let mut out = Hashing::new(self.index.writer(Content::Index).map_err(failed)?);
        recipients.seal_stream(BlockCursor::new(plain), &mut out).map_err(failed)?;
        let (sha256, bytes) = out.finish();
        Ok(WrittenTable { sha256, bytes })
    }

    /// Discards archive and index, to write both again. Their writers must be dropped before.
    pub fn start_over(&self) -> Result<(), StoreError> {
        self.archive.start_over()?;
        if let Some(sealed) = &self.sealed {
            sealed.segments.start_over()?;
            sealed.plain_index.start_over()?;
        }
        self.index.start_over()
    }

    /// Reads the index before it is published. Its writer must be dropped before.
    pub fn read_index(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        match &self.sealed {
            Some(sealed) => sealed.plain_index.read(),
            None => self.index.read(),
        }
    }

    /// Publishes the files after all are durable and have the expected lengths. After an error nothing is published, unless
    /// only the last step failed: making the names of the complete backup durable.
    pub fn publish(mut self, content: &ToPublish<'_>) -> Result<Published, StoreError> {
        let Self { volume, stem, kind, archive, index, sealed, .. } = &self;
        let name_of = |suffix: &str| format!("{stem}{suffix}");
        let written = |suffix: &str, bytes: &[u8]| -> Result<Box<dyn StoreFile>, StoreError> {
            let file = volume.create_own(&name_of(suffix))?;
            file.write_all(bytes)?;
            file.settle(bytes.len() as u64)?;
            Ok(file)
        };
        // Parallel syncs let the disk schedule all writes together.
        let signature = std::thread::scope(|scope| {
            let syncing = || StoreError::io("syncing", volume.path());
            let archive = std::thread::Builder::new()
                .name("sync".to_owned())
                .spawn_scoped(scope, || archive.settle(content.archive_bytes))
                .map_err(syncing())?;
            let index = index.settle(content.index_bytes);
            let checksum = content.checksum.map_or(Ok(()), |checksum| written(CHECKSUM, checksum).map(drop));
            let archive = archive.join().unwrap_or_else(|_| Err(syncing()(io::Error::other("its thread panicked"))));
            let signature = match (sealed, &content.sealed) {
                (Some(files), Some(content)) => {
                    let settled = files.segments.settle(content.segments_bytes);
                    settled
                        .and_then(|()| written(SIGNATURE, content.signature))
                        .map(|file| Some((file, content.signer)))
                }
                _ => Ok(None),
            };
            index.and(checksum).and(archive).and(signature)
        })?;
        let manifest = written(MANIFEST, content.manifest)?;
        let publication = Publication {
            volume,
            stem,
            kind: *kind,
            has_checksum: content.checksum.is_some(),
            manifest: &*manifest,
            manifest_bytes: content.manifest,
            signature: signature.as_ref().map(|(file, signer)| (&**file, *signer)),
        };
        let manifest = publication.publish()?;
        let archive = volume.path().join(name_of(kind.suffix()));
        self.is_published = true;
        if let (Some(files), Some(kept)) = (&self.sealed, content.sealed.as_ref().map(|sealed| sealed.kept)) {
            // Without it the next backup reads everything.
            let _ = files.plain_index.keep(kept);
        }
        Ok(Published { archive, manifest })
    }
}

impl Drop for PendingBackup {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        // The manifest last: it identifies the remains.
        for suffix in files_of(self.kind) {
            let _ = self.volume.discard(&format!("{}{suffix}", self.stem));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use chrono::NaiveDateTime;

    use super::{PendingBackup, ToPublish};
    use crate::archive::kind::ArchiveKind;
    use crate::store::Destination;
    use crate::store::StoreError;
    use crate::store::api::Folder;

    const PUBLISH: ToPublish<'_> =
        ToPublish { checksum: Some(b"sum"), manifest: b"{}", archive_bytes: 7, index_bytes: 5, sealed: None };

    fn noon() -> NaiveDateTime {
        "2026-11-20T12:00:00".parse().unwrap()
    }

    fn volume(root: &Path) -> Folder {
        Destination::open(root).unwrap().volume_directory("vol-1").unwrap()
    }

    fn pending(root: &Path) -> PendingBackup {
        let pending = PendingBackup::begin(volume(root), "vol-1", noon(), ArchiveKind::default(), None).unwrap();
        pending.archive_writer(true).unwrap().write_all(b"archive").unwrap();
        pending.index_writer().unwrap().write_all(b"index").unwrap();
        pending
    }

    fn names(root: &Path) -> Vec<String> {
        let listing = volume(root).list().unwrap();
        [listing.staged, listing.files].concat()
    }

    #[test]
    fn four_private_files_appear_and_a_second_backup_gets_the_time() {
        let dir = tempfile::tempdir().unwrap();
        pending(dir.path()).publish(&PUBLISH).unwrap();
        let path = pending(dir.path()).publish(&PUBLISH).unwrap().archive;
        assert!(path.ends_with("vol-1/vol-1_20_11_2026_120000.tar.gz"), "{}", path.display());
        pending(dir.path()).publish(&PUBLISH).unwrap();
        assert_eq!(names(dir.path()).len(), 12);
        for name in names(dir.path()) {
            let mode = fs::metadata(dir.path().join("vol-1").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
    }

    #[test]
    fn a_checksum_can_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        pending(dir.path()).publish(&ToPublish { checksum: None, ..PUBLISH }).unwrap();
        let expected = ["vol-1_20_11_2026.index", "vol-1_20_11_2026.manifest.json", "vol-1_20_11_2026.tar.gz"];
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_backup_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(pending(dir.path()));
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_another_length_than_was_written_is_not_published() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = ToPublish { archive_bytes: 8, ..PUBLISH };
        assert!(matches!(pending(dir.path()).publish(&wrong), Err(StoreError::WrongLength { found_bytes: 7, .. })));
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn nothing_existing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let pending = pending(dir.path());
        let foreign = dir.path().join("vol-1/vol-1_20_11_2026.tar.gz");
        fs::write(&foreign, "somebody else's").unwrap();
        pending.publish(&PUBLISH).unwrap_err();
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "somebody else's");
        assert_eq!(names(dir.path()), ["vol-1_20_11_2026.tar.gz"]);
    }
}
