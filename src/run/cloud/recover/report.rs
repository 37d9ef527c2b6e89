//! The report of a recovery, in the style of the nightly report.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};
use serde::Serialize;

use super::plan::{Action, Finding, Step, finding_lines};
use crate::error::ExitClass;
use crate::report::{RULE, shown_duration};
use crate::shown;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done, and was seen to be.
    Done,
    /// An earlier call, or the cloud, had already done it.
    AlreadySo,
    /// It was not done.
    NotDone,
    /// It was tried.
    Failed,
}

/// A step and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepResult {
    /// The step.
    #[serde(flatten)]
    pub action: Action,
    /// Its outcome.
    pub outcome: Outcome,
    /// Why, if it was not done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub what: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecoverReport {
    /// The cloud.
    pub cloud: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_seconds: u64,
    /// Whether an earlier call had begun it, and not completed it.
    pub was_resumed: bool,
    /// Whether that call was interrupted.
    pub was_interrupted: bool,
    /// The steps, in the order in which they were done.
    pub steps: Vec<StepResult>,
    /// Why it ended before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted: Option<String>,
    /// The steps that a new plan still has.
    pub left: Vec<Step>,
    /// Findings that need attention.
    pub unclear: Vec<Finding>,
    /// Findings that were left alone on purpose.
    pub notes: Vec<Finding>,
    /// What is doubtful about the settings.
    pub doubts: Vec<String>,
}

/// How the earlier call of a recovery or an evacuation ended, in words.
pub(super) fn how_it_ended(was_interrupted: bool) -> &'static str {
    if was_interrupted { "was interrupted" } else { "left something to do or to look at" }
}

impl RecoverReport {
    fn count(&self, outcome: Outcome) -> usize {
        self.steps.iter().filter(|step| step.outcome == outcome).count()
    }

    /// The exit status.
    pub fn class(&self) -> ExitClass {
        if self.aborted.is_some() || self.count(Outcome::Failed) > 0 {
            ExitClass::Failed
        } else if !self.unclear.is_empty() || !self.left.is_empty() || self.count(Outcome::NotDone) > 0 {
            ExitClass::WithProblems
        } else {
            ExitClass::Well
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let started = self.started_at.with_timezone(&Local).format("%d/%m at %H:%M:%S");
        let mut text = format!("Recovery Start Time - {started}\nCloud - {}\n", shown::text(&self.cloud));
        // Writing to a String cannot fail.
        if self.was_resumed {
            let how = how_it_ended(self.was_interrupted);
            let _ = writeln!(text, "An earlier call of this recovery {how}. Proceed...");
        }
        if !self.steps.is_empty() {
            let _ = writeln!(text, "\nSteps: {}...", self.steps.len());
        }
        for step in &self.steps {
            let outcome = match step.outcome {
                Outcome::Done => "done",
                Outcome::AlreadySo => "it was so already",
                Outcome::NotDone => "not done",
                Outcome::Failed => "FAILED",
            };
            let _ = write!(text, "  - {}: {outcome}", step.action);
            let _ = if step.what.is_empty() { writeln!(text) } else { writeln!(text, ", {}", shown::text(&step.what)) };
        }
        if let Some(why) = &self.aborted {
            let _ = writeln!(text, "\nThe recovery has been aborted... {}", shown::text(why));
        }
        if !self.left.is_empty() {
            let _ = writeln!(text, "\nStill to do: {}...", self.left.len());
            for step in &self.left {
                let _ = writeln!(text, "  - {}\n      {}", step.action, shown::text(&step.why));
            }
        }
        text.push_str(&finding_lines(&self.unclear, &self.notes));
        let _ = write!(
            text,
            "{RULE}\nTotal steps - {} - Done : {} - Failed : {} - To look at : {}\n\
             Total execution time - {}\n",
            self.steps.len(),
            self.count(Outcome::Done) + self.count(Outcome::AlreadySo),
            self.count(Outcome::Failed),
            self.unclear.len() + self.left.len() + self.count(Outcome::NotDone),
            shown_duration(self.duration_seconds)
        );
        text
    }
}
