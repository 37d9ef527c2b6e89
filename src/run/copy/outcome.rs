//! The result of a copy.

use serde::Serialize;

use super::candidate::Candidate;

/// The result for all backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// The destination that was copied to.
    pub to: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Each backup.
    pub backups: Vec<OneCopy>,
    /// Why the copy ended before the last backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
    /// The space in the target that is available; only of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
}

/// The result for one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OneCopy {
    /// Its volume.
    pub volume: String,
    /// The common start of its file names.
    pub stem: String,
    /// The result.
    #[serde(flatten)]
    pub outcome: CopyOutcome,
    /// Why it was not copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What happened to a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum CopyOutcome {
    /// It is in the target now.
    Copied {
        /// The length of its files.
        bytes: u64,
        /// How much of that this copy read from the source.
        copied_bytes: u64,
        /// How much an interrupted copy had left in the target.
        kept_bytes: u64,
        /// The duration.
        seconds: u64,
    },
    /// A dry run: it would be copied.
    WouldCopy {
        /// The length of its files.
        bytes: u64,
    },
    /// The target has it already.
    Present,
    /// It is bad, damaged or has no manifest.
    PassedOver,
    /// It could not be copied.
    Failed,
    /// The copy ended before.
    NotStarted,
}

impl CopyReport {
    pub(super) fn new(to: String, dry_run: bool) -> Self {
        Self { to, dry_run, backups: Vec::new(), ended_early: None, available_bytes: None }
    }

    pub(super) fn add(&mut self, candidate: &Candidate, outcome: CopyOutcome, why: Option<String>) {
        let (volume, stem) = (candidate.volume().to_owned(), candidate.stem().to_owned());
        self.backups.push(OneCopy { volume, stem, outcome, why });
    }

    /// The number of backups for which `is` holds.
    pub fn count(&self, is: impl Fn(&CopyOutcome) -> bool) -> u64 {
        self.backups.iter().filter(|one| is(&one.outcome)).count() as u64
    }

    /// Whether a backup that should be in the target is not.
    pub fn has_failures(&self) -> bool {
        self.count(|outcome| matches!(outcome, CopyOutcome::Failed | CopyOutcome::NotStarted)) > 0
    }

    /// The length of all copied backups.
    pub fn copied_bytes(&self) -> u64 {
        let bytes = |one: &OneCopy| match one.outcome {
            CopyOutcome::Copied { bytes, .. } => bytes,
            _ => 0,
        };
        self.backups.iter().map(bytes).fold(0, u64::saturating_add)
    }
}
