//! A backup that is copied into a destination: its files are staged, then published with the manifest last.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::api::{Folder, StoreFile};
use super::error::StoreError;
use super::names::{MANIFEST, SIGNATURE, SUFFIXES, files_before_manifest};
use super::publication::Publication;
use super::remains::is_published;
use crate::archive::kind::ArchiveKind;
use crate::encryption::Signer;
use crate::manifest::Manifest;
use crate::outside::BlockRead;

/// The files of one backup on their way into a volume's folder. Requires the destination's lock.
///
/// Staged files stay when this is dropped, so that an interrupted copy can be continued.
#[derive(Debug)]
pub(crate) struct Arrival {
    volume: Folder,
    stem: String,
    kind: ArchiveKind,
}

impl Arrival {
    /// Begins a copy, or continues an interrupted one: files whose publication was interrupted are staged again. Fails if
    /// another file has one of the names.
    pub(crate) fn begin(volume: Folder, stem: &str, kind: ArchiveKind) -> Result<Self, StoreError> {
        let arrival = Self { volume, stem: stem.to_owned(), kind };
        if arrival.is_new() {
            return Ok(arrival);
        }
        arrival.take_back()?;
        for suffix in SUFFIXES {
            let name = arrival.name(suffix);
            if is_published(&*arrival.volume, &name)? {
                return Err(StoreError::Taken(arrival.volume.path().join(name)));
            }
        }
        Ok(arrival)
    }

    /// Whether its names are unique to this copy, so that nothing of an earlier one can be there.
    fn is_new(&self) -> bool {
        !self.volume.refuses_to_replace()
    }

    /// Stages again what an interrupted publication published: the staged manifest identifies it.
    fn take_back(&self) -> Result<(), StoreError> {
        let (volume, manifest) = (&*self.volume, self.name(MANIFEST));
        let listing = volume.list()?;
        if !listing.has_staged(&manifest) || is_published(volume, &manifest)? {
            return Ok(());
        }
        for name in files_before_manifest(self.kind).into_iter().map(|suffix| self.name(suffix)) {
            if !listing.has(&name) {
                continue;
            }
            if !listing.has_staged(&name) {
                volume.set_aside(&name)?;
            } else if volume.is_half_published(&name) {
                volume.remove(&name)?;
            }
        }
        volume.sync()
    }

    /// The folder, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.volume.path()
    }

    fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.stem)
    }

    /// Opens what an interrupted copy left of this file; `None` if it left nothing, or nothing that can be read.
    pub(crate) fn left(&self, suffix: &str) -> Option<Arc<dyn BlockRead>> {
        if self.is_new() {
            return None;
        }
        self.volume.open_staged(&self.name(suffix)).ok()
    }

    /// Continues a staged file at its end; `None` if the store cannot.
    pub(crate) fn resume(&self, suffix: &str) -> Result<Option<Box<dyn StoreFile>>, StoreError> {
        self.volume.resume(&self.name(suffix))
    }

    /// Starts a file, in the place of what an interrupted copy left.
    pub(crate) fn create(&self, suffix: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        let name = self.name(suffix);
        if self.is_new() {
            return self.volume.create_own(&name);
        }
        self.volume.discard(&name)?;
        self.volume.create(&name)
    }

    /// Discards a staged file.
    pub(crate) fn discard(&self, suffix: &str) -> Result<(), StoreError> {
        self.volume.discard(&self.name(suffix))
    }

    /// Publishes the backup. Its other files are staged and settled, except for a signature by `signer`. Nothing is published
    /// with the manifest of another backup.
    pub(crate) fn publish(
        self,
        manifest: &[u8],
        has_checksum: bool,
        signer: Option<&Signer>,
    ) -> Result<(), StoreError> {
        let of = Manifest::from_bytes(manifest).map(|manifest| manifest.stem);
        if of.as_ref().ok() != Some(&self.stem) {
            let path = self.path().join(format!("{}{MANIFEST}", self.stem));
            return Err(StoreError::io("publishing", &path)(io::Error::other("it is the manifest of another backup")));
        }
        let signature = signer.map(|signer| self.sign(manifest, signer).map(|file| (file, signer))).transpose()?;
        let file = self.create(MANIFEST)?;
        file.write_all(manifest)?;
        file.settle(manifest.len() as u64)?;
        let publication = Publication {
            volume: &self.volume,
            stem: &self.stem,
            kind: self.kind,
            has_checksum,
            manifest: &*file,
            manifest_bytes: manifest,
            // A copy that has the name of its source has its signature, too.
            signature: signature.as_ref().map(|(file, signer)| (&**file, *signer)),
        };
        publication.publish().map(drop)
    }

    /// Stages a signature of these bytes.
    fn sign(&self, manifest: &[u8], signer: &Signer) -> Result<Box<dyn StoreFile>, StoreError> {
        let signature = signer.sign(manifest).map_err(StoreError::io("signing the manifest in", self.path()))?;
        let file = self.create(SIGNATURE)?;
        file.write_all(signature.as_bytes())?;
        file.settle(signature.len() as u64)?;
        Ok(file)
    }

    /// Discards all staged files. The manifest goes last: it identifies the others.
    pub(crate) fn give_up(&self) -> Result<(), StoreError> {
        let others = files_before_manifest(self.kind).into_iter().rev();
        others.chain([MANIFEST]).try_for_each(|suffix| self.discard(suffix))
    }
}

/// Whether files of one of these stems wait in the folder to be continued.
pub(crate) fn waits_for(volume: &Folder, stems: &[&str]) -> Result<bool, StoreError> {
    let listing = volume.list()?;
    let is_of = |name: &String| {
        stems.iter().any(|stem| name.strip_prefix(stem).is_some_and(|suffix| SUFFIXES.contains(&suffix)))
    };
    Ok(listing.staged.iter().any(is_of))
}
