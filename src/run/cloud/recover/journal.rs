//! The journal: which outage is recovered from, what is wanted, and a line on the disk before each change. After `kill -9` it says
//! what may have been done; whether it was, the cloud says.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::RecoverError;
use super::plan::Action;
use super::seen::{Past, Restarted};
use crate::outside::trust::changeable;

const FORMAT: u32 = 1;
/// A larger file is no journal.
const MAX_BYTES: u64 = 256 << 20;

/// What a journal is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    format: u32,
    /// `recovery`, or `evacuation of HOST`.
    pub(crate) of: String,
    /// Keystone's address and the region.
    pub(crate) cloud: String,
    /// The outage; an evacuation has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outage: Option<DateTime<Utc>>,
    /// When the saved map was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) saved_map: Option<DateTime<Utc>>,
    pub(crate) begun: DateTime<Utc>,
}

/// A line after the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    /// A volume belongs to an instance, and is not attached yet.
    Wanted {
        volume: String,
        instance: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// A step is about to begin.
    Begin {
        step: Action,
        at: DateTime<Utc>,
        /// Requests that Nova had of the instance before.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        known: BTreeSet<String>,
    },
    /// A step was seen to be done.
    Done { step: Action, at: DateTime<Utc> },
    /// An instance is about to be evacuated.
    Evacuate {
        instance: String,
        at: DateTime<Utc>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        known: BTreeSet<String>,
    },
    /// An instance was seen on another host.
    Evacuated { instance: String, at: DateTime<Utc> },
    /// Everything was done, and was seen to be.
    Complete { at: DateTime<Utc> },
}

/// What a journal has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Earlier {
    pub(crate) header: Option<Header>,
    pub(crate) lines: Vec<Line>,
    whole_bytes: u64,
}

impl Header {
    pub(crate) fn new(of: String, cloud: String, begun: DateTime<Utc>) -> Self {
        Self { format: FORMAT, of, cloud, outage: None, saved_map: None, begun }
    }
}

impl Earlier {
    /// When something was written to it last.
    pub(crate) fn last(&self) -> Option<DateTime<Utc>> {
        let times = self.lines.iter().filter_map(|line| match line {
            Line::Begin { at, .. }
            | Line::Done { at, .. }
            | Line::Complete { at }
            | Line::Evacuate { at, .. }
            | Line::Evacuated { at, .. } => Some(*at),
            Line::Wanted { .. } => None,
        });
        times.chain(self.header.as_ref().map(|header| header.begun)).max()
    }

    /// What a plan has to know of it.
    pub(crate) fn past(&self) -> Past {
        let mut past = Past::default();
        for line in &self.lines {
            match line {
                Line::Wanted { volume, instance, device } => {
                    past.wanted.insert((volume.clone(), instance.clone()), device.clone());
                }
                Line::Begin { step: Action::FreeWedge { volume, instance }, .. } => {
                    past.freeing.insert((volume.id.clone(), instance.id.clone()));
                }
                Line::Done { step: Action::FreeWedge { volume, instance }, .. } => {
                    past.freeing.remove(&(volume.id.clone(), instance.id.clone()));
                }
                Line::Done { step: Action::Attach { volume, instance, .. }, .. } => {
                    past.wanted.remove(&(volume.id.clone(), instance.id.clone()));
                    past.attached.insert(instance.id.clone());
                }
                Line::Begin { step: Action::Restart { instance }, at, known } => {
                    let restart = Restarted { known: known.clone(), is_done: false, at: Some(*at) };
                    past.restarts.insert(instance.id.clone(), restart);
                }
                Line::Done { step: Action::Restart { instance }, .. } => {
                    past.restarts.entry(instance.id.clone()).or_default().is_done = true;
                }
                Line::Begin { step: Action::RebootInside { instance, .. }, .. } => {
                    past.inside.insert(instance.id.clone());
                }
                _ => {}
            }
        }
        past
    }
}

