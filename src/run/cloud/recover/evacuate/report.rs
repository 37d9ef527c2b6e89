//! The report of an evacuation, in the style of the nightly report.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};
use serde::Serialize;

use super::plan::{EvacuationPlan, Kept, kept_lines};
use crate::error::ExitClass;
use crate::report::{RULE, shown_duration};
use crate::run::cloud::recover::journal::Earlier;
use crate::run::cloud::recover::plan::Named;
use crate::run::cloud::recover::report::{Outcome, how_it_ended};
use crate::shown;

/// An instance and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evacuated {
    /// The instance.
    pub instance: Named,
    /// Its outcome.
    pub outcome: Outcome,
    /// Where it is now.
    pub host: Option<String>,
    /// Why, if it was not evacuated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub what: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvacuationReport {
    /// The cloud.
    pub cloud: String,
    /// The lost host.
    pub host: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_seconds: u64,
    /// Whether an earlier call had begun it, and not completed it.
    pub was_resumed: bool,
    /// Whether that call was interrupted.
    pub was_interrupted: bool,
    /// Whether this call forced the service down.
    pub forced_down: bool,
    /// The instances.
    pub instances: Vec<Evacuated>,
    /// Instances that are not evacuated.
    pub kept: Vec<Kept>,
    /// Why it ended before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted: Option<String>,
    /// What is doubtful about the settings.
    pub doubts: Vec<String>,
}

impl EvacuationReport {
    pub(super) fn new(plan: &EvacuationPlan, started_at: DateTime<Utc>, earlier: &Earlier) -> Self {
        Self {
            cloud: plan.cloud.clone(),
            host: plan.host.clone(),
            started_at,
            duration_seconds: 0,
            was_resumed: earlier.header.is_some(),
            was_interrupted: earlier.is_cut_off(),
            forced_down: false,
            instances: Vec::new(),
            kept: plan.kept.clone(),
            aborted: None,
            doubts: Vec::new(),
        }
    }

    fn failed(&self) -> usize {
        self.instances.iter().filter(|one| one.outcome != Outcome::Done).count()
    }

    /// The exit status.
    pub fn class(&self) -> ExitClass {
        match (self.aborted.is_some() || self.failed() > 0, self.kept.is_empty()) {
            (true, _) => ExitClass::Failed,
            (false, false) => ExitClass::WithProblems,
            (false, true) => ExitClass::Well,
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let started = self.started_at.with_timezone(&Local).format("%d/%m at %H:%M:%S");
        let (host, cloud) = (shown::text(&self.host), shown::text(&self.cloud));
        let mut text = format!("Evacuation Start Time - {started}\nCloud - {cloud}\nLost host - {host}\n");
        // Writing to a String cannot fail.
        if self.was_resumed {
            let how = how_it_ended(self.was_interrupted);
            let _ = writeln!(text, "An earlier call of this evacuation {how}. Proceed...");
        }
        if self.forced_down {
            let _ = writeln!(text, "The service nova-compute is forced down. Proceed...");
        }
        if !self.instances.is_empty() {
            let _ = writeln!(text, "\nInstances: {}...", self.instances.len());
        }
        for one in &self.instances {
            let _ = match (one.outcome, &one.host) {
                (Outcome::Done, Some(host)) => {
                    writeln!(text, "  - instance {}: now on {}", one.instance, shown::text(host))
                }
                (Outcome::Done, None) => writeln!(text, "  - instance {}: done", one.instance),
                _ => writeln!(text, "  - instance {}: FAILED, {}", one.instance, shown::text(&one.what)),
            };
        }
        if let Some(why) = &self.aborted {
            let _ = writeln!(text, "\nThe evacuation has been aborted... {}", shown::text(why));
        }
        text.push_str(&kept_lines(&self.kept));
        let _ = write!(
            text,
            "{RULE}\nTotal instances - {} - Failed : {} - To look at : {}\n\
             Total execution time - {}\n",
            self.instances.len(),
            self.failed(),
            self.kept.len(),
            shown_duration(self.duration_seconds)
        );
        text
    }
}
