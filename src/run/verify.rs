//! Verifies a backup: in levels, as far as its files allow, and saying how far.
//!
//! [`side_files`] checks manifest, checksum and index against each other, [`content`] reads the archive once and holds
//! every byte of it against them, [`second_opinion`] reads it with libraries of others, [`restore_test`] restores it, [`record`] keeps what came out beside the backup,
//! and [`choose`] says whose turn it is.

pub mod choose;
pub mod content;
pub mod many;
pub mod record;
pub mod second_opinion;
pub mod side_files;

use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::{Cancel, Clock, RunCommand};
use crate::run::rehearse;
use crate::store::Backup;

use self::second_opinion::SecondOpinion;

/// How much is verified. Each level does all that the ones before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The set is complete, lengths agree, and checksum, index and manifest are what the manifest says.
    Quick,
    /// The archive's SHA-1, each member, the tar structure, and each entry against the index.
    #[default]
    Full,
    /// The archive restored into a filesystem of its own, that checked, and the tree compared with the index.
    RestoreTest,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick check",
            Self::Full => "full",
            Self::RestoreTest => "restore-test",
        })
    }
}

/// How a backup is verified.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// How much.
    pub level: Level,
    /// Whether the archive is read with the libraries of others, too, see [`second_opinion`]. At the level
    /// [`Level::RestoreTest`] it always is, and at [`Level::Quick`] it never is.
    pub second_opinion: bool,
    /// How many threads inflate.
    pub threads: usize,
    /// Where the restore test makes its filesystem. It takes as much room as the files.
    pub scratch: PathBuf,
    /// The wish to stop.
    pub cancel: Cancel,
}

/// One of the files of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupFile {
    /// `STEM.tar.gz`.
    Archive,
    /// `STEM.checksum`.
    Checksum,
    /// `STEM.index`.
    Index,
    /// `STEM.manifest.json`.
    Manifest,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file that is wrong, or does not agree with the others.
    pub file: BackupFile,
    /// The archive's member, from 0.
    pub member: Option<u64>,
    /// The byte in that file, where it is known: of a member, its first.
    pub offset: Option<u64>,
    /// The path in the archive, as the index writes it.
    pub path: Option<String>,
    /// What is wrong, one line.
    pub what: String,
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that the level asks for was checked, and is right.
    Good,
    /// Nothing is wrong, and not all could be checked, since files are missing that would say how it should be.
    GoodAsFarAsChecked,
    /// Something is wrong. It is no backup to rely on.
    Bad,
}

/// What a verification saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The archive.
    pub archive: PathBuf,
    /// What the files' names begin with.
    pub stem: String,
    /// What was asked for.
    pub level: Level,
    /// What came out.
    pub verdict: Verdict,
    /// When it was finished.
    pub verified_at: DateTime<Utc>,
    /// What could not be checked, and why; one line each.
    pub not_checked: Vec<String>,
    /// What is wrong: the first thousand.
    pub findings: Vec<Finding>,
    /// How many things are wrong.
    pub findings_total: u64,
    /// The index is there and the manifest is not: a backup of volbak's that lost it.
    #[serde(default)]
    pub manifest_lost: bool,
    /// The archive's SHA-1 as manifest or checksum say it.
    pub archive_sha1: Option<String>,
    /// The archive's SHA-1 as it was read; not at the level `quick`.
    pub found_sha1: Option<String>,
    /// The archive's length in bytes.
    pub archive_bytes: u64,
    /// How many members were read.
    pub members: u64,
    /// How many entries.
    pub entries: u64,
    /// Entries that the backup itself marked as not read whole.
    pub marked_entries: u64,
    /// What the libraries of others were asked; `None` when they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_opinion: Option<SecondOpinion>,
}

/// Why a verification ended without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Somebody wanted it to stop.
    #[error("interrupted before the backup was verified")]
    Stopped,
    /// This process lacks what a verification takes: that says nothing about the backup.
    #[error("the backup cannot be verified here, and nothing is known about it")]
    Here(#[source] io::Error),
}

/// Findings that are kept.
const MAX_FINDINGS: usize = 1000;

/// What is gathered on the way to a report.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The first thousand.
    pub first: Vec<Finding>,
    /// How many there are.
    pub total: u64,
    /// What could not be checked.
    pub not_checked: Vec<String>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        self.total += 1;
        if self.first.len() < MAX_FINDINGS {
            self.first.push(finding);
        }
    }

    /// Adds one about a file as a whole.
    pub fn about(&mut self, file: BackupFile, what: impl Into<String>) {
        self.add(Finding { file, member: None, offset: None, path: None, what: what.into() });
    }

    /// Notes what could not be checked.
    pub fn not_checked(&mut self, what: impl Into<String>) {
        self.not_checked.push(what.into());
    }
}

