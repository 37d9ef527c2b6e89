//! The result of a start.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What shows that a system is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootSign {
    /// A login prompt on the first serial console.
    LoginPrompt,
    /// An answer of the QEMU guest agent.
    GuestAgent,
}

impl fmt::Display for BootSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoginPrompt => "login prompt",
            Self::GuestAgent => "answer of the guest agent",
        })
    }
}

/// The result of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "boot")]
#[non_exhaustive]
pub enum BootOutcome {
    /// The system came up.
    Up {
        /// What showed it.
        sign: BootSign,
        /// After so many seconds.
        seconds: u64,
    },
    /// The machine was started, and the system did not come up. That does not make the backup bad: a system may need
    /// another volume, or a network.
    NotUp {
        /// What happened, and the last lines of the console.
        what: String,
    },
    /// It was not started.
    NotStarted {
        /// Why.
        why: String,
    },
}

impl fmt::Display for BootOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { sign, seconds } => write!(f, "booted: {sign} after {seconds} s"),
            Self::NotUp { what } => write!(f, "started, and its system did not come up: {what}"),
            Self::NotStarted { why } => write!(f, "not booted: {why}"),
        }
    }
}

/// The start was cancelled.
#[derive(Debug, thiserror::Error)]
#[error("interrupted while a backup was started")]
pub struct Interrupted;
