//! A plan being carried out.

use std::sync::Arc;

use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::{BlockRead, RunCommand};
use crate::run::rebuild::options::DeviceOptions;
use crate::run::rebuild::plan::DiskPlan;
use crate::run::rebuild::report::DeviceReport;
use crate::run::rebuild::target::OpenTarget;
use crate::shown;
use crate::store::Backup;

/// A plan being carried out.
pub struct Carried<'a> {
    /// The backup.
    pub files: &'a Backup,
    /// The plan.
    pub plan: &'a DiskPlan,
    /// The backup's index, if it matches the manifest.
    pub index: Option<&'a Arc<dyn BlockRead>>,
    /// The target.
    pub target: &'a OpenTarget,
    /// The options.
    pub options: &'a DeviceOptions,
    /// Runs the tools.
    pub commands: Arc<dyn RunCommand>,
    /// Receives events.
    pub observer: &'a dyn Observer,
}

impl Carried<'_> {
    /// Reports a difference from the backup.
    pub(super) fn fail(&self, report: &mut DeviceReport, region: &str, what: String) {
        let region = shown::path(region.as_bytes());
        report.failures.push(format!("{region}: {what}"));
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, region, what)));
    }
}
