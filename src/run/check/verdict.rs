//! The verdict of a verification.

use serde::{Deserialize, Serialize};

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
