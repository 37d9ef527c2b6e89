//! The report of a verification.

use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::run::check::record::{self, LevelResult, Record};
use crate::run::check::second_opinion::SecondOpinion;
use crate::run::check::{CheckLevel, Finding, Verdict};
use crate::store::Backup;

/// The report of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The archive.
    pub archive: PathBuf,
    /// What the files' names begin with.
    pub stem: String,
    /// What was asked for.
    pub level: CheckLevel,
    /// The verdict.
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

impl VerifyReport {
    /// The report on one line.
    pub fn summary(&self) -> String {
        let (stem, entries, members) = (&self.stem, self.entries, self.members);
        let second = self.second_opinion.map_or_else(String::new, |second| format!("; {}", second.summary()));
        match (self.verdict, self.level) {
            (Verdict::Bad, _) => format!("{stem}: BAD, {} things are wrong", self.findings_total),
            (Verdict::Good, CheckLevel::Quick) => format!("{stem}: its files are complete and agree"),
            (Verdict::Good, _) => format!("{stem}: good, {entries} entries in {members} members{second}"),
            (Verdict::GoodAsFarAsChecked, _) => {
                format!("{stem}: nothing is wrong as far as it can be checked: {}{second}", self.not_checked.join("; "))
            }
        }
    }

    /// Adds this verification to the record beside the backup, and gives the record as it is now.
    #[doc(hidden)]
    pub fn save_record(&self, files: &Backup) -> io::Result<Record> {
        let result = LevelResult {
            level: self.level,
            verified_at: self.verified_at,
            verdict: self.verdict,
            found_sha1: self.found_sha1.clone(),
            not_checked: self.not_checked.clone(),
            findings: self.findings.clone(),
            findings_total: self.findings_total,
            volbak_version: env!("CARGO_PKG_VERSION").to_owned(),
            second_opinion: self.second_opinion,
        };
        record::save(files, self.archive_sha1.as_deref(), self.archive_bytes, result)
    }
}
