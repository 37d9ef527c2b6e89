//! The journal: one line of JSON for the remap, one for each inode before it is changed, and those that say how far all of it is.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::change::Record;
use super::error::RemapError;
use super::walk::{Root, shown_path};
use crate::run::journal_file::{self, Content, DamagedLine, FORMAT, JournalError, JournalFile};
use crate::run::record::sha256;
use crate::run::restore::ids::IdMaps;
use crate::shown::{self, hex};

/// A journal has a line for each inode.
const NO_LIMIT: u64 = u64::MAX;
const FOLDER: &str = "/var/lib/volbak/remap";

/// Which remap a journal is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    format: u32,
    /// For people; the path is in the journal's name, too.
    directory: String,
    inode: u64,
    /// When the directory was made, where its filesystem knows that: another filesystem may be mounted there by now. Numbers of
    /// devices change with each boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<(i64, u32)>,
    maps: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Record(Record),
    Complete { complete: bool },
    Settled { settled: bool },
}

/// What a journal says was done.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) records: Vec<Record>,
    pub(super) is_complete: bool,
    /// Whether no inode is between its two states: the last run was not killed.
    pub(super) is_settled: bool,
    /// The mapping, for people.
    pub(super) maps: String,
    pub(super) damaged: Vec<DamagedLine>,
}

impl Header {
    pub(super) fn new(root: &Root, maps: &IdMaps) -> Self {
        let born = statx(&root.fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok();
        let born = born.filter(|stat| stat.stx_mask & StatxFlags::BTIME.bits() != 0);
        Self {
            format: FORMAT,
            directory: shown::bytes(&root.path),
            inode: root.inode,
            born: born.map(|stat| (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
            maps: maps.to_string(),
        }
    }

    fn is_same_place(&self, other: &Self) -> bool {
        let is_born = self.born.zip(other.born).is_none_or(|(one, other)| one == other);
        self.directory == other.directory && self.inode == other.inode && is_born
    }
}

impl Earlier {
    fn of(content: Content<Header, Line>) -> Self {
        let maps = content.header.map(|header| header.maps).unwrap_or_default();
        let mut earlier = Self { maps, damaged: content.damaged, ..Self::default() };
        for line in content.lines {
            match line {
                Line::Record(record) => earlier.records.push(record),
                Line::Complete { complete } => {
                    earlier.is_complete = complete;
                    earlier.is_settled |= complete;
                }
                Line::Settled { settled } => earlier.is_settled = settled,
            }
        }
        earlier
    }

    pub(super) fn inodes(&self) -> HashSet<u64> {
        self.records.iter().map(|record| record.inode).collect()
    }

    /// Fails if the remap cannot be continued by it.
    pub(super) fn check_whole(&self, path: &Path, header: &Header) -> Result<(), RemapError> {
        let Some(line) = self.damaged.first() else { return Ok(()) };
        Err(RemapError::Damaged { path: path.to_owned(), directory: header.directory.clone(), line: line.to_string() })
    }
}

/// The default journal of a directory, by its path.
pub fn default_path(directory: &Path) -> Result<PathBuf, RemapError> {
    let path = std::fs::canonicalize(directory).map_err(|error| RemapError::Directory {
        directory: shown_path(directory),
        why: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    let digest = hex(&sha256(path.as_os_str().as_encoded_bytes()));
    let short = digest.get(..16).unwrap_or(&digest);
    Ok(Path::new(FOLDER).join(format!("{short}.journal")))
}

/// A journal that is written.
pub(super) struct Journal {
    file: JournalFile,
    path: PathBuf,
}

impl Journal {
    /// Opens or creates the journal, and returns its content.
    pub(super) fn open(path: &Path, header: &Header) -> Result<(Self, Earlier), RemapError> {
        let failed = |error| RemapError::of_journal(path, error);
        let (mut file, content) = JournalFile::open(path, NO_LIMIT).map_err(|error| unread(path, header, error))?;
        check(content.header.as_ref(), header, path)?;
        file.begin(&content, header).map_err(failed)?;
        Ok((Self { file, path: path.to_owned() }, Earlier::of(content)))
    }

    /// Opens the journal of a remap that is to be undone.
    pub(super) fn existing(path: &Path, header: &Header) -> Result<(Self, Earlier), RemapError> {
        if !path.exists() {
            return Err(RemapError::NothingToUndo(path.to_owned()));
        }
        Self::open(path, header)
    }

    /// The journal's own inode, if it lies in the tree's filesystem: it is not part of the tree that is changed.
    pub(super) fn inode(&self, root: &Root) -> Option<u64> {
        let metadata = self.file.file().metadata().ok()?;
        (metadata.dev() == root.device).then(|| metadata.ino())
    }

    /// Writes what is about to be changed, and waits until it is on the disk.
    pub(super) fn add<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<(), RemapError> {
        self.file.append(records).map_err(|error| RemapError::of_journal(&self.path, error))
    }

    /// Says whether all of the tree has the new numbers.
    pub(super) fn set_complete(&mut self, complete: bool) -> Result<(), RemapError> {
        self.write(Line::Complete { complete })
    }

    /// Says whether no inode of the journal is between its two states.
    pub(super) fn set_settled(&mut self, settled: bool) -> Result<(), RemapError> {
        self.write(Line::Settled { settled })
    }

    fn write(&mut self, line: Line) -> Result<(), RemapError> {
        self.file.append([line]).map_err(|error| RemapError::of_journal(&self.path, error))
    }

    /// Removes it: everything is as it was.
    pub(super) fn remove(self) -> Result<(), RemapError> {
        self.file.remove().map_err(|error| RemapError::of_journal(&self.path, error))
    }
}

/// Reads the journal of a remap, if there is one.
pub(super) fn read(path: &Path, header: &Header) -> Result<Option<Earlier>, RemapError> {
    let content = journal_file::read(path, NO_LIMIT).map_err(|error| unread(path, header, error))?;
    let Some(content) = content else { return Ok(None) };
    check(content.header.as_ref(), header, path)?;
    Ok(Some(Earlier::of(content)))
}

/// Why a journal is not read. A header that is damaged is named as it should be.
fn unread(path: &Path, header: &Header, error: JournalError) -> RemapError {
    match (error, serde_json::to_string(header)) {
        (JournalError::Damaged(_), Ok(right)) => RemapError::NoHeader { path: path.to_owned(), right },
        (error, _) => RemapError::of_journal(path, error),
    }
}

/// Fails if the journal is of another remap. A header without a mapping is that of `undo`, which takes any.
fn check(own: Option<&Header>, header: &Header, path: &Path) -> Result<(), RemapError> {
    let Some(own) = own else { return Ok(()) };
    let differs = |what: &str| {
        Err(RemapError::OtherRemap { path: path.to_owned(), directory: own.directory.clone(), what: what.to_owned() })
    };
    if !own.is_same_place(header) {
        return differs("another directory is at its path now");
    }
    if own.maps != header.maps && !header.maps.is_empty() {
        return differs(&own.maps);
    }
    Ok(())
}
