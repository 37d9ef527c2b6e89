//! Copies the backups of a night to the second destination. A failure is a warning of the run: the night is kept.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::night::Night;
use crate::config::CopyTarget;
use crate::error::with_causes;
use crate::events::{Observer, Severity};
use crate::report::{CopyFacts, RunReport};
use crate::run::copies_due::CopiesDue;
use crate::run::copy::{self, Candidate, CopyError, CopyOptions, CopyOutcome, CopyReport, CopyWorld};
use crate::run::throttle::throttled;
use crate::shown::counted;
use crate::store::catalog::{self, BackupState};
use crate::store::retention::is_future;
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
        let mut due = self.due(&to);
        // One that is known to be bad waits until a verification finds it good.
        let (waiting, candidates): (Vec<Candidate>, Vec<Candidate>) = self
            .candidates(options, &to, &due)?
            .into_iter()
            .partition(|one| one.is_bad() && due.contains(one.volume(), one.stem()));
        let names = |one: &Candidate| (one.volume().to_owned(), one.stem().to_owned());
        let mut missing: BTreeSet<(String, String)> = candidates.iter().chain(&waiting).map(names).collect();
        self.record(&mut due, &missing);
        let copied = copy::copy(candidates, &to, how, world);
        let done = match &copied {
            Ok(done) => done,
            Err(CopyError::Stopped(done)) => done,
            Err(_) => return copied,
        };
        for one in &done.backups {
            if matches!(one.outcome, CopyOutcome::Copied { .. } | CopyOutcome::Present) {
                missing.remove(&(one.volume.clone(), one.stem.clone()));
            }
        }
        self.record(&mut due, &missing);
        copied
    }

    /// What earlier runs should have copied to this second destination.
    fn due(&self, to: &Destination) -> CopiesDue<'_> {
        let to = to.root().display().to_string();
        CopiesDue::read(self.destination, &to).unwrap_or_else(|error| {
            let what = format!(
                "copies that failed in earlier runs are not tried again; `volbak copy --all` makes them: {}",
                with_causes(&error)
            );
            self.tell(Severity::Warning, PLACE, what);
            CopiesDue::unknown(self.destination, &to)
        })
    }

    fn record(&self, due: &mut CopiesDue<'_>, missing: &BTreeSet<(String, String)>) {
        let missing = missing.iter().map(|(volume, stem)| (volume.as_str(), stem.as_str()));
        if let Err(error) = due.record(missing) {
            let what = format!("a copy that fails now may not be tried again: {}", with_causes(&error));
            self.tell(Severity::Warning, PLACE, what);
        }
    }

    /// The backups that this run made, those that an earlier run should have copied, and those that are newer than the
    /// newest copy of their volume: an older one was removed there. All backups of a set are copied.
    fn candidates(
        &self,
        options: &CopyTarget,
        to: &Destination,
        due: &CopiesDue<'_>,
    ) -> Result<Vec<Candidate>, StoreError> {
        let all = catalog::volumes(self.destination, &self.destination.volume_names()?, Candidate::of_entry)?;
        let to = &to.surveyed(&[])?;
        let now = self.world.clock.now();
        let mut chosen = Vec::new();
        for volume in all {
            let there: Vec<DateTime<Utc>> = match to.existing_volume_directory(&volume.name)? {
                None => Vec::new(),
                Some(folder) => {
                    let there = catalog::list_volume(&*folder, &volume.name)?;
                    let started = there.iter().filter_map(|entry| match &entry.state {
                        BackupState::Complete { manifest } => Some(manifest.started_at),
                        _ => None,
                    });
                    started.collect()
                }
            };
            let newest = there.iter().max();
            // The date of a copy that was made under a wrong clock says nothing about later backups.
            let newest_believed = there.iter().filter(|at| !is_future(**at, now)).max();
            let is_newer = |at: DateTime<Utc>| {
                let newest = if is_future(at, now) { newest } else { newest_believed };
                at >= self.started && !is_future(at, now) || newest.is_none_or(|newest| at > *newest)
            };
            let is_chosen =
                |one: &Candidate| due.contains(&volume.name, one.stem()) || one.started_at().is_some_and(is_newer);
            chosen.extend(volume.backups.into_iter().filter(is_chosen));
        }
        let is_wanted = |one: &Candidate| {
            options.volumes.iter().any(|pattern| pattern.matches(one.group().unwrap_or_default(), one.volume()))
        };
        let sets: BTreeSet<String> =
            chosen.iter().filter(|one| is_wanted(one)).filter_map(|one| one.set_id().map(str::to_owned)).collect();
        chosen.retain(|one| is_wanted(one) || one.set_id().is_some_and(|id| sets.contains(id)));
        Ok(chosen)
    }
}