/// A journal that is written. It is locked until it is dropped.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    earlier: Earlier,
}

impl Journal {
    /// Opens or makes the journal; `header` is written if it has none.
    pub(crate) fn open(path: &Path, header: &Header) -> Result<Self, RecoverError> {
        let failed = |source| RecoverError::Journal { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => RecoverError::Locked(path.to_owned()),
            other => failed(other.into()),
        })?;
        trusted(path)?;
        let mut journal = Self { file, path: path.to_owned(), earlier: Earlier::default() };
        let earlier = parse(&mut journal.file, path)?;
        if earlier.header.is_none() {
            journal.file.set_len(0).map_err(failed)?;
            journal.file.seek(SeekFrom::Start(0)).map_err(failed)?;
            journal.append(&serde_json::to_string(header).map_err(|error| failed(error.into()))?)?;
            // Its name has to be there after a loss of power, too.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            journal.earlier = Earlier { header: Some(header.clone()), ..Earlier::default() };
        } else {
            check(&earlier, header, path)?;
            // A line that was being written announces nothing that was done.
            journal.file.set_len(earlier.whole_bytes).map_err(failed)?;
            journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
            journal.earlier = earlier;
        }
        Ok(journal)
    }

    /// What it has.
    pub(crate) fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// Writes a line, and waits until it is on the disk.
    pub(crate) fn write(&mut self, line: Line) -> Result<(), RecoverError> {
        let text = serde_json::to_string(&line)
            .map_err(|error| RecoverError::Journal { path: self.path.clone(), source: error.into() })?;
        self.append(&text)?;
        self.earlier.lines.push(line);
        Ok(())
    }

    fn append(&mut self, text: &str) -> Result<(), RecoverError> {
        self.file
            .write_all(format!("{text}\n").as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| RecoverError::Journal { path: self.path.clone(), source })
    }
}

/// Puts the journal of an earlier outage out of the way, beside its place.
pub(crate) fn put_away(path: &Path, earlier: &Earlier) -> Result<(), RecoverError> {
    let Some(header) = &earlier.header else { return Ok(()) };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", header.begun.format("%Y%m%dT%H%M%SZ")));
    std::fs::rename(path, &name).map_err(|source| RecoverError::Journal { path: path.to_owned(), source })
}

/// Reads a journal, if there is one. It is not locked.
pub(crate) fn read(path: &Path, header: &Header) -> Result<Earlier, RecoverError> {
    match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path) {
        Ok(mut file) => {
            trusted(path)?;
            let earlier = parse(&mut file, path)?;
            check(&earlier, header, path)?;
            Ok(earlier)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Earlier::default()),
        Err(source) => Err(RecoverError::Journal { path: path.to_owned(), source }),
    }
}

fn check(earlier: &Earlier, header: &Header, path: &Path) -> Result<(), RecoverError> {
    match &earlier.header {
        Some(own) if own.of != header.of || own.cloud != header.cloud => Err(RecoverError::BadJournal {
            path: path.to_owned(),
            what: format!("it is of the {} in the cloud {}: name another one with --journal", own.of, own.cloud),
        }),
        _ => Ok(()),
    }
}

/// Whoever changes a journal decides what is done to instances.
fn trusted(path: &Path) -> Result<(), RecoverError> {
    match changeable(path) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(RecoverError::BadJournal { path: path.to_owned(), what: found.to_string() }),
        Err(source) => Err(RecoverError::Journal { path: path.to_owned(), source }),
    }
}

fn parse(file: &mut File, path: &Path) -> Result<Earlier, RecoverError> {
    let failed = |source: io::Error| RecoverError::Journal { path: path.to_owned(), source };
    let wrong = |what: String| RecoverError::BadJournal { path: path.to_owned(), what };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(wrong("it is no file of a journal".to_owned()));
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
            earlier.lines.push(serde_json::from_slice(line).map_err(at)?);
        }
        earlier.whole_bytes += line.len() as u64;
    }
    Ok(earlier)
}
