//! Why nothing, or not all, was changed.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::run::journal_file::JournalError;

/// Why nothing, or not all, was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemapError {
    /// No number is mapped.
    #[error("no number is mapped: name some with --uid OLD:NEW or --gid OLD:NEW")]
    NothingMapped,
    /// The directory cannot be opened.
    #[error("{directory} cannot be opened: {why}")]
    Directory {
        /// The directory.
        directory: String,
        /// The cause.
        why: Errno,
    },
    /// The journal cannot be read or written.
    #[error("the journal {} cannot be used", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line of the journal is damaged: its inode may have its new numbers already, and would be mapped twice.
    #[error(
        "the journal {} cannot be continued, and nothing was changed: {line}. Undo the remap first with `volbak remap {directory} \
         --undo`: it goes by the other lines, and says what is left to do",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The directory.
        directory: String,
        /// The line, and its number.
        line: String,
    },
    /// The first line of the journal is damaged, so that it does not say which directory it is of.
    #[error(
        "{} is no journal, or its first line is damaged; nothing was changed. If it is the journal of this directory, replace its \
         first line by {right}, and call the command again",
        path.display()
    )]
    NoHeader {
        /// The journal.
        path: PathBuf,
        /// What the line should be.
        right: String,
    },
    /// The file is no journal of this version.
    #[error("{} is no journal of a remap that this version knows: {what}", path.display())]
    NoJournal {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Other users can change the journal.
    #[error("the journal is not used: {0}")]
    Distrusted(String),
    /// The journal is of another mapping, or of another directory.
    #[error(
        "the journal {} is of another remap of {directory} ({what}): undo that one with `volbak remap {directory} --undo`, or name \
         another journal with --journal",
        path.display()
    )]
    OtherRemap {
        /// The journal.
        path: PathBuf,
        /// The directory in it.
        directory: String,
        /// What differs.
        what: String,
    },
    /// There is no journal to undo.
    #[error("the journal {} does not exist: no change can be undone, or --journal named another file", .0.display())]
    NothingToUndo(PathBuf),
    /// Another process has the journal.
    #[error("another process uses the journal {}", .0.display())]
    Locked(PathBuf),
    /// Interrupted: the same command goes on.
    #[error("interrupted: the same command continues, and --undo restores the old numbers")]
    Cancelled,
}

impl RemapError {
    pub(super) fn of_journal(path: &Path, error: JournalError) -> Self {
        let path = path.to_owned();
        match error {
            JournalError::Damaged(line) => Self::NoJournal { path, what: line.to_string() },
            JournalError::Io(source) => Self::Journal { path, source },
            JournalError::Locked => Self::Locked(path),
            JournalError::Distrusted(found) => Self::Distrusted(found.to_string()),
            JournalError::Invalid(what) => Self::NoJournal { path, what },
        }
    }
}
