//! A backup found by name, and what to know of it.

use crate::run::unsigned::Note;
use crate::store::Backup;

/// A backup found by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its files.
    pub files: Backup,
    /// Facts to know before it is used, one line each: newer backups that were passed over and why, and its
    /// problems.
    pub notes: Vec<String>,
    /// It is plain, and newer than an encrypted backup of its volume.
    pub is_doubtful: bool,
}

impl Located {
    pub(super) fn new(files: Backup, mut notes: Vec<String>, plain: Option<Note>) -> Self {
        let is_doubtful = plain.as_ref().is_some_and(|note| note.is_doubtful);
        notes.extend(plain.map(|note| note.line));
        Self { files, notes, is_doubtful }
    }
}
