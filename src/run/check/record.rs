//! The results of verifications, stored beside the backup as `STEM.verified.json`.
//!
//! The four files of a backup are never changed, so this is a fifth file, replaced as a whole. It contains the
//! SHA-1 of the archive, and does not apply to another archive or one that was made again.

use std::io;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::second_opinion::SecondOpinion;
use super::side_files;
use super::verdict::Verdict;
use crate::archive::index::parse_hex;
use crate::report::CheckLevel;
use crate::store::catalog::{BackupState, CatalogEntry};
use crate::store::open::OpenError;
use crate::store::{Backup, ReadError, StoreError};

/// The version of the record's format.
const FORMAT: u32 = 1;
/// The maximum number of findings to keep.
const MAX_FINDINGS: usize = 100;
/// The maximum length of a path or text: 100 findings for three levels stay far below the limit of a record.
const MAX_TEXT_CHARS: usize = 1024;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 1.
    pub format: u32,
    /// The SHA-1 of the archive according to manifest or checksum; `None` if neither has one.
    pub archive_sha1: Option<String>,
    /// The SHA-256 of the index, if the manifest has no SHA-1 of the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_sha256: Option<String>,
    /// The archive's length in bytes.
    pub archive_bytes: u64,
    /// The last verification of each level, in the order of levels; for each level, the last without a second
    /// opinion and the last with one.
    pub results: Vec<LevelResult>,
    /// There is a record, and what it says is not known.
    #[serde(skip)]
    is_unreadable: bool,
}

/// Why it is not known what a record says.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("the record of earlier verifications cannot be read; a full verification replaces it: {0}")]
    Read(ReadError),
    #[error("the record of earlier verifications has format {0}, which a newer volbak wrote; this one was not stored")]
    Newer(u32),
    #[error("the record of earlier verifications is damaged; a full verification replaces it")]
    Damaged,
}

/// The result of the last verification at a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelResult {
    /// The level that was asked for.
    pub level: CheckLevel,
    /// The level of which all that matters could be checked, if that is a lower one: without a key, or without a restore
    /// test for which there was no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<CheckLevel>,
    /// The time.
    pub verified_at: DateTime<Utc>,
    /// The verdict.
    pub verdict: Verdict,
    /// The archive's actual SHA-1.
    pub found_sha1: Option<String>,
    /// Checks that could not be made.
    pub not_checked: Vec<String>,
    /// The first hundred findings.
    pub findings: Vec<Finding>,
    /// The total number of findings.
    pub findings_total: u64,
    /// The version of volbak that verified it.
    pub volbak_version: String,
    /// The result of the second opinion; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_opinion: Option<SecondOpinion>,
}

impl LevelResult {
    /// The level of which all that matters was checked.
    pub fn reached(&self) -> CheckLevel {
        self.reached.unwrap_or(self.level)
    }

    /// Whether it checked at least as much as the other.
    fn covers(&self, other: &Self) -> bool {
        self.level >= other.level
            && self.reached() >= other.reached()
            && (self.second_opinion.is_some() || other.second_opinion.is_none())
    }
}

/// The state of a backup according to its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "health")]
pub enum Health {
    /// Never verified, or the record does not apply to this archive.
    #[default]
    Unverified,
    /// Verified, without a known problem.
    Good {
        /// The last verification without findings.
        last_verified: DateTime<Utc>,
        /// The level of that verification.
        level: CheckLevel,
    },
    /// A problem is known. It does not count as a backup.
    Bad {
        /// When it was found.
        found_at: DateTime<Utc>,
    },
    /// Its record cannot be read.
    Unknown,
}

impl Record {
    /// The digest that tells the archive from others.
    fn identity(&self) -> Option<&str> {
        self.index_sha256.as_deref().or(self.archive_sha1.as_deref())
    }

    fn is_of(&self, identity: Option<&str>, archive_bytes: u64) -> bool {
        self.identity() == identity && self.archive_bytes == archive_bytes
    }

    /// The state. A finding stands until a verification of at least the same extent finds nothing: at the same or a
    /// higher level, and with a second opinion if the first had one.
    pub fn health(&self) -> Health {
        if self.is_unreadable {
            return Health::Unknown;
        }
        match self.decisive() {
            None => Health::Unverified,
            Some(result) if result.verdict == Verdict::Bad => Health::Bad { found_at: result.verified_at },
            Some(result) => Health::Good { last_verified: result.verified_at, level: result.reached() },
        }
    }

    /// The verification that decides [`Record::health`]: the last with a standing finding, otherwise the last at
    /// the highest level.
    pub fn decisive(&self) -> Option<&LevelResult> {
        let good_since = |bad: &LevelResult| {
            self.results
                .iter()
                .any(|other| other.verdict != Verdict::Bad && other.covers(bad) && other.verified_at > bad.verified_at)
        };
        let bad = self.results.iter().filter(|result| result.verdict == Verdict::Bad && !good_since(result));
        let good = self.results.iter().filter(|result| result.verdict != Verdict::Bad);
        bad.max_by_key(|result| result.verified_at)
            .or_else(|| good.max_by_key(|result| (result.reached(), result.level, result.verified_at)))
    }

