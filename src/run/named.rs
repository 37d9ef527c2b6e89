//! A backup of a destination that a person names to change it: to protect or to remove it.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::locate::{self, LocateError};
use super::prune::{Kept, Shelf};
use crate::error::with_causes;
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

/// The volume and the stem of a complete backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) volume: String,
    pub(super) stem: String,
}

/// The complete backup of this destination that `spec` names, see [`locate::find`].
pub(super) fn find(destination: &Destination, spec: &str, now: DateTime<Utc>) -> Result<Named, NamedError> {
    let wrong = |what: String| NamedError::NoSuchBackup(what);
    let found = match locate::find(spec, Some(destination), now) {
        Ok(found) => found,
        Err(LocateError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(wrong(with_causes(&error))),
    };
    let (directory, stem) = (found.files.directory().to_owned(), found.files.stem().to_owned());
    let volume = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let shelf = if volume.is_empty() { None } else { Shelf::read(destination, &volume, &Kept::default())? };
    let is_here = |shelf: &Shelf| {
        let is_same = |here: PathBuf| directory.canonicalize().is_ok_and(|it| it == here);
        // Addresses of an object store are no paths.
        let same = shelf.directory == directory || shelf.directory.canonicalize().is_ok_and(is_same);
        same && shelf.backups.iter().any(|backup| backup.id == stem)
    };
    if shelf.as_ref().is_some_and(is_here) {
        Ok(Named { volume, stem })
    } else {
        Err(wrong(format!("{stem} is no complete backup in {}; see `volbak list`", destination.root().display())))
    }
}
