//! Results on standard output.

use std::collections::BTreeMap;
use std::io::{self, Write};

use chrono::{DateTime, Local, Utc};
use serde::Serialize;
use volbak::cloud::shown_names;
use volbak::error::{ExitClass, limit_behind, with_causes};
use volbak::log::write_in_time;
use volbak::report::table::{Column, Screen, Table, Tint, aligned};
use volbak::run::backup::BackupOutcome;
use volbak::run::check::{CheckLevel, Verdict, record};
use volbak::shown::counted;
use volbak::store::catalog::{BackupState, CatalogEntry};
use volbak::units::ByteLen;

use super::log;

/// Version of the JSON that verbs print. Fields are added, never renamed or removed, within a version (docs/json.md).
const JSON_FORMAT: u32 = 1;

/// The result for one source, for scripts.
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
    pub(crate) manifest: &'a volbak::manifest::Manifest,
}

/// The result could not be printed. The work of the verb itself may have succeeded.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written to")]
pub(crate) struct OutputError(#[from] io::Error);

/// Writes text for people to standard output, with unsafe characters escaped. A closed pipe (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    print_as_it_is(&volbak::shown::lines(text))
}

/// As [`print`], with a time limit for a reader that takes nothing: a run that never ends would keep the next night from starting.
pub(crate) fn print_in_time(text: &str) -> Result<(), OutputError> {
    let text = volbak::shown::lines(text);
    match write_in_time(rustix::stdio::stdout(), text.as_bytes(), log::patience_at_the_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// As [`print`], without escaping: text for programs.
pub(crate) fn print_as_it_is(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A value as JSON, with the number of the format that docs/json.md promises, unless it has one: a map of the cloud is a file of
/// its own format.
pub(crate) fn as_json(mut json: serde_json::Value) -> String {
    if let Some(fields) = json.as_object_mut() {
        fields.entry("format").or_insert_with(|| JSON_FORMAT.into());
    }
    format!("{json:#}\n")
}

/// As [`print`], a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), OutputError> {
    print_as_it_is(&as_json(serde_json::to_value(value).map_err(io::Error::from)?))
}

/// The exit status after a verb printed the result of completed work, which `done` names. A result that could not be
/// printed is a problem, but no failure of that work.
pub(crate) fn after_printing(printed: Result<(), OutputError>, done: &str, class: ExitClass) -> ExitClass {
    let Err(error) = printed else { return class };
    log::warning(&format!("{done}, but the result is not shown: {}", with_causes(&error)));
    class.max(ExitClass::WithProblems)
}

/// An error on one line, with its causes and the resource limit that caused it.
pub(crate) fn shown_error(error: &anyhow::Error) -> String {
    let limit = error.chain().find_map(limit_behind).unwrap_or_default();
    format!("{error:#}{limit}")
}

/// Standard output for verbs that write many lines. Its errors keep their kind, and say that they concern standard output.
pub(crate) struct Output(io::StdoutLock<'static>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(io::stdout().lock())
    }
}

fn about_output(error: io::Error) -> io::Error {
    let kind = error.kind();
    if kind == io::ErrorKind::Interrupted { error } else { io::Error::new(kind, OutputError(error)) }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(about_output)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(about_output)
    }
}

/// A finished backup, for a person.
pub(crate) fn shown_outcome(outcome: &BackupOutcome) -> String {
    let manifest = &outcome.manifest;
    let counts = &manifest.counts;
    let seconds = (manifest.finished_at - manifest.started_at).num_milliseconds().max(0);
    let what = match &manifest.image {
        Some(_) => format!("an image of {}", ByteLen(manifest.source.size_bytes)),
        None => counted(manifest.sizes.entries, "entry", "entries"),
    };
    let mut text = format!(
        "{}\n  {} in {what}, compressed to {} in {}.{} s\n",
        outcome.archive.display(),
        ByteLen(counts.data_bytes),
        ByteLen(manifest.sizes.archive_bytes),
        seconds / 1000,
        seconds % 1000 / 100,
    );
    if let Some(carried) = &manifest.carried {
        let (counts, parent) = (&carried.counts, &carried.parent);
        let entries = match &manifest.image {
            Some(_) => counted(counts.members, "member", "members"),
            None => counted(counts.entries, "entry", "entries"),
        };
        text.push_str(&format!("  {} in {entries} carried forward from {parent}\n", ByteLen(counts.bytes)));
    }
    if let Some(sha1) = manifest.digests.archive_sha1() {
        text.push_str(&format!("  sha1 {sha1}\n"));
    } else {
        let on_server = manifest.carried.as_ref().and_then(|carried| carried.on_server).unwrap_or_default();
        let copied = ByteLen(on_server.copied_bytes);
        text.push_str(&format!(
            "  {copied} come from the last archive without being read; a full verification finds the sha1\n"
        ));
    }
    if let Some(snapshot) = &manifest.snapshot
        && snapshot.kept
    {
        text.push_str(&format!("  the snapshot is kept: {}\n", snapshot.name));
    }
    if outcome.has_problems() {
        let count = counted(manifest.problem_counts.to_look_at(), "problem", "problems");
        let manifest_path = outcome.archive.with_file_name(format!("{}.manifest.json", manifest.stem));
        text.push_str(&format!("  {count}: see {}\n", manifest_path.display()));
    }
    text
}