    /// The last verification at this level or a higher one, whatever its verdict.
    pub fn last_look(&self, level: CheckLevel) -> Option<DateTime<Utc>> {
        let looks = self.results.iter().filter(|result| result.level >= level);
        looks.map(|result| result.verified_at).max()
    }
}

/// The record of a backup; `None` without one, or if it applies to another archive. `identity` is the archive's SHA-1 from
/// the manifest (or without it, from the checksum), or the index's SHA-256 if the manifest has no SHA-1.
pub fn load(files: &Backup, identity: Option<&str>, archive_bytes: u64) -> Option<Record> {
    match read(files) {
        Ok(record) => record.filter(|record| record.is_of(identity, archive_bytes)),
        Err(_) => Some(Record { is_unreadable: true, ..Record::default() }),
    }
}

fn read(files: &Backup) -> Result<Option<Record>, Unreadable> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let bytes = match files.read_record() {
        Ok(bytes) => bytes,
        Err(ReadError::Open(OpenError::Missing(_))) => return Ok(None),
        Err(ReadError::TooLong | ReadError::Open(OpenError::NotAFile { .. })) => return Err(Unreadable::Damaged),
        Err(error) => return Err(Unreadable::Read(error)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Versioned { format: FORMAT }) => serde_json::from_slice(&bytes).map(Some).map_err(|_| Unreadable::Damaged),
        Ok(Versioned { format }) if format > FORMAT => Err(Unreadable::Newer(format)),
        Ok(_) | Err(_) => Err(Unreadable::Damaged),
    }
}

/// The record of a backup whose side files were not read yet.
pub fn of(files: &Backup) -> Option<Record> {
    let (identity, archive_bytes) = side_files::expected(files)?;
    load(files, identity.as_deref(), archive_bytes)
}

/// The record of a backup in the catalog, without reading its manifest again.
pub fn of_entry(entry: &CatalogEntry) -> Option<Record> {
    let files = entry.files().seen();
    match &entry.state {
        BackupState::Complete { manifest }
            if parse_hex::<20>(&manifest.digests.archive_sha1).is_some()
                || manifest.digests.archive_sha1().is_none() =>
        {
            load(&files, Some(manifest.digests.identity()), manifest.sizes.archive_bytes)
        }
        _ => of(&files),
    }
}

/// Shortens a finding: a record above its size limit could not be read at all.
fn shorten(finding: &mut Finding) {
    for text in finding.path.iter_mut().chain([&mut finding.what]) {
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT_CHARS) {
            text.truncate(end);
        }
    }
}

/// Adds a result to the record beside the backup, atomically. `identity` is that of [`load`]. A verification that could not
/// even tell which archive it is leaves the record of it as it is.
pub fn save(files: &Backup, identity: Option<&str>, archive_bytes: u64, mut result: LevelResult) -> io::Result<Record> {
    let mut record = match read(files) {
        Ok(Some(record)) if record.is_of(identity, archive_bytes) => record,
        Ok(Some(record)) if identity.is_none() || archive_bytes == 0 => return Ok(record),
        Ok(_) => Record::default(),
        Err(Unreadable::Damaged | Unreadable::Read(_)) if result.level >= CheckLevel::Full => Record::default(),
        Err(error) => return Err(io::Error::other(error)),
    };
    record.format = FORMAT;
    let is_of_index = identity.is_some_and(|digest| parse_hex::<32>(digest).is_some());
    let identity = identity.map(str::to_owned);
    (record.archive_sha1, record.index_sha256) = if is_of_index { (None, identity) } else { (identity, None) };
    record.archive_bytes = archive_bytes;
    result.findings.truncate(MAX_FINDINGS);
    result.findings.iter_mut().for_each(shorten);
    record.results.retain(|old| old.level != result.level || !result.covers(old));
    // The clock may have been wrong then, or is now. What is saved later was found later.
    let latest = result.verified_at - TimeDelta::milliseconds(1);
    record.results.iter_mut().for_each(|old| old.verified_at = old.verified_at.min(latest));
    record.results.push(result);
    record.results.sort_by_key(|result| (result.level, result.reached(), result.second_opinion.is_some()));
    let mut bytes = serde_json::to_vec_pretty(&record)?;
    bytes.push(b'\n');

    files.write_record(&bytes).map_err(|error| match error {
        StoreError::Io { source, .. } => source,
        error => io::Error::other(error),
    })?;
    Ok(record)
}

#[cfg(test)]
mod tests;
