//! Lists the entries of a backup.

use std::io;

use serde::Serialize;

use super::error::BrowseError;
use super::index::open_index;
use crate::archive::index::{EntryLine, IndexedKind, Line, escape_path};
use crate::archive::read::index_file::IndexReader;
use crate::events::Observer;
use crate::outside::Cancel;
use crate::run::image_files::{self, FoundEntry};
use crate::run::restore::part_of_region::base_of;
use crate::run::restore::select::{Selection, plain};
use crate::shown::hex;
use crate::store::Backup;

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedEntry {
    /// The type: `f`, `d` and so on, as in the index.
    pub kind: char,
    /// Whether part of it could not be read for the backup.
    pub damaged: bool,
    /// A file's length in bytes.
    pub size: u64,
    /// The path without `./`, escaped as in the index.
    pub path: String,
    /// SHA-256 of a file without holes.
    pub sha256: Option<String>,
}

impl ListedEntry {
    fn of(line: &EntryLine) -> Self {
        let digest = line.content.as_ref().filter(|_| line.kind == IndexedKind::File);
        Self {
            kind: line.kind.letter(),
            damaged: line.damaged,
            size: line.size,
            path: escape_path(plain(&line.path)),
            sha256: digest.map(|digest| hex(digest)),
        }
    }
}

/// The entries of a backup, from its index.
pub struct Entries {
    index: IndexReader,
}

impl Entries {
    /// Opens the index of `files`, after comparing it with the manifest.
    pub(crate) fn of(files: &Backup, cancel: &Cancel) -> Result<Self, BrowseError> {
        Ok(Self { index: open_index(files, cancel)? })
    }
}

impl Iterator for Entries {
    type Item = Result<ListedEntry, BrowseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.index.next_line() {
                Ok(Some(Line::Entry(line))) => return Some(Ok(ListedEntry::of(&line))),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// Calls `each` for every entry at or below `path` (`""` for all), in the archive's order. With `deep` false, only
/// for the entry itself and the direct content of a directory. Reads only the index; of an image, its filesystems, whose
/// problems go to `observer`.
pub fn list(
    files: &Backup,
    path: &str,
    deep: bool,
    cancel: &Cancel,
    observer: &dyn Observer,
    mut each: impl FnMut(ListedEntry) -> io::Result<()>,
) -> Result<u64, BrowseError> {
    let mut listed = 0;
    let mut give = |selection: &Selection, path: &[u8], is_directory, entry: &dyn Fn() -> ListedEntry| {
        let deepest = if deep { usize::MAX } else { depth_of(selection.path()) + 1 };
        if depth_of(plain(path)) > deepest || !selection.wants(path, is_directory) {
            return Ok(());
        }
        listed += 1;
        let entry = entry();
        let path = entry.path.clone();
        each(entry).map_err(|source| BrowseError::Io { path, source })
    };
    if files.kind().is_image() {
        list_image(files, path, cancel, observer, &mut give)?;
    } else {
        let selection = Selection::from(&base_of(files), &[path.to_owned()])?;
        let mut reader = open_index(files, cancel)?;
        while let Some(line) = reader.next_line()? {
            let Line::Entry(line) = line else { continue };
            give(&selection, &line.path, line.kind == IndexedKind::Directory, &|| ListedEntry::of(&line))?;
        }
    }
    if listed == 0 { Err(BrowseError::NotFound(path.to_owned())) } else { Ok(listed) }
}

/// Takes an entry if it is selected: its path, whether it is a directory, and what to list.
type Give<'a> = dyn FnMut(&Selection, &[u8], bool, &dyn Fn() -> ListedEntry) -> Result<(), BrowseError> + 'a;

/// Reads the filesystems of an image.
fn list_image(
    files: &Backup,
    path: &str,
    cancel: &Cancel,
    observer: &dyn Observer,
    give: &mut Give<'_>,
) -> Result<(), BrowseError> {
    let mut stopped = None;
    let ended = image_files::for_each_entry(files, &[path.to_owned()], cancel, observer, &mut |selection, found| {
        let FoundEntry { path, kind, size } = found;
        let entry = || ListedEntry { kind, damaged: false, size, path: escape_path(&path), sha256: None };
        give(selection, &path, kind == 'd', &entry).map_err(|error| {
            // The error of `give` ends the walk, and is returned as it is.
            stopped = Some(error);
            io::ErrorKind::Other.into()
        })
    });
    match stopped {
        Some(error) => Err(error),
        None => ended.map_err(|error| BrowseError::ImageFiles(error.into())),
    }
}

/// The number of names in a path.
fn depth_of(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { path.split(|byte| *byte == b'/').count() }
}
