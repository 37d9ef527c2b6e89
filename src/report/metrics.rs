//! Metrics in the text format of Prometheus ("Exposition formats", version 0.0.4): those of the last run, and those of
//! each volume from the last run that included it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::facts::{RunReport, RunVerdict, matters};
use super::standing::{RunStanding, Standing, VolumeStanding};

/// `before` is the previous metrics file, if the records of other volumes cannot be read. Their lines are copied, so that no
/// series ends while the destination is unavailable.
pub(super) fn metrics(report: &RunReport, standing: &Standing, before: Option<&str>) -> String {
    let mut text = Text { text: String::new(), before };
    let run = [(String::new(), report)];
    text.family("volbak_run_start_timestamp_seconds", "Start of the last run.", &run, |run| {
        Some(run.started.timestamp().to_string())
    });
    text.family("volbak_run_duration_seconds", "Duration of the last run.", &run, |run| {
        Some(run.duration_seconds.to_string())
    });
    text.family("volbak_run_verdict", "Result of the last run: 0 good, 1 problems, 2 failed.", &run, |run| {
        Some(verdict(run.verdict()).to_string())
    });
    text.family("volbak_run_problems", "Problems of the last run itself, without those of its volumes.", &run, |run| {
        Some(run.problems.iter().filter(|problem| matters(problem)).count().to_string())
    });
    text.family("volbak_destination_backups_bytes", "Size of all backups.", &run, |run| {
        run.usage.map(|usage| usage.backups_bytes.to_string())
    });
    text.family("volbak_destination_available_bytes", "Free space in the destination.", &run, |run| {
        run.usage.map(|usage| usage.available_bytes.to_string())
    });
    text.family(
        "volbak_destination_full_in_days",
        "Days until the destination is full, if it fills as in the last nights.",
        &run,
        |run| run.usage.and_then(|usage| usage.full_in_days).map(|days| days.to_string()),
    );
    text.family(
        "volbak_copy_failed_backups",
        "Backups that the last run did not copy to the second destination.",
        &run,
        |run| run.copy.as_ref().map(|copy| copy.failed.to_string()),
    );
    text.family("volbak_copy_copied_bytes", "Length of the backups that the last run copied there.", &run, |run| {
        run.copy.as_ref().map(|copy| copy.copied_bytes.to_string())
    });
    let of_host = standing.runs.iter().find(|run| run.is_whole && run.host == report.host);
    let whole: Vec<(String, &RunStanding)> = of_host.map(|run| (String::new(), run)).into_iter().collect();
    text.family("volbak_whole_run_start_timestamp_seconds", "Start of the last run for all volumes.", &whole, |run| {
        Some(run.started.timestamp().to_string())
    });
    text.family(
        "volbak_whole_run_verdict",
        "Result of the last run for all volumes, as volbak_run_verdict.",
        &whole,
        |run| Some(verdict(run.verdict).to_string()),
    );

    let volumes: Vec<(String, &VolumeStanding)> = standing
        .volumes
        .iter()
        .filter(|(_, volume)| volume.host == report.host && !volume.gone)
        .map(|(name, volume)| (format!("{{volume=\"{}\"}}", escaped(name)), volume))
        .collect();
    let mut each = |name: &str, help: &str, value: Figure<'_>| {
        text.family(name, help, &volumes, value);
    };
    each(
        "volbak_volume_verdict",
        "Result of the last run that included the volume, as volbak_run_verdict.",
        &|volume| Some(verdict(volume.verdict).to_string()),
    );
    each("volbak_volume_last_run_timestamp_seconds", "Start of the last run that included the volume.", &|volume| {
        Some(volume.at.timestamp().to_string())
    });
    each("volbak_volume_last_success_timestamp_seconds", "Start of the last complete backup.", &|volume| {
        volume.last_success.map(|at| at.timestamp().to_string())
    });
    each("volbak_volume_duration_seconds", "Duration of the last backup of the volume.", &|volume| {
        Some(volume.duration_seconds.to_string())
    });
    each("volbak_volume_archive_bytes", "Size of the archive of its last run.", &|volume| {
        volume.archive_bytes.map(|bytes| bytes.to_string())
    });
    each("volbak_volume_backups_bytes", "Size of all backups of the volume.", &|volume| {
        Some(volume.directory_bytes.to_string())
    });
    each(
        "volbak_volume_errors",
        "Errors of its last run: data missing from the backup, or damaged in it.",
        &|volume| Some(volume.errors.to_string()),
    );
    each("volbak_volume_warnings", "Warnings of its last run.", &|volume| Some(volume.warnings.to_string()));
    each("volbak_volume_snapshot_peak_percent", "Highest fill level of the snapshot.", &|volume| {
        volume.snapshot_peak_percent.filter(|peak| peak.is_finite()).map(|peak| peak.to_string())
    });
    worth(&mut each);
    text.text
}

