//! The report of a verification.

use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::archive::kind::ArchiveKind;
use crate::run::boot::BootOutcome;
use crate::run::check::record::{self, LevelResult, Record};
use crate::run::check::second_opinion::SecondOpinion;
use crate::run::check::{CheckLevel, Finding, Verdict};
use crate::shown::{self, counted};
use crate::store::Backup;

/// The report of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The archive.
    pub archive: PathBuf,
    /// The common start of its file names.
    pub stem: String,
    /// The requested level.
    pub level: CheckLevel,
    /// The level of which all that matters could be checked, if that is a lower one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<CheckLevel>,
    /// The verdict.
    pub verdict: Verdict,
    /// When it was finished.
    pub verified_at: DateTime<Utc>,
    /// Checks that could not be made, and why; one line each.
    pub not_checked: Vec<String>,
    /// The first thousand findings.
    pub findings: Vec<Finding>,
    /// The total number of findings.
    pub findings_total: u64,
    /// There is an index but no manifest: a volbak backup that lost its manifest.
    #[serde(default)]
    pub manifest_lost: bool,
    /// The archive's SHA-1 according to manifest or checksum.
    pub archive_sha1: Option<String>,
    /// The SHA-256 of the index, if the manifest has no SHA-1 of the archive: a store copied a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_sha256: Option<String>,
    /// The archive's actual SHA-1; not at the level `quick`.
    pub found_sha1: Option<String>,
    /// The archive's length in bytes.
    pub archive_bytes: u64,
    /// The number of members read.
    pub members: u64,
    /// The number of entries.
    pub entries: u64,
    /// Entries that the backup marks as not completely read.
    pub marked_entries: u64,
    /// The result of the second opinion; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_opinion: Option<SecondOpinion>,
    /// What became of its disk in an emulator; `None` if that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none", flatten)]
    pub boot: Option<BootOutcome>,
}

impl VerifyReport {
    /// Adds the result of a start. Only a system that came up raises the level.
    #[doc(hidden)]
    pub fn add_boot(&mut self, outcome: BootOutcome) {
        if matches!(outcome, BootOutcome::Up { .. }) && self.verdict != Verdict::Bad {
            self.level = CheckLevel::Boot;
            self.reached = None;
        }
        self.boot = Some(outcome);
    }

    /// Whether a restore test was asked for, and could not be made here.
    #[doc(hidden)]
    pub fn is_without_its_restore_test(&self) -> bool {
        self.level >= CheckLevel::RestoreTest && self.reached.is_some_and(|reached| reached < CheckLevel::RestoreTest)
    }

    /// The report on one line.
    pub fn summary(&self) -> String {
        match &self.boot {
            Some(outcome) => format!("{}; {outcome}", self.summary_of_files()),
            None => self.summary_of_files(),
        }
    }

    /// "2 things are wrong".
    pub(in crate::run) fn how_much_is_wrong(&self) -> String {
        counted(self.findings_total, "thing is wrong", "things are wrong")
    }

    fn summary_of_files(&self) -> String {
        let stem = shown::text(&self.stem);
        let (entries, members) =
            (counted(self.entries, "entry", "entries"), counted(self.members, "member", "members"));
        let name = self.archive.file_name().and_then(|name| name.to_str());
        let is_image = name.and_then(ArchiveKind::of_name).is_some_and(|(_, kind)| kind.is_image());
        let second = self.second_opinion.map_or_else(String::new, |second| format!("; {}", second.summary()));
        match (self.verdict, self.level) {
            (Verdict::Bad, _) => format!("{stem}: BAD, {}", self.how_much_is_wrong()),
            (Verdict::Good, CheckLevel::Quick) => format!("{stem}: its files are complete and agree"),
            (Verdict::Good, _) if is_image => format!("{stem}: good, an image in {members}{second}"),
            (Verdict::Good, _) => {
                let first = self.first_sha1().map_or_else(String::new, |sha1| format!("; its SHA-1 is {sha1}"));
                format!("{stem}: good, {entries} in {members}{first}{second}")
            }
            (Verdict::GoodAsFarAsChecked, _) => {
                format!("{stem}: nothing is wrong as far as it can be checked: {}{second}", self.not_checked.join("; "))
            }
        }
    }

    /// The SHA-1 of an archive of which nobody knew it: a store copied a part of it. All its members have their digests.
    fn first_sha1(&self) -> Option<&str> {
        let is_first = self.verdict == Verdict::Good && self.index_sha256.is_some() && self.archive_sha1.is_none();
        self.found_sha1.as_deref().filter(|_| is_first)
    }

    /// Adds this verification to the record beside the backup, and returns the new record. Writes the checksum file of an
    /// archive whose SHA-1 was not known before.
    #[doc(hidden)]
    pub fn save_record(&self, files: &Backup) -> io::Result<Record> {
        let result = LevelResult {
            level: self.level,
            reached: self.reached,
            verified_at: self.verified_at,
            verdict: self.verdict,
            found_sha1: self.found_sha1.clone(),
            not_checked: self.not_checked.clone(),
            findings: self.findings.clone(),
            findings_total: self.findings_total,
            volbak_version: env!("CARGO_PKG_VERSION").to_owned(),
            second_opinion: self.second_opinion,
        };
        if let Some(sha1) = self.first_sha1() {
            files.add_checksum(sha1).map_err(io::Error::other)?;
        }
        let identity = self.index_sha256.as_deref().or(self.archive_sha1.as_deref());
        record::save(files, identity, self.archive_bytes, result)
    }
}
