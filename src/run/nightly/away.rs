//! Copies the backups of a night to the second destination. A failure is a warning of the run: the night is kept.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::night::Night;
use crate::config::CopyTarget;
use crate::error::with_causes;
use crate::events::{Observer, Severity};
use crate::report::{CopyFacts, RunReport};
use crate::run::copy::{self, Candidate, CopyError, CopyOptions, CopyOutcome, CopyReport, CopyWorld};
use crate::run::throttle::throttled;
use crate::shown::counted;
use crate::store::catalog::{self, BackupState};
use crate::store::{Destination, StoreError};

/// The place of its problems.
const PLACE: &str = "copy";

impl Night<'_> {
    /// Copies what the second destination lacks, and adds the result to the report.
    pub(super) fn copy_away(&self, report: &mut RunReport) {
        let options = &self.config.copy;
        let Some(to) = options.to.as_ref().filter(|_| !self.is_test()) else { return };
        let shown = to.display().to_string();
        if let Some(stop) = self.end_of_run(report) {
            return self.tell(Severity::Warning, PLACE, format!("nothing was copied to {shown}: {}", stop.why));
        }
        let began = Instant::now();
        let copied = self.copied(options, to);
        let seconds = began.elapsed().as_secs();
        let facts = |done: &CopyReport| CopyFacts {
            to: shown.clone(),
            copied: done.count(|outcome| matches!(outcome, CopyOutcome::Copied { .. })),
            copied_bytes: done.copied_bytes(),
            failed: done.count(|outcome| matches!(outcome, CopyOutcome::Failed | CopyOutcome::NotStarted)),
            seconds,
        };
        match copied {
            Ok(done) => {
                if let Some(why) = &done.ended_early {
                    let left = done.count(|outcome| matches!(outcome, CopyOutcome::Failed | CopyOutcome::NotStarted));
                    let left = counted(left, "backup was", "backups were");
                    self.tell(Severity::Warning, PLACE, format!("{left} not copied to {shown}: {why}"));
                }
                report.copy = Some(facts(&done));
            }
            Err(CopyError::Stopped(done)) => {
                report.copy = Some(facts(&done));
                self.tell(Severity::Warning, PLACE, "interrupted; the next run continues");
            }
            Err(error) => {
                report.copy = Some(CopyFacts { to: shown, failed: 1, seconds, ..CopyFacts::default() });
                self.tell(Severity::Warning, PLACE, format!("nothing was copied: {}", with_causes(&error)));
            }
        }
    }

    fn copied(&self, options: &CopyTarget, to: &Path) -> Result<CopyReport, CopyError> {
        let to = Destination::reach_mounted(to, &self.config.store, options.require_mount)?;
        let observer = Arc::clone(self.collector) as Arc<dyn Observer>;
        let rate = options.read_rate_limit.or(self.config.read_rate_limit);
        let observer = throttled(observer, rate, &self.world.cancel);
        let how = CopyOptions { is_part_of_run: true, ..CopyOptions::default() };
        let (clock, cancel) = (&*self.world.clock, &self.world.cancel);
        let encryption = self.config.archive.encryption.as_ref();
        let world = CopyWorld { observer: &*observer, clock, cancel, encryption };
        copy::copy(self.candidates(options, &to)?, &to, how, world)
    }

    /// The backups that are newer than the newest copy of their volume: an older one was removed there. All backups of
    /// a set are copied.
    fn candidates(&self, options: &CopyTarget, to: &Destination) -> Result<Vec<Candidate>, StoreError> {
        let all = catalog::volumes(self.destination, &self.destination.volume_names()?, Candidate::of_entry)?;
        let to = &to.surveyed(&[])?;
        let mut chosen = Vec::new();
        for volume in all {
            let newest = match to.existing_volume_directory(&volume.name)? {
                None => None,
                Some(folder) => {
                    let there = catalog::list_volume(&*folder, &volume.name)?;
                    let started = there.iter().filter_map(|entry| match &entry.state {
                        BackupState::Complete { manifest } => Some(manifest.started_at),
                        _ => None,
                    });
                    started.max()
                }
            };
            let is_newer = |one: &Candidate| one.started_at().is_some_and(|at| newest.is_none_or(|newest| at > newest));
            chosen.extend(volume.backups.into_iter().filter(is_newer));
        }
        let is_wanted = |one: &Candidate| {
            options.volumes.iter().any(|pattern| pattern.matches(one.group().unwrap_or_default(), one.volume()))
        };
        let sets: std::collections::BTreeSet<String> =
            chosen.iter().filter(|one| is_wanted(one)).filter_map(|one| one.set_id().map(str::to_owned)).collect();
        chosen.retain(|one| is_wanted(one) || one.set_id().is_some_and(|id| sets.contains(id)));
        Ok(chosen)
    }
}
