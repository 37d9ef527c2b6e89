//! Findings: problems of a backup, and their places.

use std::fmt::{Display, Write as _};

use serde::{Deserialize, Serialize};

use crate::archive::kind::ArchiveKind;
use crate::report::CheckLevel;
use crate::store::names::{SEGMENTS, SIGNATURE, index_suffix};

/// The maximum number of findings to keep.
const MAX_FINDINGS: usize = 1000;

/// One of the files of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupFile {
    /// `STEM.tar.gz`, or `STEM.img.gz`.
    Archive,
    /// `STEM.checksum`.
    Checksum,
    /// `STEM.index`.
    Index,
    /// `STEM.manifest.json`.
    Manifest,
    /// `STEM.segments`, of an encrypted backup.
    Segments,
    /// `STEM.manifest.sig`, of an encrypted backup.
    Signature,
}

impl BackupFile {
    /// The end of its name.
    pub(in crate::run) fn suffix(self, kind: ArchiveKind) -> &'static str {
        match self {
            Self::Archive => kind.suffix(),
            Self::Checksum => ".checksum",
            Self::Index => index_suffix(kind),
            Self::Manifest => ".manifest.json",
            Self::Segments => SEGMENTS,
            Self::Signature => SIGNATURE,
        }
    }
}

/// A problem of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file that is wrong or contradicts the others.
    pub file: BackupFile,
    /// The archive's member, from 0.
    pub member: Option<u64>,
    /// The offset in that file, if known: of a member, its first byte.
    pub offset: Option<u64>,
    /// The path in the archive, escaped as in the index.
    pub path: Option<String>,
    /// The problem, one line.
    pub what: String,
}

impl Finding {
    /// File, member and path, for a message.
    pub fn place(&self, stem: &str, kind: ArchiveKind) -> String {
        let mut place = format!("{stem}{}", self.file.suffix(kind));
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

/// The findings of a check, and its gaps.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The first thousand findings.
    pub first: Vec<Finding>,
    /// The total number.
    pub total: u64,
    /// Checks that could not be made, and why; one line each.
    pub not_checked: Vec<String>,
    /// The level of which all that matters was checked, if that is not the one that was asked for.
    pub reached: Option<CheckLevel>,
}

impl Findings {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.total += 1;
        if self.first.len() < MAX_FINDINGS {
            self.first.push(finding);
        }
    }

    /// Adds a finding about a file as a whole.
    pub fn about(&mut self, file: BackupFile, what: impl Into<String>) {
        self.add(Finding { file, member: None, offset: None, path: None, what: what.into() });
    }

    /// Notes that nothing beyond this level could be checked, and why.
    pub fn not_beyond(&mut self, level: CheckLevel, what: impl Into<String>) {
        self.reached = Some(self.reached.map_or(level, |reached| reached.min(level)));
        self.not_checked(what);
    }

    /// Notes why there is no restore test.
    pub(in crate::run) fn not_restored(&mut self, why: impl Display) {
        self.not_beyond(CheckLevel::Full, format!("it was not restored for a test: {why}"));
    }

    /// Notes a check that could not be made.
    pub fn not_checked(&mut self, what: impl Into<String>) {
        // An archive can contain any number of entries of unknown types.
        match self.not_checked.len() {
            0..MAX_FINDINGS => self.not_checked.push(what.into()),
            MAX_FINDINGS => self.not_checked.push("more, of which this list has no room".to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, MAX_FINDINGS};

    #[test]
    fn no_archive_makes_the_lists_long() {
        let mut findings = Findings::default();
        (0..3 * MAX_FINDINGS).for_each(|number| findings.not_checked(number.to_string()));
        assert_eq!(findings.not_checked.len(), MAX_FINDINGS + 1);
        assert_eq!(findings.not_checked[MAX_FINDINGS], "more, of which this list has no room");
    }
}
