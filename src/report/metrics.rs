//! Figures in Prometheus' text format ("Exposition formats", version 0.0.4): those of the last run, and of each volume by
//! the last run that was for it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::standing::{RunStanding, Standing, VolumeStanding};
use super::{RunReport, Verdict};

/// `before` is the file as it was, when what is known of other volumes cannot be read: their lines are taken over, so
/// that no series ends while the destination is away.
pub(super) fn metrics(report: &RunReport, standing: &Standing, before: Option<&str>) -> String {
    let mut text = Text { text: String::new(), before };
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
    let of_host = standing.runs.iter().find(|run| run.is_whole && run.host == report.host);
    let whole: Vec<(String, &RunStanding)> = of_host.map(|run| (String::new(), run)).into_iter().collect();
    text.family(
        "volbak_whole_run_start_timestamp_seconds",
        "When the last run for all volumes began.",
        &whole,
        |run| Some(run.started.timestamp().to_string()),
    );
    text.family("volbak_whole_run_verdict", "As volbak_run_verdict, for that run.", &whole, |run| {
        Some(verdict(run.verdict).to_string())
    });

    let volumes: Vec<(String, &VolumeStanding)> = standing
        .volumes
        .iter()
        .filter(|(_, volume)| volume.host == report.host && !volume.gone)
        .map(|(name, volume)| (format!("{{volume=\"{}\"}}", escaped(name)), volume))
        .collect();
    let mut each = |name: &str, help: &str, value: Figure<'_>| {
        text.family(name, help, &volumes, value);
    };
    each("volbak_volume_verdict", "As volbak_run_verdict, for the last run that was for the volume.", &|volume| {
        Some(verdict(volume.verdict).to_string())
    });
    each("volbak_volume_last_run_timestamp_seconds", "When the last run that was for the volume began.", &|volume| {
        Some(volume.at.timestamp().to_string())
    });
    each("volbak_volume_last_success_timestamp_seconds", "When the last complete backup began.", &|volume| {
        volume.last_success.map(|at| at.timestamp().to_string())
    });
    each("volbak_volume_duration_seconds", "How long the volume took in its last run.", &|volume| {
        Some(volume.duration_seconds.to_string())
    });
    each("volbak_volume_archive_bytes", "The size of its last run's archive.", &|volume| {
        volume.archive_bytes.map(|bytes| bytes.to_string())
    });
    each("volbak_volume_backups_bytes", "The size of all backups of the volume.", &|volume| {
        Some(volume.directory_bytes.to_string())
    });
    each("volbak_volume_errors", "What is not in its last run's backup as it was.", &|volume| {
        Some(volume.errors.to_string())
    });
    each("volbak_volume_warnings", "What is to be looked at.", &|volume| Some(volume.warnings.to_string()));
    each("volbak_volume_snapshot_peak_percent", "The fullest that the snapshot was.", &|volume| {
        volume.snapshot_peak_percent.filter(|peak| peak.is_finite()).map(|peak| peak.to_string())
    });
    worth(&mut each);
    text.text
}

/// A volume's value of a metric.
type Figure<'a> = &'a dyn Fn(&VolumeStanding) -> Option<String>;

/// What the backups are worth, read from the destination at the end of the run.
fn worth(each: &mut dyn FnMut(&str, &str, Figure<'_>)) {
    each(
        "volbak_volume_newest_backup_whole",
        "Whether all that was selected is in the newest usable backup: 1 whole, 0 partial.",
        &|volume| Some(u8::from(volume.worth?.newest_whole?).to_string()),
    );
    each(
        "volbak_volume_last_whole_backup_timestamp_seconds",
        "When the newest whole backup began that is neither bad nor dated in the future.",
        &|volume| Some(volume.worth?.last_whole?.timestamp().to_string()),
    );
    each(
        "volbak_volume_last_whole_backup_age_seconds",
        "How old that backup was at the end of the run; for alerts use the timestamp.",
        &|volume| Some(volume.worth?.last_whole_age_seconds?.to_string()),
    );
    each(
        "volbak_volume_last_verification_timestamp_seconds",
        "When a verification last found one of its backups good.",
        &|volume| Some(volume.worth?.last_verification?.at.timestamp().to_string()),
    );
    each(
        "volbak_volume_last_verification_level",
        "The level of that verification: 0 none yet, 1 quick check, 2 full, 3 restore test.",
        &|volume| Some(volume.worth?.last_verification.map_or(0, |last| last.level).to_string()),
    );
    each(
        "volbak_volume_bad_backups",
        "Backups that a verification found bad, or whose files contradict each other.",
        &|volume| Some(volume.worth?.bad.to_string()),
    );
    each(
        "volbak_volume_pinned_backups",
        "Backups that are kept because of a sudden change, until volbak accept.",
        &|volume| Some(volume.worth?.pinned.to_string()),
    );
}

struct Text<'a> {
    text: String,
    before: Option<&'a str>,
}

impl Text<'_> {
    /// One metric: a line for each of `of` that has a value, and nothing at all when none has.
    fn family<T>(&mut self, name: &str, help: &str, of: &[(String, &T)], value: impl Fn(&T) -> Option<String>) {
        let mut lines: Vec<String> = of
            .iter()
            .filter_map(|(labels, thing)| value(thing).map(|value| format!("{name}{labels} {value}\n")))
            .collect();
        if let Some(before) = self.before {
            let known: BTreeSet<String> = of.iter().map(|(labels, _)| format!("{name}{labels}")).collect();
            let start = format!("{name}{{");
            let older = before.lines().filter(|line| line.starts_with(&start));
            let unknown = older.filter(|line| line.rsplit_once(' ').is_some_and(|(series, _)| !known.contains(series)));
            lines.extend(unknown.map(|line| format!("{line}\n")));
        }
        if !lines.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n{}", lines.concat());
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
