//! The facts of a notice: the documented JSON that webhooks and commands get, and templates use.

use std::fmt;

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

use crate::events::{Problem, Severity};
use crate::report::{Outcome, RunReport, RunVerdict, Style, VolumeReport};

/// Version of the JSON. Fields are added, never renamed or removed, within a version.
const FORMAT: u32 = 1;
/// Problems in a notice; the report has all of them.
const MAX_PROBLEMS: usize = 20;

/// When a notice is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeEvent {
    /// A whole run began.
    Start,
    /// It ended well.
    Ok,
    /// It ended with problems.
    Warning,
    /// At least one volume failed, or the run was aborted.
    Failure,
    /// `volbak notify test`.
    Test,
}

impl NoticeEvent {
    /// Its word in the config, in JSON and in the environment of commands.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
            Self::Test => "test",
        }
    }

    /// That of a result.
    pub fn of(verdict: RunVerdict) -> Self {
        match verdict {
            RunVerdict::Good => Self::Ok,
            RunVerdict::Problems => Self::Warning,
            RunVerdict::Failed => Self::Failure,
        }
    }
}

impl fmt::Display for NoticeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The facts of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Version of this form.
    pub format: u32,
    /// When it is sent.
    pub event: NoticeEvent,
    /// The host's name.
    pub host: String,
    /// The `run_id` of the log lines.
    pub run_id: Option<String>,
    /// When the run began.
    pub started: DateTime<FixedOffset>,
    /// How long it took.
    pub duration_seconds: u64,
    /// The destination.
    pub destination: String,
    /// One line, the outcome first.
    pub subject: String,
    /// The report's text; empty at the start.
    pub text: String,
    /// The volumes, in the order of the report.
    pub volumes: Vec<NoticeVolume>,
    /// The first problems of the run and of its volumes, one line each.
    pub problems: Vec<String>,
}

/// The result of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeVolume {
    /// Its name.
    pub name: String,
    /// Its volume group.
    pub group: Option<String>,
    /// Its result.
    pub outcome: NoticeEvent,
    /// Why it failed, or was not started.
    pub why: Option<String>,
    /// The new archive's size.
    pub archive_bytes: Option<u64>,
    /// How long it took.
    pub duration_seconds: u64,
}

impl Notice {
    /// The start of a run.
    pub fn start(host: &str, run_id: Option<&str>, started: DateTime<FixedOffset>, destination: &str) -> Self {
        let subject = format!("volbak {host}: the run of {} begins", started.format("%Y-%m-%d %H:%M"));
        Self::bare(NoticeEvent::Start, host, run_id, started, destination, subject)
    }

    /// A trial: nothing happened.
    pub fn test(host: &str, now: DateTime<FixedOffset>, destination: &str) -> Self {
        let subject = format!("volbak {host}: a test of the notifications; no run took place");
        Self::bare(NoticeEvent::Test, host, None, now, destination, subject)
    }

    /// The end of a run.
    pub fn of(report: &RunReport, style: Style) -> Self {
        let shown = |problem: &Problem| (problem.severity > Severity::Notice).then(|| problem.to_string());
        let of_volume = |volume: &VolumeReport| {
            let name = volume.name.clone();
            volume.problems.iter().filter_map(shown).map(move |what| format!("{name}: {what}")).collect::<Vec<_>>()
        };
        let of_run = report.problems.iter().filter_map(shown);
        let problems = of_run.chain(report.volumes.iter().flat_map(of_volume)).take(MAX_PROBLEMS).collect();
        let event = NoticeEvent::of(report.verdict());
        let bare = Self::bare(
            event,
            &report.host,
            report.run_id.as_deref(),
            report.started,
            &report.destination,
            report.subject(),
        );
        Self {
            duration_seconds: report.duration_seconds,
            text: report.text(style),
            volumes: report.volumes.iter().map(NoticeVolume::of).collect(),
            problems,
            ..bare
        }
    }

    fn bare(
        event: NoticeEvent,
        host: &str,
        run_id: Option<&str>,
        started: DateTime<FixedOffset>,
        destination: &str,
        subject: String,
    ) -> Self {
        Self {
            format: FORMAT,
            event,
            host: host.to_owned(),
            run_id: run_id.map(str::to_owned),
            started,
            duration_seconds: 0,
            destination: destination.to_owned(),
            subject,
            text: String::new(),
            volumes: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl NoticeVolume {
    fn of(volume: &VolumeReport) -> Self {
        Self {
            name: volume.name.clone(),
            group: volume.group.clone(),
            outcome: NoticeEvent::of(volume.verdict()),
            why: match &volume.outcome {
                Outcome::BackedUp => None,
                Outcome::Failed(why) | Outcome::NotStarted(why) => Some(why.clone()),
            },
            archive_bytes: volume.archive_bytes,
            duration_seconds: volume.duration_seconds,
        }
    }
}