/// A backup in a destination, with its last verification.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) entry: CatalogEntry,
    /// Whether it is whole, partial or bad.
    worth: Worth,
    /// Whether it is encrypted.
    encrypted: bool,
    /// The verification that decides its state; `null` without one. A quick check does not count.
    pub(crate) verified: Option<Verified>,
    /// The last quick check, if there was no verification.
    checked: Option<Verified>,
}

/// The state of a backup, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Worth {
    /// It contains everything that was selected.
    Whole,
    /// Something that was selected is missing or damaged.
    Partial,
    /// A verification or a quick check found it bad, or its files are inconsistent.
    Bad,
    /// It has no manifest.
    Unknown,
}

/// A verification.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Verified {
    at: DateTime<Utc>,
    level: CheckLevel,
    verdict: Verdict,
}

impl Listed {
    pub(crate) fn new(entry: CatalogEntry) -> Self {
        let record = record::of_entry(&entry);
        let result = record.as_ref().and_then(record::Record::decisive);
        let seen =
            result.map(|result| Verified { at: result.verified_at, level: result.reached(), verdict: result.verdict });
        let is_bad = seen.is_some_and(|seen| seen.verdict == Verdict::Bad);
        let worth = match &entry.state {
            BackupState::Damaged { .. } => Worth::Bad,
            _ if is_bad => Worth::Bad,
            BackupState::WithoutManifest => Worth::Unknown,
            BackupState::Complete { manifest } if manifest.is_whole() => Worth::Whole,
            BackupState::Complete { .. } => Worth::Partial,
        };
        let is_verification = |seen: &Verified| seen.level > CheckLevel::Quick || seen.verdict == Verdict::Bad;
        Self {
            encrypted: entry.files().kind().is_sealed(),
            entry,
            worth,
            verified: seen.filter(is_verification),
            checked: seen.filter(|seen| !is_verification(seen)),
        }
    }

    /// As [`Listed::new`], without the parts that only the JSON shows: thousands of layouts need much memory.
    pub(crate) fn for_text(entry: CatalogEntry) -> Self {
        let mut listed = Self::new(entry);
        if let BackupState::Complete { manifest } = &mut listed.entry.state {
            manifest.layout.regions = Vec::new();
            manifest.layout.outside = Vec::new();
            manifest.layout.problems = Vec::new();
            manifest.regions = Vec::new();
            manifest.problems = Vec::new();
        }
        listed
    }

    /// The cells of its row.
    fn cells(&self) -> [(String, Tint); 8] {
        let Self { entry, worth, encrypted, verified, checked } = self;
        let size = entry.archive_bytes.map_or_else(|| "-".to_owned(), |bytes| ByteLen(bytes).to_string());
        let (date, count, problems, state) = match &entry.state {
            BackupState::Complete { manifest } => (
                manifest.started_at.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string(),
                manifest.image.as_ref().map_or_else(|| manifest.sizes.entries.to_string(), |_| "image".to_owned()),
                manifest.problem_counts.to_look_at().to_string(),
                match worth {
                    Worth::Partial => "partial".to_owned(),
                    Worth::Bad => "BAD".to_owned(),
                    Worth::Whole | Worth::Unknown => "whole".to_owned(),
                },
            ),
            BackupState::WithoutManifest => ("-".into(), "-".into(), "-".into(), "no manifest".to_owned()),
            BackupState::Damaged { what } => ("-".into(), "-".into(), "-".into(), format!("DAMAGED: {what}")),
        };
        let state = state + if *encrypted { ", encrypted" } else { "" };
        let ciphertext = |seen: &Verified| *encrypted && seen.verdict == Verdict::GoodAsFarAsChecked;
        let verified = match (verified, checked) {
            // Without a key nothing is said of the contents.
            (Some(seen), _) | (None, Some(seen)) if ciphertext(seen) => {
                format!("- ({} ciphertext: good)", seen.at.with_timezone(&Local).format("%Y-%m-%d"))
            }
            (Some(verified), _) => verified.shown(),
            (None, Some(checked)) => format!("- ({})", checked.shown()),
            (None, None) => "-".to_owned(),
        };
        let worth_tint = match worth {
            Worth::Whole => Tint::Good,
            Worth::Partial | Worth::Unknown => Tint::Doubtful,
            Worth::Bad => Tint::Bad,
        };
        let problems_tint = if matches!(problems.as_str(), "0" | "-") { Tint::Plain } else { Tint::Bad };
        let verified_tint = if verified.contains("BAD") { Tint::Bad } else { Tint::Plain };
        let plain = |text: String| (text, Tint::Plain);
        [
            plain(entry.name.clone()),
            plain(date),
            plain(size),
            plain(count),
            (problems, problems_tint),
            (state, worth_tint),
            (verified, verified_tint),
            plain(entry.stem.clone()),
        ]
    }

