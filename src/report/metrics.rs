//! The run's figures in Prometheus' text format ("Exposition formats", version 0.0.4).

use std::fmt::Write;

use super::{Outcome, RunReport, Verdict, VolumeReport};
use crate::events::Severity;

pub(super) fn metrics(report: &RunReport) -> String {
    let mut text = Text(String::new());
    let run = [(String::new(), report)];
    text.family("volbak_run_start_timestamp_seconds", "When the last run began.", &run, |run| {
        Some(run.started.timestamp().to_string())
    });
    text.family("volbak_run_duration_seconds", "How long the last run took.", &run, |run| {
        Some(run.duration_seconds.to_string())
    });
    text.family("volbak_run_verdict", "How the last run ended: 0 good, 1 problems, 2 failed.", &run, |run| {
        Some(verdict(run.verdict()).to_string())
    });
    text.family("volbak_run_problems", "Problems of the last run as a whole.", &run, |run| {
        Some(run.problems.iter().filter(|problem| super::matters(problem)).count().to_string())
    });
    text.family("volbak_destination_backups_bytes", "The size of all backups.", &run, |run| {
        run.usage.map(|usage| usage.backups_bytes.to_string())
    });
    text.family("volbak_destination_available_bytes", "What is free in the destination.", &run, |run| {
        run.usage.map(|usage| usage.available_bytes.to_string())
    });

    let volumes: Vec<(String, &VolumeReport)> =
        report.volumes.iter().map(|volume| (format!("{{volume=\"{}\"}}", escaped(&volume.name)), volume)).collect();
    text.family("volbak_volume_verdict", "As volbak_run_verdict, for a volume.", &volumes, |volume| {
        Some(verdict(volume.verdict()).to_string())
    });
    text.family("volbak_volume_last_success_timestamp_seconds", "The last complete backup.", &volumes, |volume| {
        let now = (volume.outcome == Outcome::BackedUp).then_some(report.started.timestamp());
        now.or_else(|| volume.history.last().map(|past| past.taken_at.timestamp())).map(|at| at.to_string())
    });
    text.family("volbak_volume_duration_seconds", "How long the volume took in the last run.", &volumes, |volume| {
        Some(volume.duration_seconds.to_string())
    });
    text.family("volbak_volume_archive_bytes", "The size of the last run's archive.", &volumes, |volume| {
        volume.archive_bytes.map(|bytes| bytes.to_string())
    });
    text.family("volbak_volume_backups_bytes", "The size of all backups of the volume.", &volumes, |volume| {
        Some(volume.directory_bytes.to_string())
    });
    let count = |volume: &VolumeReport, severity| {
        Some(volume.problems.iter().filter(|problem| problem.severity == severity).count().to_string())
    };
    text.family("volbak_volume_errors", "What is not in the last run's backup as it was.", &volumes, |volume| {
        count(volume, Severity::Error)
    });
    text.family("volbak_volume_warnings", "What somebody should look at.", &volumes, |volume| {
        count(volume, Severity::Warning)
    });
    text.family("volbak_volume_snapshot_peak_percent", "The fullest that the snapshot was.", &volumes, |volume| {
        volume.snapshot_peak_percent.filter(|peak| peak.is_finite()).map(|peak| peak.to_string())
    });
    text.0
}

struct Text(String);

impl Text {
    /// One metric: a line for each of `of` that has a value, and nothing at all when none has.
    fn family<T>(&mut self, name: &str, help: &str, of: &[(String, &T)], value: impl Fn(&T) -> Option<String>) {
        let lines: Vec<String> = of
            .iter()
            .filter_map(|(labels, thing)| value(thing).map(|value| format!("{name}{labels} {value}\n")))
            .collect();
        if !lines.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n{}", lines.concat());
        }
    }
}

fn verdict(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Good => 0,
        Verdict::Problems => 1,
        Verdict::Failed => 2,
    }
}

/// A label's value: backslash, quote and line feed are written out.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
