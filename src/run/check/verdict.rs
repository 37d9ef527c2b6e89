//! How much a verification checks, and its verdict.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much is verified. Each level does all that the ones before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckLevel {
    /// The set is complete, lengths agree, and checksum, index and manifest are what the manifest says.
    Quick,
    /// The archive's SHA-1, each member, the tar structure, and each entry against the index.
    #[default]
    Full,
    /// The archive restored into a filesystem of its own, that checked, and the tree compared with the index.
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
    /// All that the level asks for was checked, and is right.
    Good,
    /// Nothing is wrong, but files are missing that part of the check needs.
    GoodAsFarAsChecked,
    /// Something is wrong. Do not rely on this backup.
    Bad,
}
