//! A backup of a destination that a person names to change it: to protect or to remove it.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::locate::{self, LocateError};
use super::prune::{Kept, Shelf};
use crate::error::with_causes;
use crate::store::catalog::BackupState;
use crate::store::{Destination, StoreError};

/// Why a name stands for no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamedError {
    /// It matches none, or several.
    #[error("{0}")]
    NoSuchBackup(String),
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The volume and the stem of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) volume: String,
    pub(super) stem: String,
}

/// The complete backup of this destination that `spec` names, see [`locate::find`].
pub(super) fn find(destination: &Destination, spec: &str, now: DateTime<Utc>) -> Result<Named, NamedError> {
    let (named, state) = look(destination, spec, now)?;
    match state {
        BackupState::Complete { .. } => Ok(named),
        BackupState::Damaged { what } => {
            Err(NamedError::NoSuchBackup(format!("{} is damaged: {what}; see `volbak list`", named.stem)))
        }
        BackupState::WithoutManifest => Err(without_manifest(&named)),
    }
}

/// The same, or a damaged one.
pub(super) fn find_even_damaged(
    destination: &Destination,
    spec: &str,
    now: DateTime<Utc>,
) -> Result<Named, NamedError> {
    match look(destination, spec, now)? {
        (named, BackupState::WithoutManifest) => Err(without_manifest(&named)),
        (named, _) => Ok(named),
    }
}

fn without_manifest(named: &Named) -> NamedError {
    let what = "has no manifest, like the backups of other programs, which volbak leaves alone; see `volbak list`";
    NamedError::NoSuchBackup(format!("{} {what}", named.stem))
}

fn look(destination: &Destination, spec: &str, now: DateTime<Utc>) -> Result<(Named, BackupState), NamedError> {
    let found = match locate::find(spec, Some(destination), now) {
        Ok(found) => found,
        Err(LocateError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(NamedError::NoSuchBackup(with_causes(&error))),
    };
    let (directory, stem) = (found.files.directory().to_owned(), found.files.stem().to_owned());
    let volume = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let shelf = if volume.is_empty() { None } else { Shelf::read(destination, &volume, &Kept::default())? };
    let is_here = |shelf: &Shelf| {
        let is_same = |here: PathBuf| directory.canonicalize().is_ok_and(|it| it == here);
        // Addresses of an object store are no paths.
        shelf.directory == directory || shelf.directory.canonicalize().is_ok_and(is_same)
    };
    let entries = shelf.filter(is_here).map(|shelf| shelf.entries).unwrap_or_default();
    let kind = found.files.kind();
    if let Some(entry) = entries.into_iter().find(|entry| entry.stem == stem && entry.files().kind() == kind) {
        return Ok((Named { volume, stem }, entry.state));
    }
    let what = format!("{stem} is no backup in {}; see `volbak list`", destination.root().display());
    Err(NamedError::NoSuchBackup(what))
}
