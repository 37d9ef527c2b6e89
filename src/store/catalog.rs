//! Which backups a destination has.

use std::io::Read;
use std::path::PathBuf;

use serde::Serialize;

use super::StoreError;
use super::local::{Destination, VolumeDirectory};
use super::pending::{ARCHIVE, INDEX, MANIFEST, TEMPORARY_PREFIX};
use crate::archive::manifest::{MAX_BYTES, Manifest};
use crate::error::with_causes;

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

/// All backups of the destination, by volume and stem; each volume's in the order of their dates.
pub fn list(destination: &Destination) -> Result<Vec<CatalogEntry>, StoreError> {
    let mut entries = Vec::new();
    for name in destination.volume_names()? {
        if let Some(volume) = destination.existing_volume_directory(&name)? {
            entries.extend(list_volume(&volume, &name)?);
        }
    }
    Ok(entries)
}

/// The backups of one volume, in the order of their dates; those without a manifest come first.
pub fn list_volume(volume: &VolumeDirectory, name: &str) -> Result<Vec<CatalogEntry>, StoreError> {
    let mut stems: Vec<String> = volume
        .file_names()?
        .iter()
        .filter(|file| !file.starts_with(TEMPORARY_PREFIX))
        .filter_map(|file| file.strip_suffix(ARCHIVE).or_else(|| file.strip_suffix(MANIFEST)))
        .map(str::to_owned)
        .collect();
    stems.sort_unstable();
    stems.dedup();
    let mut entries: Vec<CatalogEntry> = stems.into_iter().map(|stem| read_entry(volume, name, stem)).collect();
    entries.sort_by_key(|entry| match &entry.state {
        BackupState::Complete { manifest } => Some(manifest.started_at),
        _ => None,
    });
    Ok(entries)
}

fn read_entry(volume: &VolumeDirectory, name: &str, stem: String) -> CatalogEntry {
    let archive_name = format!("{stem}{ARCHIVE}");
    let archive_bytes =
        volume.open_file(&archive_name).ok().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
    let state = read_state(volume, &stem, archive_bytes);
    CatalogEntry { name: name.to_owned(), stem, archive: volume.path().join(archive_name), archive_bytes, state }
}

fn read_state(volume: &VolumeDirectory, stem: &str, archive_bytes: Option<u64>) -> BackupState {
    let damaged = |what: String| BackupState::Damaged { what };
    let manifest_name = format!("{stem}{MANIFEST}");
    let file = match volume.open_file(&manifest_name) {
        Ok(file) => file,
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            // An index is volbak's own: the manifest was lost, or somebody took it away.
            return match volume.open_file(&format!("{stem}{INDEX}")) {
                Ok(_) => damaged("the manifest is missing, and its index is there".to_owned()),
                Err(_) => BackupState::WithoutManifest,
            };
        }
        Err(error) => return damaged(with_causes(&error)),
    };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
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
