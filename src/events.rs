//! What happens during a run, told to an observer as it happens: the terminal's progress bar, a log, a test. Problems
//! that do not end a run go the same way, and are counted for the exit status by whoever runs it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::shown;

/// A problem's place and its text are at most about this long, each.
const MAX_TEXT_BYTES: usize = 1024;

/// How much a [`Problem`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, and as it should be: a socket, which no archive can hold. Leaves the exit status alone.
    Notice,
    /// The backup is complete, but somebody should look: a partition that is kept as a raw image.
    Warning,
    /// Something on the volume is not in the backup as it was.
    Error,
}

/// Something that was wrong and did not end the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The place: a region (`p3`), a path in the archive, a byte offset.
    #[serde(rename = "where")]
    pub location: String,
    /// What is wrong, one line, and what became of the data.
    pub what: String,
}

impl Problem {
    /// A problem of this severity at this place. Both texts are made fit to be shown.
    pub fn new(severity: Severity, location: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            severity,
            location: shortened(shown::text(&location.into())),
            what: shortened(shown::text(&what.into())),
        }
    }
}

/// A tenant decides how long a path is, and how often it is complained about: the middle of a long text is left out.
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
    /// As the user knows it: `VG/LV`, or a path.
    pub shown: String,
    /// The name of its backups; a logical volume's is its own.
    pub volume: String,
    /// The volume group of a logical volume.
    pub group: Option<String>,
}

impl SourceName {
    /// The logical volume of this group and name.
    pub fn of_volume(group: &str, volume: &str) -> Self {
        Self { shown: format!("{group}/{volume}"), volume: volume.to_owned(), group: Some(group.to_owned()) }
    }

    /// A volume whose group is not known.
    pub fn of_backups(volume: &str) -> Self {
        Self { shown: volume.to_owned(), volume: volume.to_owned(), group: None }
    }
}

/// The figures of a run over several volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunFigures {
    /// Volumes that are backed up, without an error or a warning.
    pub volumes_ok: u64,
    /// Volumes that are backed up, with something to look at.
    pub volumes_warning: u64,
    /// Volumes that have no new backup.
    pub volumes_failed: u64,
    /// The new archives together.
    pub archive_bytes: u64,
    /// How long the run took.
    pub seconds: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A run over several sources begins; comes before the first [`Event::SourceStarted`].
    RunStarted {
        /// How many sources there are.
        sources: u64,
        /// How many bytes will be read of all of them together, an estimate; 0 when it is not known.
        bytes: u64,
    },
    /// Work on a source begins.
    SourceStarted {
        /// The source.
        source: SourceName,
    },
    /// The next step of a source's backup begins (`taking a snapshot`).
    Step {
        /// The step, in words for a person.
        step: String,
    },
    /// How many bytes a step is expected to read, as far as is known; comes before its first [`Event::Read`].
    ExpectedBytes {
        /// Bytes to read, an estimate.
        bytes: u64,
    },
    /// This many more bytes were read from the source.
    Read {
        /// Bytes since the last such event.
        bytes: u64,
    },
    /// So many bytes need not be read: they are carried forward from the previous backup.
    Carried {
        /// Bytes since the last such event, and the last [`Event::Read`].
        bytes: u64,
    },
    /// How full a thick snapshot's exception store is, in percent of its size.
    SnapshotFill {
        /// The snapshot, `VG/LV`.
        snapshot: String,
        /// From 0 to 100.
        percent: f64,
    },
    /// Something was wrong; the work goes on.
    Problem(Problem),
    /// As [`Event::Problem`], about a source on which no work is under way: its place names the source where needed.
    ProblemOf {
        /// The source.
        source: SourceName,
        /// What was wrong.
        problem: Problem,
    },
    /// Work on a source ended, with a result.
    SourceFinished {
        /// The source.
        source: SourceName,
        /// What came out of it, one line.
        outcome: String,
        /// The worst that was found, above a notice.
        worst: Option<Severity>,
    },
    /// Work on a source ended, and there is no new backup of it.
    SourceFailed {
        /// The source.
        source: SourceName,
        /// The step and the cause, one line.
        why: String,
    },
    /// A run over several sources ended.
    RunFinished {
        /// A notice when all is well, a warning when there were problems, an error when the run or a source failed.
        severity: Severity,
        /// The outcome, one line.
        outcome: String,
        /// The outcome in figures.
        figures: RunFigures,
    },
}

/// Is told of each [`Event`] as it happens, from any thread. It must not block for long.
pub trait Observer: Send + Sync {
    /// Takes note of `event`.
    fn on_event(&self, event: &Event);

    /// How many lines about events are lost, or wait for a reader that takes none. A run asks before it makes its report, which
    /// says it in another way.
    fn unheard(&self) -> u64 {
        0
    }
}

/// Drops each event.
pub struct Silent;

impl Observer for Silent {
    fn on_event(&self, _: &Event) {}
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
    fn whoever_tells_of_it_it_is_fit_to_be_shown() {
        let problem = Problem::new(Severity::Error, "a\u{202e}b", "line\nline");
        assert_eq!(problem.to_string(), "a\\u{202e}b: line\\nline");
    }
}
