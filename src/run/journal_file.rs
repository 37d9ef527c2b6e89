//! A journal: a file of JSON lines, which is on the disk before what it announces is done. The first line says what the
//! journal is of. A last line that is cut off was being written when the process ended, and is dropped: what it announces
//! was not begun.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::outside::trust::{Changeable, changeable};

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
    /// The file is damaged, or is no journal.
    #[error("{0}")]
    Invalid(String),
}

/// The header and lines of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content<H, L> {
    /// `None` if the file is empty, or its first line is cut off.
    pub(super) header: Option<H>,
    pub(super) lines: Vec<L>,
    /// The length up to the end of the last complete line.
    complete_bytes: u64,
}

impl<H, L> Default for Content<H, L> {
    fn default() -> Self {
        Self { header: None, lines: Vec::new(), complete_bytes: 0 }
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
    /// line is appended.
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

/// Reads a journal without locking it; `None` if there is none.
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
        let at = |error: serde_json::Error| JournalError::Invalid(format!("line {}: {error}", number + 1));
        if number == 0 {
            let Format { format } = serde_json::from_slice(line).map_err(at)?;
            if format != FORMAT {
                return Err(JournalError::Invalid(format!("it has format {format}")));
            }
            content.header = Some(serde_json::from_slice(line).map_err(at)?);
        } else {
            content.lines.push(serde_json::from_slice(line).map_err(at)?);
        }
        content.complete_bytes += line.len() as u64;
    }
    Ok(content)
}
