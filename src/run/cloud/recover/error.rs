//! Why nothing, or not all, was done.

use std::io;
use std::path::{Path, PathBuf};

use crate::openstack::CloudError;
use crate::run::cloud::SavedError;
use crate::run::journal_file::JournalError;

/// Why nothing, or not all, was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// There is no `[openstack]` in the config.
    #[error("no cloud is configured: the config needs a table [openstack], see docs/cloud.md")]
    NoCloud,
    /// The cloud does not answer as it should.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The user may not do what a recovery needs.
    #[error(
        "nothing was changed: the user lacks the right {right}; a recovery needs a user with the role admin, see docs/cloud.md"
    )]
    MissingRight {
        /// The right, by its name in the policy.
        right: &'static str,
    },
    /// The saved map cannot be used.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// No instance, or several, have this name.
    #[error("{0}")]
    WhichInstance(String),
    /// The plan cannot be read or written.
    #[error("the plan {} cannot be read or written", path.display())]
    PlanFile {
        /// Its file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no plan, or the cloud is not as it was when the plan was made.
    #[error("the plan {}: {what}", path.display())]
    Plan {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The plan says that nothing can be done.
    #[error("nothing was changed: {0}")]
    Stopped(String),
    /// The journal cannot be read or written.
    #[error("the journal {} cannot be used", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The journal is damaged, is no journal, or is of something else.
    #[error("the journal {}: {what}", path.display())]
    BadJournal {
        /// The journal.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Another process has the journal.
    #[error("another recovery or evacuation runs: it has the journal {}", .0.display())]
    Locked(PathBuf),
    /// Interrupted: the same command goes on.
    #[error("interrupted: the same command continues")]
    Cancelled,
}

impl RecoverError {
    pub(super) fn of_journal(path: &Path, error: JournalError) -> Self {
        let path = path.to_owned();
        match error {
            JournalError::Io(source) => Self::Journal { path, source },
            JournalError::Locked => Self::Locked(path),
            JournalError::Distrusted(found) => Self::BadJournal { path, what: found.to_string() },
            JournalError::Invalid(what) => Self::BadJournal { path, what },
            JournalError::Damaged(line) => Self::BadJournal {
                path,
                what: format!(
                    "{line}. Nothing was changed: correct that line; or rename the journal, and give a recovery the time of the outage \
                     with --outage: what was done before is then known from the cloud alone"
                ),
            },
        }
    }

    /// Whether another process is at it.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked(_))
    }
}