impl VerifyReport {
    /// The report on one line.
    pub fn summary(&self) -> String {
        let (stem, entries, members) = (&self.stem, self.entries, self.members);
        let second = self.second_opinion.map_or_else(String::new, |second| format!("; {}", second.summary()));
        match (self.verdict, self.level) {
            (Verdict::Bad, _) => format!("{stem}: BAD, {} things are wrong", self.findings_total),
            (Verdict::Good, Level::Quick) => format!("{stem}: its files are complete and agree"),
            (Verdict::Good, _) => format!("{stem}: good, {entries} entries in {members} members{second}"),
            (Verdict::GoodAsFarAsChecked, _) => {
                format!("{stem}: nothing is wrong as far as it can be checked: {}{second}", self.not_checked.join("; "))
            }
        }
    }
}

/// The programs and the clock that a verification uses, and who is told of it.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Is told of progress and problems.
    pub observer: &'a dyn Observer,
    /// Says when it was.
    pub clock: &'a dyn Clock,
    /// Runs mkfs and fsck for the restore test.
    pub commands: &'a dyn RunCommand,
}

/// Verifies a backup, and tells `around.observer` of each finding. What is wrong with the backup is in the report; the
/// record beside it is for the caller to write ([`record::save`]).
pub fn verify(files: &Backup, options: &VerifyOptions, around: Surroundings<'_>) -> Result<VerifyReport, VerifyError> {
    check_resources(files).map_err(VerifyError::Here)?;
    let mut findings = Findings::default();
    let sides = side_files::check(files, options.level, &options.cancel, &mut findings)?;
    let mut seen = content::Seen::default();
    let is_too_long =
        sides.manifest.as_ref().is_some_and(|manifest| sides.archive_bytes > manifest.sizes.archive_bytes);
    if options.level >= Level::Full
        && let Some(archive) = &sides.archive
    {
        if is_too_long {
            findings.not_checked("what is in the archive: it is longer than it was, and is not read");
        } else {
            seen = content::check(archive, &sides, options, around.observer, &mut findings)?;
        }
    }
    let is_sound = sides.archive.is_some() && findings.total == 0;
    let mut second = None;
    if options.level == Level::RestoreTest || (options.level == Level::Full && options.second_opinion) {
        if is_sound {
            second = second_opinion::check(&sides, options, around.observer, &mut findings)?;
        } else {
            findings.not_checked("no second opinion is asked about a damaged archive");
        }
    }
    if options.level == Level::RestoreTest {
        // Also when the second opinion is another one: what is restored shows who is right.
        if is_sound {
            rehearse::check(files, options, around, &mut findings)?;
        } else {
            findings.not_checked("a damaged archive is not restored for a test");
        }
    }
    for finding in &findings.first {
        let problem = Problem::new(Severity::Error, finding.place(files.stem()), &finding.what);
        around.observer.on_event(&Event::Problem(problem));
    }
    let verdict = match (findings.total, findings.not_checked.is_empty()) {
        (1.., _) => Verdict::Bad,
        (0, true) => Verdict::Good,
        (0, false) => Verdict::GoodAsFarAsChecked,
    };
    Ok(VerifyReport {
        archive: files.archive_path(),
        stem: files.stem().to_owned(),
        level: options.level,
        verdict,
        verified_at: around.clock.now(),
        not_checked: findings.not_checked,
        findings: findings.first,
        findings_total: findings.total,
        manifest_lost: sides.manifest_lost,
        archive_sha1: sides.expected_sha1,
        found_sha1: seen.archive_sha1,
        archive_bytes: sides.archive_bytes,
        members: seen.members,
        entries: seen.entries,
        marked_entries: seen.marked_entries,
        second_opinion: second,
    })
}

/// Makes sure that this process can open and read a backup's files: where it has no descriptors left, each good file would
/// seem to be one that cannot be read.
fn check_resources(files: &Backup) -> io::Result<()> {
    // The four files of a backup, one of them twice, and what a restore test and the threads have open.
    const DESCRIPTORS: usize = 10;
    let directory = files.directory();
    // That the directory cannot be opened is found out by those who look for the files.
    let Ok(held) = std::fs::File::open(directory) else {
        return std::fs::File::open("/").map(drop);
    };
    let copies: Vec<std::fs::File> = (0..DESCRIPTORS).map(|_| held.try_clone()).collect::<io::Result<_>>()?;
    drop(copies);
    Ok(())
}

impl Finding {
    /// File, member and path, as a message names them.
    pub fn place(&self, stem: &str) -> String {
        use std::fmt::Write as _;
        let suffix = match self.file {
            BackupFile::Archive => ".tar.gz",
            BackupFile::Checksum => ".checksum",
            BackupFile::Index => ".index",
            BackupFile::Manifest => ".manifest.json",
        };
        let mut place = format!("{stem}{suffix}");
        // Writing to a String does not fail.
        if let Some(member) = self.member {
            let _ = write!(place, ", member {member}");
        }
        if let Some(offset) = self.offset {
            let _ = write!(place, ", byte {offset}");
        }
        if let Some(path) = &self.path {
            let _ = write!(place, ", {path}");
        }
        place
    }
}
