//! A journal: a file of JSON lines, which is on the disk before what it announces is done. The first line says what the
//! journal is of. A last line that is cut off was being written when the process ended, and is dropped: what it announces
//! was not begun.

use std::fmt;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::outside::trust::{Changeable, changeable};
use crate::shown;

/// The `format` in the header of each journal.
pub(super) const FORMAT: u32 = 1;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("the journal cannot be read or written")]
    Io(#[from] io::Error),
    #[error("another process has the journal locked")]
    Locked,
    /// Other users can change the journal, and so decide what is done.
    #[error("{0}")]
    Distrusted(Changeable),
    /// The file is no journal.
    #[error("{0}")]
    Invalid(String),
    /// A line is damaged; with the first one, the file may be no journal.
    #[error("{0}")]
    Damaged(DamagedLine),
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DamagedLine {
    /// Its number, from 1.
    number: usize,
    /// Its beginning.
    text: String,
}

impl fmt::Display for DamagedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is damaged: {}", self.number, self.text)
    }
}

impl DamagedLine {
    fn new(number: usize, line: &[u8]) -> Self {
        const SHOWN_BYTES: usize = 120;
        let line = line.trim_ascii_end();
        let text = match line.get(..SHOWN_BYTES) {
            Some(start) => shown::bytes(start) + "…",
            None => shown::bytes(line),
        };
        Self { number, text }
    }
}

/// The header and lines of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content<H, L> {
    /// `None` if the file is empty, or its first line is cut off.
    pub(super) header: Option<H>,
    pub(super) lines: Vec<L>,
    /// Lines that cannot be read.
    pub(super) damaged: Vec<DamagedLine>,
    /// The length up to the end of the last complete line.
    complete_bytes: u64,
}

impl<H, L> Default for Content<H, L> {
    fn default() -> Self {
        Self { header: None, lines: Vec::new(), damaged: Vec::new(), complete_bytes: 0 }
    }
}

/// A journal that is open for writing. It is locked until it is dropped.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: File,
    path: PathBuf,
}

impl JournalFile {
    /// Opens or creates the journal, locks it, and reads it. [`JournalFile::begin`] must be called before the first
    /// line is appended. What to do about damaged lines is the caller's decision.
    pub(super) fn open<H, L>(path: &Path, max_bytes: u64) -> Result<(Self, Content<H, L>), JournalError>
    where
        H: DeserializeOwned,
        L: DeserializeOwned,
    {
        DirBuilder::new().recursive(true).mode(0o700).create(folder_of(path))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => JournalError::Locked,
            other => JournalError::Io(other.into()),
        })?;
        // Its owner may have removed it since it was opened, and a third process have made another.
        if !is_at(&file, path)? {
            return Err(JournalError::Locked);
        }
        let content = parse(&mut file, path, max_bytes)?;
        Ok((Self { file, path: path.to_owned() }, content))
    }

    /// Writes `header` if the journal has none yet, and otherwise cuts off an incomplete last line.
    pub(super) fn begin<H: Serialize, L>(&mut self, content: &Content<H, L>, header: &H) -> Result<(), JournalError> {
        self.file.set_len(content.complete_bytes)?;
        self.file.seek(SeekFrom::End(0))?;
        if content.header.is_none() {
            self.append([header])?;
            // After a power failure the journal's name must be there, too.
            File::open(folder_of(&self.path))?.sync_all()?;
        }
        Ok(())
    }

    /// Appends lines, and returns when they are on the disk.
    pub(super) fn append<L: Serialize>(&mut self, lines: impl IntoIterator<Item = L>) -> Result<(), JournalError> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(&line).map_err(io::Error::from)?);
            text.push('\n');
        }
        if !text.is_empty() {
            self.file.write_all(text.as_bytes())?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Removes the journal.
    pub(super) fn remove(self) -> Result<(), JournalError> {
        Ok(std::fs::remove_file(&self.path)?)
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let id = |found: Metadata| (found.dev(), found.ino());
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(id(found) == id(file.metadata()?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a journal without locking it; `None` if there is none. Damaged lines are left to the caller.
pub(super) fn read<H, L>(path: &Path, max_bytes: u64) -> Result<Option<Content<H, L>>, JournalError>
where
    H: DeserializeOwned,
    L: DeserializeOwned,
{
    match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path) {
        Ok(mut file) => parse(&mut file, path, max_bytes).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn parse<H, L>(file: &mut File, path: &Path, max_bytes: u64) -> Result<Content<H, L>, JournalError>
where
    H: DeserializeOwned,
    L: DeserializeOwned,
{
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    if let Some(found) = changeable(path)? {
        return Err(JournalError::Distrusted(found));
    }
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(JournalError::Invalid("it is not a regular file".to_owned()));
    }
    if metadata.len() > max_bytes {
        return Err(JournalError::Invalid(format!("it has more than {max_bytes} bytes")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut content = Content::default();
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break;
        }
        let damaged = || DamagedLine::new(number + 1, line);
        if number == 0 {
            let no_header = |_| JournalError::Damaged(damaged());
            let Format { format } = serde_json::from_slice(line).map_err(no_header)?;
            if format != FORMAT {
                return Err(JournalError::Invalid(format!("it has format {format}")));
            }
            content.header = Some(serde_json::from_slice(line).map_err(no_header)?);
        } else {
            match serde_json::from_slice(line) {
                Ok(line) => content.lines.push(line),
                Err(_) => content.damaged.push(damaged()),
            }
        }
        content.complete_bytes += line.len() as u64;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::is_at;

    #[test]
    fn a_journal_that_was_removed_and_made_again_is_another_one() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("journal");
        let opened = File::create(&path).unwrap();
        assert!(is_at(&opened, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&opened, &path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(!is_at(&opened, &path).unwrap());
    }
}
