//! Compares two backups by their indexes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::BrowseError;
use super::index::open_index;
use crate::archive::index::{EntryLine, IndexedKind, Line, escape_path};
use crate::outside::Cancel;
use crate::run::restore::select::plain;
use crate::store::Backup;

/// How an entry differs between two backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only in the second backup.
    Added,
    /// Only in the first backup.
    Removed,
    /// Its content or type differs.
    Content,
    /// Its content is the same, but its headers differ: owner, mode, time, attributes, link target.
    Attributes,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path without `./`, escaped as in the index.
    pub path: String,
    /// The kind of difference.
    pub change: Change,
    /// Its length in bytes in the first backup, if it has it.
    pub size_before: Option<u64>,
    /// Its length in bytes in the second backup, if it has it.
    pub size_after: Option<u64>,
}

/// The fields to compare.
struct Facts {
    kind: IndexedKind,
    size: u64,
    head: [u8; 16],
    content: Option<[u8; 16]>,
}

/// The differences between two backups, from their indexes only, sorted by path. Memory: about 150 bytes and the
/// path for each entry of the first.
pub fn diff(before: &Backup, after: &Backup, cancel: &Cancel) -> Result<Vec<Difference>, BrowseError> {
    let mut first: BTreeMap<Vec<u8>, Facts> = BTreeMap::new();
    let mut reader = open_index(before, cancel)?;
    while let Some(line) = reader.next_line()? {
        if let Line::Entry(line) = line {
            first.insert(plain(&line.path).to_vec(), facts_of(&line));
        }
    }
    let mut differences = Vec::new();
    let mut reader = open_index(after, cancel)?;
    while let Some(line) = reader.next_line()? {
        let Line::Entry(line) = line else { continue };
        let path = plain(&line.path);
        let now = facts_of(&line);
        let was = first.remove(path);
        let change = match &was {
            None => Change::Added,
            Some(was) if was.kind != now.kind || was.size != now.size || was.content != now.content => Change::Content,
            Some(was) if was.head != now.head => Change::Attributes,
            Some(_) => continue,
        };
        let (size_before, size_after) = (was.map(|was| was.size), Some(now.size));
        differences.push(Difference { path: escape_path(path), change, size_before, size_after });
    }
    differences.extend(first.into_iter().map(|(path, was)| Difference {
        path: escape_path(&path),
        change: Change::Removed,
        size_before: Some(was.size),
        size_after: None,
    }));
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(differences)
}

fn facts_of(line: &EntryLine) -> Facts {
    let content = line.content.and_then(|digest| digest.first_chunk().copied());
    Facts { kind: line.kind, size: line.size, head: line.head, content }
}
