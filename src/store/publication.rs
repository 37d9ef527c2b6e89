//! Publishes the staged files of a backup: the manifest, which makes it complete, is last.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::api::{Folder, StoreFile};
use super::error::StoreError;
use super::names::{CHECKSUM, MANIFEST, SIGNATURE, files_of, index_suffix};
use super::remains::is_published;
use crate::archive::kind::ArchiveKind;
use crate::encryption::Signer;
use crate::manifest::{Manifest, ObjectRecord, ObjectsRecord};
use crate::outside::host::uptime;

/// The time from the announcement of a manifest to its publication, at most. Half of the time after which another run takes
/// it for abandoned.
pub(super) const PUBLISHED_WITHIN: Duration = Duration::from_secs(3600);

/// The files of a backup, which are all staged and settled.
pub(super) struct Publication<'a> {
    pub(super) volume: &'a Folder,
    pub(super) stem: &'a str,
    pub(super) kind: ArchiveKind,
    pub(super) has_checksum: bool,
    /// The staged manifest.
    pub(super) manifest: &'a dyn StoreFile,
    /// What is in it.
    pub(super) manifest_bytes: &'a [u8],
    /// The staged signature of the manifest, and its key.
    pub(super) signature: Option<(&'a dyn StoreFile, &'a Signer)>,
}

impl Publication<'_> {
    /// Publishes the files. After an error nothing is published, unless only the last step failed: making the names of the
    /// complete backup durable.
    ///
    /// In an object store the manifest records the objects of the other files, which are known when those are published.
    /// Returns the manifest if it was changed so.
    pub(super) fn publish(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Self { volume, stem, kind, has_checksum, .. } = *self;
        let name_of = |suffix: &str| format!("{stem}{suffix}");
        let own = name_of(MANIFEST);
        if !volume.refuses_to_replace() && is_published(&**volume, &own)? {
            return Err(StoreError::Taken(volume.path().join(own)));
        }
        // After a crash from here on, the staged manifest identifies the remains for the next run.
        volume.announce(&own)?;
        volume.sync()?;
        let began = uptime();
        let mut published: Vec<String> = Vec::new();
        let mut objects = BTreeMap::new();
        let mut manifest = None;
        for suffix in files_of(kind).filter(|suffix| has_checksum || *suffix != CHECKSUM) {
            let name = name_of(suffix);
            // The signature is that of the last manifest.
            let is_last = suffix == SIGNATURE || (suffix == MANIFEST && !kind.is_sealed());
            let mut make_ready = || {
                let segments = if suffix == MANIFEST {
                    volume.confirm_segments(&[name_of(kind.suffix()), name_of(index_suffix(kind))])?
                } else {
                    BTreeMap::new()
                };
                if is_last && !objects.is_empty() {
                    manifest = self.record(std::mem::take(&mut objects), segments)?;
                }
                // Not every filesystem keeps the order of renames: the other names must be durable before the manifest's.
                if suffix == MANIFEST { in_time(volume, &name, began) } else { Ok(()) }
            };
            match make_ready().and_then(|()| volume.publish(&name)) {
                Ok(None) => {}
                Ok(Some(object)) => drop(objects.insert(suffix.to_owned(), object)),
                Err(error) => {
                    for name in &published {
                        // If this fails, the staged manifest still identifies the file.
                        let _ = volume.remove(name);
                    }
                    // The staged manifest, discarded next, must not disappear before the other files.
                    let _ = volume.sync();
                    return Err(error);
                }
            }
            published.push(name);
        }
        volume.sync()?;
        Ok(manifest)
    }

    /// Writes the objects into the staged manifest, and signs it again. A copy of a manifest that is not one stays as it is.
    fn record(
        &self,
        files: BTreeMap<String, ObjectRecord>,
        segments: BTreeMap<String, ObjectRecord>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.volume.path();
        let Ok(manifest) = Manifest::from_bytes(self.manifest_bytes) else { return Ok(None) };
        if manifest.stem != self.stem || (self.kind.is_sealed() && self.signature.is_none()) {
            return Ok(None);
        }
        let objects = ObjectsRecord { folder: path.display().to_string(), files, segments };
        let bytes = Manifest { objects: Some(objects), ..manifest }.to_bytes().map_err(|error| {
            let path = path.join(format!("{}{MANIFEST}", self.stem));
            StoreError::Io { what: "writing", path, source: io::Error::other(error) }
        })?;
        let write_again = |file: &dyn StoreFile, bytes: &[u8]| {
            file.start_over()?;
            file.write_all(bytes)?;
            file.settle(bytes.len() as u64)
        };
        write_again(self.manifest, &bytes)?;
        if let Some((file, signer)) = self.signature {
            let signature = signer.sign(&bytes).map_err(StoreError::io("signing the manifest in", path))?;
            write_again(file, signature.as_bytes())?;
        }
        Ok(Some(bytes))
    }
}

/// Makes the other names durable, and fails if they were published so long ago that another run may take them for remains:
/// where the lock is advice, there may be another run.
fn in_time(volume: &Folder, manifest: &str, began: Duration) -> Result<(), StoreError> {
    volume.sync()?;
    if !volume.refuses_to_replace() && uptime().saturating_sub(began) > PUBLISHED_WITHIN {
        let limit_minutes = PUBLISHED_WITHIN.as_secs() / 60;
        return Err(StoreError::TooSlow { path: volume.path().join(manifest), limit_minutes });
    }
    Ok(())
}
