//! The log lines of a run: their fields, and their forms as text, as JSON and as journal entries. All lines go
//! through [`Log`].

use chrono::{DateTime, SecondsFormat, Utc};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::events::{Problem, RunFigures, SourceName};
use crate::shown;

mod delivery;
mod journal;

pub use delivery::{Format, Log, Unsent, new_run_id, write_in_time};
pub use journal::{Journal, SOCKET, is_journal_stream, unit_of};

/// The name of the program, as the journal's `SYSLOG_IDENTIFIER`.
pub const IDENTIFIER: &str = "volbak";

/// `LOG_DAEMON` of syslog(3).
const DAEMON: &str = "3";

/// The severity of a line, worst first: the priorities of syslog(3) that volbak uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A bug in the program.
    Critical = 2,
    /// A failure.
    Error = 3,
    /// The run goes on, but needs attention.
    Warning = 4,
    /// Normal, but worth knowing.
    Notice = 5,
    /// Progress of the run.
    Info = 6,
}

impl Severity {
    /// The priority number of syslog(3).
    pub fn priority(self) -> u8 {
        self as u8
    }

    /// The severity in JSON lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
        }
    }
}

impl From<crate::events::Severity> for Severity {
    fn from(severity: crate::events::Severity) -> Self {
        match severity {
            crate::events::Severity::Notice => Self::Notice,
            crate::events::Severity::Warning => Self::Warning,
            crate::events::Severity::Error => Self::Error,
        }
    }
}

/// The kind of a line: `event` in JSON lines, `VOLBAK_EVENT` in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message of the program itself: a failed verb, a config that other users can change.
    Message,
    /// Wrong usage of the command line.
    Usage,
    /// A bug ended the program.
    Panic,
    /// The backup of a volume begins.
    VolumeStarted,
    /// The next step of a volume's backup begins.
    Step,
    /// Progress.
    Progress,
    /// The fill of a thick snapshot.
    SnapshotFill,
    /// A problem that does not end the run.
    Problem,
    /// The backup of a volume succeeded.
    VolumeFinished,
    /// A volume has no new backup.
    VolumeFailed,
    /// The last line of a run over several volumes.
    Summary,
}

impl Kind {
    /// The kind in JSON lines and in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Usage => "usage",
            Self::Panic => "panic",
            Self::VolumeStarted => "volume_started",
            Self::Step => "step",
            Self::Progress => "progress",
            Self::SnapshotFill => "snapshot_fill",
            Self::Problem => "problem",
            Self::VolumeFinished => "volume_finished",
            Self::VolumeFailed => "volume_failed",
            Self::Summary => "summary",
        }
    }
}

/// The value of an additional field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number: a count, bytes, seconds.
    Number(u64),
    /// A percentage.
    Percent(f64),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => shown::text(text),
            Self::Number(number) => number.to_string(),
            Self::Percent(percent) => format!("{percent:.1}"),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(&shown::text(text)),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Percent(percent) => serializer.serialize_f64(*percent),
        }
    }
}

/// A log line. In every form control characters are escaped and its texts cannot start a line of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its severity.
    pub severity: Severity,
    /// Its kind.
    pub kind: Kind,
    /// The source it refers to.
    pub source: Option<SourceName>,
    /// The text, the same in all forms. A `\n` starts a new line.
    pub text: String,
    /// Additional fields, in lower case with underscores.
    pub fields: Vec<(&'static str, Value)>,
}

impl Line {
    /// A line without a source.
    pub fn new(severity: Severity, kind: Kind, text: impl Into<String>) -> Self {
        Self { severity, kind, source: None, text: text.into(), fields: Vec::new() }
    }

    /// Adds a source.
    #[must_use]
    pub fn about(self, source: Option<SourceName>) -> Self {
        Self { source, ..self }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Adds a problem's place and text as fields.
    #[must_use]
    pub fn with_problem(self, problem: &Problem) -> Self {
        self.with("where", Value::Text(problem.location.clone())).with("what", Value::Text(problem.what.clone()))
    }

    /// Adds a run's figures.
    #[must_use]
    pub fn with_figures(self, figures: &RunFigures) -> Self {
        self.with("volumes_ok", Value::Number(figures.volumes_ok))
            .with("volumes_warning", Value::Number(figures.volumes_warning))
            .with("volumes_failed", Value::Number(figures.volumes_failed))
            .with("archive_bytes", Value::Number(figures.archive_bytes))
            .with("seconds", Value::Number(figures.seconds))
    }

    /// The text with control characters escaped.
    fn message(&self) -> String {
        shown::lines(&self.text)
    }

    /// The line as text, without the final `\n`.
    pub fn as_text(&self) -> String {
        let program = if matches!(self.kind, Kind::Message | Kind::Usage | Kind::Panic) { "volbak: " } else { "" };
        format!("{program}{}", self.message())
    }

    /// Like [`Self::as_text`], with its priority before each line: sd-daemon(3), `SD_ERR`.
    pub fn as_text_with_priority(&self) -> String {
        let priority = self.severity.priority();
        let lines: Vec<String> = self.as_text().split('\n').map(|line| format!("<{priority}>{line}")).collect();
        lines.join("\n")
    }

    /// The line as a JSON object, without the final `\n`.
    pub fn as_json(&self, run_id: &str, time: DateTime<Utc>) -> String {
        // Serialising fails only for non-string keys and failing writers.
        serde_json::to_string(&Json { line: self, run_id, time }).unwrap_or_default()
    }

    /// The fields of a journal entry: names of `A-Z0-9_`, and raw values.
    fn as_journal(&self, run_id: &str, unit: Option<&str>) -> Vec<(String, String)> {
        let mut fields = vec![
            ("MESSAGE".to_owned(), self.message()),
            ("PRIORITY".to_owned(), self.severity.priority().to_string()),
            ("SYSLOG_IDENTIFIER".to_owned(), IDENTIFIER.to_owned()),
            // As in the output of services, for forwarding to syslog.
            ("SYSLOG_FACILITY".to_owned(), DAEMON.to_owned()),
            ("VOLBAK_RUN_ID".to_owned(), run_id.to_owned()),
            ("VOLBAK_EVENT".to_owned(), self.kind.word().to_owned()),
        ];
        // `journalctl -u` also matches this field: systemd.journal-fields(7).
        fields.extend(unit.map(|unit| ("OBJECT_SYSTEMD_UNIT".to_owned(), unit.to_owned())));
        if let Some(source) = &self.source {
            fields.push(("VOLBAK_VOLUME".to_owned(), shown::text(&source.volume)));
            fields.extend(source.group.iter().map(|group| ("VOLBAK_GROUP".to_owned(), shown::text(group))));
        }
        fields.extend(
            self.fields.iter().map(|(name, value)| (format!("VOLBAK_{}", name.to_ascii_uppercase()), value.text())),
        );
        fields
    }
}

struct Json<'a> {
    line: &'a Line,
    run_id: &'a str,
    time: DateTime<Utc>,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = self.line;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &self.time.to_rfc3339_opts(SecondsFormat::Millis, true))?;
        map.serialize_entry("severity", line.severity.word())?;
        map.serialize_entry("priority", &line.severity.priority())?;
        map.serialize_entry("run_id", self.run_id)?;
        map.serialize_entry("event", line.kind.word())?;
        if let Some(source) = &line.source {
            map.serialize_entry("volume", &shown::text(&source.volume))?;
            if let Some(group) = &source.group {
                map.serialize_entry("group", &shown::text(group))?;
            }
        }
        map.serialize_entry("message", &line.message())?;
        for (name, value) in &line.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
