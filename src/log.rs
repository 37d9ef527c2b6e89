//! The lines that a run writes about its work: what each one knows, and its forms as text for people, as JSON and as an
//! entry of systemd's journal. [`Log`] is the one place through which all of them go.

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

/// How much a line matters, worst first: the priorities of syslog(3) that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A mistake in the program itself.
    Critical = 2,
    /// Something failed.
    Error = 3,
    /// The work goes on, and should be looked at.
    Warning = 4,
    /// Worth knowing.
    Notice = 5,
    /// What is being done.
    Info = 6,
}

impl Severity {
    /// The number of syslog(3).
    pub fn priority(self) -> u8 {
        self as u8
    }

    /// The word in JSON lines.
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

/// What a line is about: the `event` of JSON lines, the journal's `VOLBAK_EVENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the program says of itself: a verb that failed, a config that others can change.
    Message,
    /// The program was called in a wrong way.
    Usage,
    /// A mistake in the program ended the work.
    Panic,
    /// Work on a volume begins.
    VolumeStarted,
    /// The next step of a volume's backup begins.
    Step,
    /// How far it is.
    Progress,
    /// How full a thick snapshot is.
    SnapshotFill,
    /// Something was wrong; the work goes on.
    Problem,
    /// Work on a volume ended well.
    VolumeFinished,
    /// There is no new backup of a volume.
    VolumeFailed,
    /// The last line of a run over several volumes.
    Summary,
}

impl Kind {
    /// The word in JSON lines and in the journal.
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

/// The value of a further field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A count, bytes, seconds.
    Number(u64),
    /// A share.
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

/// A line. Whatever its texts hold, no form of it has a control character, or a line that is not the program's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub kind: Kind,
    /// The source that it is about.
    pub source: Option<SourceName>,
    /// The text, alike in all forms. A `\n` in it begins a line.
    pub text: String,
    /// Further fields, in lower case with underscores.
    pub fields: Vec<(&'static str, Value)>,
}

impl Line {
    /// A line of this kind about no source.
    pub fn new(severity: Severity, kind: Kind, text: impl Into<String>) -> Self {
        Self { severity, kind, source: None, text: text.into(), fields: Vec::new() }
    }

    /// The same about a source.
    #[must_use]
    pub fn about(self, source: Option<SourceName>) -> Self {
        Self { source, ..self }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.fields.push((name, value));
        self
    }

    /// The same with a problem's place and text in fields of their own.
    #[must_use]
    pub fn with_problem(self, problem: &Problem) -> Self {
        self.with("where", Value::Text(problem.location.clone())).with("what", Value::Text(problem.what.clone()))
    }

    /// The same with a run's figures.
    #[must_use]
    pub fn with_figures(self, figures: &RunFigures) -> Self {
        self.with("volumes_ok", Value::Number(figures.volumes_ok))
            .with("volumes_warning", Value::Number(figures.volumes_warning))
            .with("volumes_failed", Value::Number(figures.volumes_failed))
            .with("archive_bytes", Value::Number(figures.archive_bytes))
            .with("seconds", Value::Number(figures.seconds))
    }

    /// The text, fit to be shown.
    fn message(&self) -> String {
        shown::lines(&self.text)
    }

    /// For people, without the `\n` at its end.
    pub fn as_text(&self) -> String {
        let program = if matches!(self.kind, Kind::Message | Kind::Usage | Kind::Panic) { "volbak: " } else { "" };
        format!("{program}{}", self.message())
    }

    /// As [`Self::as_text`], each line with its priority before it: sd-daemon(3), `SD_ERR`.
    pub fn as_text_with_priority(&self) -> String {
        let priority = self.severity.priority();
        let lines: Vec<String> = self.as_text().split('\n').map(|line| format!("<{priority}>{line}")).collect();
        lines.join("\n")
    }

    /// One JSON object, without the `\n` at its end.
    pub fn as_json(&self, run_id: &str, time: DateTime<Utc>) -> String {
        // The only failures are a map's key that is no text, and a writer that fails.
        serde_json::to_string(&Json { line: self, run_id, time }).unwrap_or_default()
    }

    /// The fields of the journal's entry: names of `A-Z0-9_`, and values as they are.
    fn as_journal(&self, run_id: &str, unit: Option<&str>) -> Vec<(String, String)> {
        let mut fields = vec![
            ("MESSAGE".to_owned(), self.message()),
            ("PRIORITY".to_owned(), self.severity.priority().to_string()),
            ("SYSLOG_IDENTIFIER".to_owned(), IDENTIFIER.to_owned()),
            // As the output of services has it, for what passes entries on to syslog.
            ("SYSLOG_FACILITY".to_owned(), DAEMON.to_owned()),
            ("VOLBAK_RUN_ID".to_owned(), run_id.to_owned()),
            ("VOLBAK_EVENT".to_owned(), self.kind.word().to_owned()),
        ];
        // `journalctl -u` looks for it, too: systemd.journal-fields(7).
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