    /// Whether it has warnings or errors, or is not whole.
    pub(crate) fn has_problems(&self) -> bool {
        let problems = match &self.entry.state {
            BackupState::Complete { manifest } => manifest.problem_counts.to_look_at(),
            _ => 0,
        };
        problems > 0 || self.worth != Worth::Whole
    }
}

impl Verified {
    fn shown(self) -> String {
        let level = self.level;
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::GoodAsFarAsChecked => "good as far as checked",
            Verdict::Bad => "BAD",
        };
        format!("{} {level}: {verdict}", self.at.with_timezone(&Local).format("%Y-%m-%d"))
    }
}

/// A destination's backups, for a person.
pub(crate) fn shown_catalog(backups: &[Listed], screen: Screen) -> String {
    if backups.is_empty() {
        return "no backups\n".to_owned();
    }
    let column = |name, dispensable, least| Column { name, dispensable, least };
    let mut columns = vec![
        column("VOLUME", 0, Some(12)),
        column("DATE", 0, None),
        column("SIZE", 3, None),
        column("ENTRIES", 4, None),
        column("PROBLEMS", 1, None),
        column("STATE", 0, Some(8)),
        column("VERIFIED", 2, None),
        column("BACKUP", 5, None),
    ];
    let clouds: Vec<String> = backups.iter().map(cloud_of).collect();
    // A column for the cloud where one was asked.
    if clouds.iter().any(|cloud| !cloud.is_empty()) {
        columns.push(column("CLOUD", 6, None));
    }
    let mut table = Table::new(&columns);
    for (listed, cloud) in backups.iter().zip(clouds) {
        table.push(listed.cells().into_iter().chain([(cloud, Tint::Plain)]).take(columns.len()));
    }
    let mut text = table.text(screen);
    text.push_str(&volbak::shown::lines(&shown_mixtures(backups)));
    text
}

fn cloud_of(listed: &Listed) -> String {
    match &listed.entry.state {
        BackupState::Complete { manifest } => {
            manifest.cloud.as_ref().map(|cloud| shown_names(&cloud.volume)).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// A line for each directory with backups of several sources: a volume that was recreated, an image that moved, or sources
/// that an older version mixed.
fn shown_mixtures(backups: &[Listed]) -> String {
    let mut sources: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    for Listed { entry, .. } in backups {
        if let BackupState::Complete { manifest } = &entry.state {
            let source = &manifest.source;
            let shown = match &source.lv_uuid {
                // A volume keeps its UUID under another name.
                Some(uuid) => format!("LVM UUID {uuid}"),
                None => format!("{} {}", source.kind, source.path),
            };
            *sources.entry(&entry.name).or_default().entry(shown).or_default() += 1;
        }
    }
    let mut text = String::new();
    for (name, of) in sources.into_iter().filter(|(_, of)| of.len() > 1) {
        let parts: Vec<String> = of.into_iter().map(|(source, count)| format!("{count} of {source}")).collect();
        text.push_str(&format!("{name} has backups of {} sources: {}\n", parts.len(), parts.join(", ")));
    }
    text
}

/// Rows with aligned columns, indented.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    aligned(rows, "  ")
}

/// What was restored, and is not what the source had.
pub(crate) fn lacking_in_backup(damaged: u64, errors: u64) -> String {
    let damaged =
        (damaged > 0).then(|| format!(", {} not read whole when backed up", counted(damaged, "entry", "entries")));
    let are = |errors: u64| counted(errors, "file or region is", "files or regions are");
    let errors = (errors > 0).then(|| format!("; the backup is partial: {} missing in it or damaged", are(errors)));
    [damaged, errors].into_iter().flatten().collect()
}
