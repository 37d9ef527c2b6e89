//! The journal: the outage, the attachments that are wanted, and a line on the disk before each change. After `kill -9` it
//! names the steps that may have been done; the cloud shows whether they were.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::error::RecoverError;
use super::plan::Action;
use super::seen::{Past, Restarted};
use crate::run::journal_file::{self, Content, FORMAT, JournalError, JournalFile};

/// A larger file is no journal.
const MAX_BYTES: u64 = 256 << 20;

/// The first line of a journal: its purpose.
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
    /// The call came to its end, and left something to do or to look at.
    Ended { at: DateTime<Utc> },
}

/// The content of a journal.
pub(crate) type Earlier = Content<Header, Line>;

impl Header {
    pub(crate) fn new(of: String, cloud: String, begun: DateTime<Utc>) -> Self {
        Self { format: FORMAT, of, cloud, outage: None, saved_map: None, begun }
    }
}

impl Content<Header, Line> {
    /// When something was written to it last.
    pub(crate) fn last(&self) -> Option<DateTime<Utc>> {
        let times = self.lines.iter().filter_map(|line| match line {
            Line::Begin { at, .. }
            | Line::Done { at, .. }
            | Line::Complete { at }
            | Line::Ended { at }
            | Line::Evacuate { at, .. }
            | Line::Evacuated { at, .. } => Some(*at),
            Line::Wanted { .. } => None,
        });
        times.chain(self.header.as_ref().map(|header| header.begun)).max()
    }

    /// Whether all that it is for was done.
    pub(crate) fn is_complete(&self) -> bool {
        self.lines.iter().any(|line| matches!(line, Line::Complete { .. }))
    }

    /// Whether the last call did not come to its end.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.header.is_some() && !matches!(self.lines.last(), Some(Line::Complete { .. } | Line::Ended { .. }))
    }

    /// The facts that a plan needs of it.
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
    file: JournalFile,
    path: PathBuf,
    earlier: Earlier,
}

impl Journal {
    /// Opens or creates the journal; `header` is written if it has none.
    pub(crate) fn open(path: &Path, header: &Header) -> Result<Self, RecoverError> {
        let failed = |error| RecoverError::of_journal(path, error);
        let (mut file, earlier) = JournalFile::open(path, MAX_BYTES).map_err(failed)?;
        let mut earlier = undamaged(earlier).map_err(failed)?;
        check(&earlier, header, path)?;
        file.begin(&earlier, header).map_err(failed)?;
        earlier.header.get_or_insert_with(|| header.clone());
        Ok(Self { file, path: path.to_owned(), earlier })
    }

    /// Its content.
    pub(crate) fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// Notes that this call comes to its end after this error; an interruption is none.
    pub(crate) fn note_end(&mut self, error: &RecoverError, at: DateTime<Utc>) {
        if !matches!(error, RecoverError::Cancelled) {
            // Without the line, the next call takes this one for interrupted; the error itself is reported.
            let _ = self.write(Line::Ended { at });
        }
    }

    /// Writes a line, and waits until it is on the disk.
    pub(crate) fn write(&mut self, line: Line) -> Result<(), RecoverError> {
        self.file.append([&line]).map_err(|error| RecoverError::of_journal(&self.path, error))?;
        self.earlier.lines.push(line);
        Ok(())
    }
}

/// Renames the journal of an earlier outage, in its folder.
pub(crate) fn put_away(path: &Path, earlier: &Earlier) -> Result<(), RecoverError> {
    let Some(header) = &earlier.header else { return Ok(()) };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", header.begun.format("%Y%m%dT%H%M%SZ")));
    std::fs::rename(path, &name).map_err(|source| RecoverError::Journal { path: path.to_owned(), source })
}

/// Reads a journal, if there is one. It is not locked.
pub(crate) fn read(path: &Path, header: &Header) -> Result<Earlier, RecoverError> {
    let failed = |error| RecoverError::of_journal(path, error);
    let earlier: Earlier = journal_file::read(path, MAX_BYTES).map_err(failed)?.unwrap_or_default();
    let earlier = undamaged(earlier).map_err(failed)?;
    check(&earlier, header, path)?;
    Ok(earlier)
}

/// Fails if a line is damaged: what it announced may have been done.
fn undamaged(earlier: Earlier) -> Result<Earlier, JournalError> {
    match earlier.damaged.first() {
        Some(line) => Err(JournalError::Damaged(line.clone())),
        None => Ok(earlier),
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
