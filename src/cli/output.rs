//! Results on standard output.

use std::io::{self, Write};

use serde::Serialize;
use volbak::events::Severity;
use volbak::run::backup::BackupOutcome;
use volbak::store::catalog::{BackupState, CatalogEntry};
use volbak::units::ByteLen;

/// What became of one source, for scripts.
#[derive(Debug, Serialize)]
pub(crate) struct JsonBackup<'a> {
    pub(crate) source: &'a str,
    /// `ok`, `problems` or `failed`.
    pub(crate) status: &'static str,
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) outcome: Option<JsonOutcome<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct JsonOutcome<'a> {
    pub(crate) archive: &'a std::path::Path,
    pub(crate) manifest: &'a volbak::archive::manifest::Manifest,
}

/// Writes to standard output. That nobody reads it any more (`| head`) is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// As [`print`], a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(print(&text)?)
}

/// Whether somebody has to look at it.
pub(crate) fn has_problems(outcome: &BackupOutcome) -> bool {
    outcome.worst_problem > Some(Severity::Notice)
}

/// A finished backup, for a person.
pub(crate) fn shown_outcome(outcome: &BackupOutcome) -> String {
    let manifest = &outcome.manifest;
    let counts = &manifest.counts;
    let seconds = (manifest.finished_at - manifest.started_at).num_milliseconds().max(0);
    let mut text = format!(
        "{}\n  {} in {}, compressed to {} in {}.{} s\n",
        outcome.archive.display(),
        ByteLen(counts.data_bytes),
        counted(manifest.sizes.entries, "entry", "entries"),
        ByteLen(manifest.sizes.archive_bytes),
        seconds / 1000,
        seconds % 1000 / 100,
    );
    if let Some(carried) = &manifest.carried {
        let (counts, parent) = (&carried.counts, &carried.parent);
        let entries = counted(counts.entries, "entry", "entries");
        text.push_str(&format!("  {} in {entries} carried forward from {parent}\n", ByteLen(counts.bytes)));
    }
    text.push_str(&format!("  sha1 {}\n", manifest.digests.archive_sha1));
    if let Some(snapshot) = &manifest.snapshot
        && snapshot.kept
    {
        text.push_str(&format!("  the snapshot is kept: {}\n", snapshot.name));
    }
    if has_problems(outcome) {
        let count = counted(manifest.problem_counts.to_look_at(), "problem", "problems");
        let manifest_path = outcome.archive.with_file_name(format!("{}.manifest.json", manifest.stem));
        text.push_str(&format!("  {count}: see {}\n", manifest_path.display()));
    }
    text
}

/// A destination's backups, for a person.
pub(crate) fn shown_catalog(entries: &[CatalogEntry]) -> String {
    if entries.is_empty() {
        return "no backups\n".to_owned();
    }
    let mut rows = vec![["VOLUME", "DATE", "SIZE", "ENTRIES", "PROBLEMS", "STATE", "BACKUP"].map(str::to_owned)];
    for entry in entries {
        let size = entry.archive_bytes.map_or_else(|| "-".to_owned(), |bytes| ByteLen(bytes).to_string());
        let (date, count, problems, state) = match &entry.state {
            BackupState::Complete { manifest } => (
                manifest.started_at.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M").to_string(),
                manifest.sizes.entries.to_string(),
                manifest.problem_counts.to_look_at().to_string(),
                "complete".to_owned(),
            ),
            BackupState::WithoutManifest => ("-".into(), "-".into(), "-".into(), "no manifest".to_owned()),
            BackupState::Damaged { what } => ("-".into(), "-".into(), "-".into(), format!("DAMAGED: {what}")),
        };
        rows.push([entry.name.clone(), date, size, count, problems, state, entry.stem.clone()]);
    }
    let widths: Vec<usize> =
        (0..7).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}
