//! The events of a run, delivered to an observer as they happen: the progress bar, the log, a test. Problems that
//! do not end a run are events too; the caller counts them for the exit status.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::shown;

/// The approximate maximum length of a problem's place, and of its text.
const MAX_TEXT_BYTES: usize = 1024;

/// The severity of a [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Normal, but worth knowing: a socket, which no archive can hold. Does not change the exit status.
    Notice,
    /// The backup is complete, but needs attention: a partition kept as a raw image.
    Warning,
    /// Content of the volume is missing or altered in the backup.
    Error,
}

/// A problem that did not end the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its severity.
    pub severity: Severity,
    /// The place: a region (`p3`), a path in the archive, a byte offset.
    #[serde(rename = "where")]
    pub location: String,
    /// The problem and its effect on the data, one line.
    pub what: String,
}

impl Problem {
    /// A problem of this severity at this place. Control characters in both texts are escaped.
    pub fn new(severity: Severity, location: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            severity,
            location: shortened(shown::text(&location.into())),
            what: shortened(shown::text(&what.into())),
        }
    }
}

/// Cuts out the middle of a long text. A tenant controls the length of a path and the number of problems about it.
fn shortened(text: String) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text;
    }
    let head = text.floor_char_boundary(MAX_TEXT_BYTES / 2);
    let tail = text.ceil_char_boundary(text.len() - MAX_TEXT_BYTES / 2);
    format!("{}…{}", &text[..head], &text[tail..])
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.what)
    }
}

/// A source, as events and log lines name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceName {
    /// For display: `VG/LV`, or a path.
    pub shown: String,
    /// The name of its backups; for a logical volume, its own name.
    pub volume: String,
    /// The volume group of a logical volume.
    pub group: Option<String>,
}

impl SourceName {
    /// The logical volume of this group and name.
    #[doc(hidden)]
    pub fn of_volume(group: &str, volume: &str) -> Self {
        Self { shown: format!("{group}/{volume}"), volume: volume.to_owned(), group: Some(group.to_owned()) }
    }

    /// A volume whose group is unknown.
    #[doc(hidden)]
    pub fn of_backups(volume: &str) -> Self {
        Self { shown: volume.to_owned(), volume: volume.to_owned(), group: None }
    }
}

/// The figures of a run over several volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunFigures {
    /// Volumes backed up without an error or a warning.
    pub volumes_ok: u64,
    /// Volumes backed up with a warning or an error.
    pub volumes_warning: u64,
    /// Volumes without a new backup.
    pub volumes_failed: u64,
    /// The total length of the new archives.
    pub archive_bytes: u64,
    /// The duration of the run.
    pub seconds: u64,
}

/// An event of a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// A run over several sources begins. Precedes the first [`Event::SourceStarted`].
    RunStarted {
        /// The number of sources.
        sources: u64,
        /// The estimated number of bytes to read from all sources; 0 if unknown.
        bytes: u64,
    },
    /// The backup of a source begins.
    SourceStarted {
        /// The source.
        source: SourceName,
    },
    /// The next step of a source's backup begins (`taking a snapshot`).
    Step {
        /// The step, in words.
        step: String,
    },
    /// The expected number of bytes to read in a step. Precedes its first [`Event::Read`].
    ExpectedBytes {
        /// The estimated number of bytes.
        bytes: u64,
    },
    /// Bytes were read from the source.
    Read {
        /// Bytes since the last such event.
        bytes: u64,
    },
    /// Bytes are carried forward from the previous backup and need not be read.
    Carried {
        /// Bytes since the last such event and the last [`Event::Read`].
        bytes: u64,
    },
    /// The fill of a thick snapshot's exception store, in percent of its size.
    SnapshotFill {
        /// The snapshot, `VG/LV`.
        snapshot: String,
        /// From 0 to 100.
        percent: f64,
    },
    /// A problem that does not end the run.
    Problem(Problem),
    /// Like [`Event::Problem`], for a source that is not being backed up at the moment. The problem's place names
    /// the source where needed.
    ProblemOf {
        /// The source.
        source: SourceName,
        /// The problem.
        problem: Problem,
    },
    /// The backup of a source ended with a result.
    SourceFinished {
        /// The source.
        source: SourceName,
        /// The result, one line.
        outcome: String,
        /// The highest severity found, if above a notice.
        worst: Option<Severity>,
    },
    /// The backup of a source ended without a new backup.
    SourceFailed {
        /// The source.
        source: SourceName,
        /// The step and the cause, one line.
        why: String,
    },
    /// The backup of a source failed for a reason that may pass, and is tried again later in the run.
    SourcePostponed {
        /// The source.
        source: SourceName,
        /// The step and the cause, one line.
        why: String,
    },
    /// An event of one of several sources that are backed up at the same time.
    Of {
        /// The source.
        source: SourceName,
        /// Its event, which is none of a run and no other of this kind.
        event: Box<Event>,
    },
    /// A run over several sources ended.
    RunFinished {
        /// Notice: success. Warning: there were problems. Error: the run or a source failed.
        severity: Severity,
        /// The result, one line.
        outcome: String,
        /// The result in figures.
        figures: RunFigures,
    },
}

/// Receives each [`Event`] as it happens, from any thread. Must not block for long.
pub trait Observer: Send + Sync {
    /// Handles `event`.
    fn on_event(&self, event: &Event);

    /// The number of log lines that were lost or wait for a reader that does not read. A run queries this before
    /// its report, which mentions it.
    #[doc(hidden)]
    fn unheard(&self) -> u64 {
        0
    }
}

/// Drops each event.
pub struct Silent;

impl Observer for Silent {
    fn on_event(&self, _: &Event) {}
}

/// Forwards each event as one of this source.
pub(crate) struct OfSource {
    next: std::sync::Arc<dyn Observer>,
    source: SourceName,
}

impl OfSource {
    pub(crate) fn new(next: std::sync::Arc<dyn Observer>, source: SourceName) -> Self {
        Self { next, source }
    }
}

impl Observer for OfSource {
    fn on_event(&self, event: &Event) {
        self.next.on_event(&Event::Of { source: self.source.clone(), event: Box::new(event.clone()) });
    }

    fn unheard(&self) -> u64 {
        self.next.unheard()
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TEXT_BYTES, Problem, Severity};

    #[test]
    fn a_long_text_keeps_its_ends() {
        let path = format!("start{}end", "é".repeat(50_000));
        let problem = Problem::new(Severity::Error, path.clone(), "what");
        assert!(problem.location.len() <= MAX_TEXT_BYTES + 4);
        assert!(problem.location.starts_with("starté") && problem.location.ends_with("éend"));
        assert_eq!(Problem::new(Severity::Error, "é".repeat(512), "").location.len(), MAX_TEXT_BYTES);
    }

    #[test]
    fn problems_are_safe_to_display() {
        let problem = Problem::new(Severity::Error, "a\u{202e}b", "line\nline");
        assert_eq!(problem.to_string(), "a\\u{202e}b: line\\nline");
    }
}