/// The value of a metric for one volume.
type Figure<'a> = &'a dyn Fn(&VolumeStanding) -> Option<String>;

/// The state of the backups, as read from the destination at the end of the run.
fn worth(each: &mut dyn FnMut(&str, &str, Figure<'_>)) {
    each(
        "volbak_volume_newest_backup_whole",
        "Whether the newest usable backup contains everything that was selected: 1 whole, 0 partial.",
        &|volume| Some(u8::from(volume.worth?.newest_whole?).to_string()),
    );
    each(
        "volbak_volume_newest_backup_encrypted",
        "Whether the newest usable backup is encrypted: 1 encrypted, 0 plain.",
        &|volume| Some(u8::from(volume.worth?.newest_encrypted?).to_string()),
    );
    each(
        "volbak_volume_last_whole_backup_timestamp_seconds",
        "Start of the newest whole backup that is neither bad nor dated in the future.",
        &|volume| Some(volume.worth?.last_whole?.timestamp().to_string()),
    );
    each(
        "volbak_volume_last_whole_backup_age_seconds",
        "Age of that backup at the end of the run; for alerts use the timestamp.",
        &|volume| Some(volume.worth?.last_whole_age_seconds?.to_string()),
    );
    each(
        "volbak_volume_last_verification_timestamp_seconds",
        "Last time that a verification found one of its backups good.",
        &|volume| Some(volume.worth?.last_verification?.at.timestamp().to_string()),
    );
    each(
        "volbak_volume_last_verification_level",
        "The level of that verification: 0 none yet, 1 quick check, 2 full, 3 restore test, 4 booted.",
        &|volume| Some(volume.worth?.last_verification.map_or(0, |last| last.level.number()).to_string()),
    );
    each(
        "volbak_volume_last_proof_timestamp_seconds",
        "Last time that one of its backups was restored for a test, and good.",
        &|volume| Some(volume.worth?.last_proof?.at.timestamp().to_string()),
    );
    each(
        "volbak_volume_last_proof_level",
        "The level of that test: 0 none yet, 3 restore test, 4 booted.",
        &|volume| Some(volume.worth?.last_proof.map_or(0, |last| last.level.number()).to_string()),
    );
    each(
        "volbak_volume_bad_backups",
        "Backups that a verification found bad, or whose files contradict each other.",
        &|volume| Some(volume.worth?.bad.to_string()),
    );
    each("volbak_volume_pinned_backups", "Backups that a sudden change pins, until volbak accept.", &|volume| {
        Some(volume.worth?.pinned.to_string())
    });
}

struct Text<'a> {
    text: String,
    before: Option<&'a str>,
}

impl Text<'_> {
    /// One metric, with a line for each of `of` that has a value. Without any value the metric is left out.
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

fn verdict(verdict: RunVerdict) -> u8 {
    match verdict {
        RunVerdict::Good => 0,
        RunVerdict::Problems => 1,
        RunVerdict::Failed => 2,
    }
}

/// A label value, with backslash, quote and line feed escaped.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
