//! The journal: one line of JSON for the remap, one for each inode before it is changed, and one at the end.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, OFlags, StatxFlags, flock, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::change::Record;
use super::error::RemapError;
use super::walk::{Root, shown_path};
use crate::outside::trust::changeable;
use crate::run::record::sha256;
use crate::run::restore::ids::IdMaps;
use crate::shown::{self, hex};

const FORMAT: u32 = 1;
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
}

/// What a journal says was done.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) header: Option<Header>,
    pub(super) records: Vec<Record>,
    pub(super) is_complete: bool,
    /// The length up to the end of its last whole line.
    whole_bytes: u64,
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
    pub(super) fn inodes(&self) -> HashSet<u64> {
        self.records.iter().map(|record| record.inode).collect()
    }

    /// Whether it is of this remap. `undo` takes any mapping.
    pub(super) fn check(self, header: &Header, path: &Path) -> Result<Self, RemapError> {
        if let Some(other) = &self.header {
            let differs = |what: &str| {
                Err(RemapError::OtherRemap {
                    path: path.to_owned(),
                    directory: other.directory.clone(),
                    what: what.to_owned(),
                })
            };
            if !other.is_same_place(header) {
                return differs("another directory is at its path now");
            }
            if other.maps != header.maps && !header.maps.is_empty() {
                return differs(&other.maps);
            }
        }
        Ok(self)
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
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens or makes the journal, and returns what it has.
    pub(super) fn open(path: &Path, header: &Header) -> Result<(Self, Earlier), RemapError> {
        let failed = |source| RemapError::Journal { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let mut journal = Self { file, path: path.to_owned() };
        journal.lock()?;
        let earlier = journal.read()?.check(header, path)?;
        if earlier.header.is_none() {
            journal.file.set_len(0).map_err(failed)?;
            journal.file.seek(SeekFrom::Start(0)).map_err(failed)?;
            journal.write(&[serde_json::to_string(header).map_err(|error| failed(error.into()))?])?;
            // Its name has to be there after a loss of power, too.
            if let Some(folder) = path.parent() {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            }
        } else {
            // A line that was being written names nothing that was changed.
            journal.file.set_len(earlier.whole_bytes).map_err(failed)?;
            journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        Ok((journal, earlier))
    }

    /// Opens the journal of a remap that is to be undone.
    pub(super) fn existing(path: &Path, header: &Header) -> Result<(Self, Earlier), RemapError> {
        if !path.exists() {
            return Err(RemapError::NothingToUndo(path.to_owned()));
        }
        Self::open(path, header)
    }

    fn lock(&self) -> Result<(), RemapError> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => RemapError::Locked(self.path.clone()),
            other => RemapError::Journal { path: self.path.clone(), source: other.into() },
        })?;
        trusted(&self.path)
    }

    fn read(&mut self) -> Result<Earlier, RemapError> {
        parse(&mut self.file, &self.path)
    }

    /// The journal's own inode, if it lies in the tree's filesystem: it is not part of the tree that is changed.
    pub(super) fn inode(&self, root: &Root) -> Option<u64> {
        let metadata = self.file.metadata().ok()?;
        (metadata.dev() == root.device).then(|| metadata.ino())
    }

    /// Writes what is about to be changed, and waits until it is on the disk.
    pub(super) fn add<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<(), RemapError> {
        let lines: Result<Vec<String>, serde_json::Error> = records.map(serde_json::to_string).collect();
        let lines = lines.map_err(|error| RemapError::Journal { path: self.path.clone(), source: error.into() })?;
        if lines.is_empty() { Ok(()) } else { self.write(&lines) }
    }

    pub(super) fn complete(&mut self) -> Result<(), RemapError> {
        self.write(&["{\"complete\":true}".to_owned()])
    }

    fn write(&mut self, lines: &[String]) -> Result<(), RemapError> {
        let mut text = lines.join("\n");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| RemapError::Journal { path: self.path.clone(), source })
    }

    /// Removes it: everything is as it was.
    pub(super) fn remove(self) -> Result<(), RemapError> {
        std::fs::remove_file(&self.path).map_err(|source| RemapError::Journal { path: self.path.clone(), source })
    }
}

/// Whoever changes a journal decides which files get which owner.
fn trusted(path: &Path) -> Result<(), RemapError> {
    match changeable(path) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(RemapError::Distrusted(found.to_string())),
        Err(source) => Err(RemapError::Journal { path: path.to_owned(), source }),
    }
}

/// Reads a journal, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<Earlier>, RemapError> {
    match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path) {
        Ok(mut file) => {
            trusted(path)?;
            parse(&mut file, path).map(Some)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RemapError::Journal { path: path.to_owned(), source }),
    }
}

fn parse(file: &mut File, path: &Path) -> Result<Earlier, RemapError> {
    let failed = |source: io::Error| RemapError::Journal { path: path.to_owned(), source };
    let wrong = |what: String| RemapError::NoJournal { path: path.to_owned(), what };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(wrong("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    let mut earlier = Earlier::default();
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break;
        }
        let at = |error: serde_json::Error| wrong(format!("line {}: {error}", number + 1));
        if number == 0 {
            let header: Header = serde_json::from_slice(line).map_err(at)?;
            if header.format != FORMAT {
                return Err(wrong(format!("it has format {}", header.format)));
            }
            earlier.header = Some(header);
        } else {
            match serde_json::from_slice(line).map_err(at)? {
                Line::Record(record) => earlier.records.push(record),
                Line::Complete { complete } => earlier.is_complete = complete,
            }
        }
        earlier.whole_bytes += line.len() as u64;
    }
    Ok(earlier)
}
