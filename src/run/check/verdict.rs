//! The level of a verification, and its verdict.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The level of a verification. Each level includes the previous ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckLevel {
    /// All files exist, lengths agree, and checksum, index and manifest match the manifest's digests.
    Quick,
    /// The archive's SHA-1, each member, the tar structure, and each entry compared with the index.
    #[default]
    Full,
    /// The archive is restored into a new filesystem, which is then checked and compared with the index.
    RestoreTest,
}

impl fmt::Display for CheckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick check",
            Self::Full => "full",
            Self::RestoreTest => "restore-test",
        })
    }
}

/// The verdict of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything at this level was checked, without a finding.
    Good,
    /// No finding, but a file is missing that part of the check needs.
    GoodAsFarAsChecked,
    /// A problem was found. Do not rely on this backup.
    Bad,
}
