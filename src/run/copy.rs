//! The verb `copy`: brings backups from one destination to another, each whole or not at all.
//!
//! A backup that the target has is passed over; one that an interrupted copy began is continued. Nothing in the target is
//! replaced or removed.

mod apart;
mod candidate;
mod decide;
mod error;
mod failure;
mod members;
mod named;
mod outcome;
mod segments;
mod signed;
mod transfer;
mod walker;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::encryption::EncryptionOptions;
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity, SourceName};
use crate::outside::{Cancel, Clock};
use crate::run::catalogue;
use crate::run::verify::many::source_name;
use crate::store::catalog::{BackupState, CatalogEntry, list_volume};
use crate::store::remains::remove_remains;
use crate::store::retention::is_future;
use crate::store::{Destination, StoreError, arrival};
use crate::units::ByteLen;

pub use candidate::Candidate;
pub use error::CopyError;
pub use outcome::{CopyOutcome, CopyReport, OneCopy};

use apart::check_apart;
use candidate::State;
use decide::{Decision, decide};
use failure::TransferError;
use transfer::Transfer;

/// Options of a copy.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Also copy backups that a verification found bad, with the record that says so.
    pub include_bad: bool,
    /// Decide and report, and change nothing.
    pub dry_run: bool,
    /// Part of a run over volumes, whose progress goes on.
    pub is_part_of_run: bool,
}

/// The surroundings of a copy.
#[derive(Clone, Copy)]
pub struct CopyWorld<'a> {
    /// Receives progress and problems; limits the rate.
    pub observer: &'a dyn Observer,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Stops between two pieces; what is copied stays for the next copy.
    pub cancel: &'a Cancel,
    /// The keys of this host: a copy of an encrypted backup that has a name of its own is signed again.
    pub encryption: Option<&'a EncryptionOptions>,
}

/// Copies these backups to `to`, whose lock is held meanwhile. Backups that fail are in the report, with the reason.
pub fn copy(
    candidates: Vec<Candidate>,
    to: &Destination,
    options: CopyOptions,
    world: CopyWorld<'_>,
) -> Result<CopyReport, CopyError> {
    let roots = candidates.iter().filter_map(Candidate::root);
    for root in roots.collect::<std::collections::BTreeSet<_>>() {
        check_apart(root, to.root())?;
    }
    let _lock = if options.dry_run { None } else { Some(to.lock(world.clock.now())?) };
    let work = Work { to, options, world };
    let mut report = CopyReport::new(to.root().display().to_string(), options.dry_run);
    let mut by_volume: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        by_volume.entry(candidate.volume().to_owned()).or_default().push(candidate);
    }
    let mut due = Vec::new();
    for (volume, candidates) in by_volume {
        for (candidate, decision) in work.decisions(&volume, candidates)? {
            match decision {
                Decision::Copy { bytes } => due.push((candidate, bytes)),
                Decision::Present => report.add(&candidate, CopyOutcome::Present, None),
                Decision::PassOver(why) => report.add(&candidate, CopyOutcome::PassedOver, Some(why)),
                Decision::Refuse(why) => report.add(&candidate, CopyOutcome::Failed, Some(why)),
            }
        }
    }
    work.tell_decisions(&report);
    // Those of one set come one after another, and each volume's oldest first.
    due.sort_by_cached_key(|(candidate, _)| candidate.order());
    let bytes = due.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
    if options.dry_run {
        for (candidate, bytes) in &due {
            report.add(candidate, CopyOutcome::WouldCopy { bytes: *bytes }, None);
        }
        report.available_bytes = to.space()?.map(|space| space.available_bytes);
        return Ok(report);
    }
    work.tidy(&due)?;
    to.store().end_dead_uploads()?;
    if !options.is_part_of_run {
        world.observer.on_event(&Event::RunStarted { sources: due.len() as u64, bytes });
    }
    let mut waiting = due.iter();
    for (candidate, bytes) in waiting.by_ref() {
        match work.one(candidate, *bytes, &mut report) {
            Ok(()) => {}
            Err(error) => {
                let why = with_causes(&error);
                report.add(candidate, CopyOutcome::Failed, Some(why.clone()));
                report.ended_early = Some(why);
                break;
            }
        }
    }
    if report.count(|outcome| matches!(outcome, CopyOutcome::Copied { .. })) > 0 {
        catalogue::note(to, "copy", world.observer);
    }
    let why = report.ended_early.clone().unwrap_or_default();
    waiting.for_each(|(candidate, _)| report.add(candidate, CopyOutcome::NotStarted, Some(why.clone())));
    if world.cancel.is_cancelled() { Err(CopyError::Stopped(Box::new(report))) } else { Ok(report) }
}

/// A copy in progress.
struct Work<'a> {
    to: &'a Destination,
    options: CopyOptions,
    world: CopyWorld<'a>,
}

impl Work<'_> {
    fn decisions(&self, volume: &str, candidates: Vec<Candidate>) -> Result<Vec<(Candidate, Decision)>, StoreError> {
        let there = match self.to.surveyed(&[volume.to_owned()])?.existing_volume_directory(volume)? {
            Some(folder) => list_volume(&*folder, volume)?,
            None => Vec::new(),
        };
        self.tell_future(&there);
        Ok(decide(candidates, &there, self.options.include_bad, self.to.root()))
    }

    /// Reports the copies whose date is in the future.
    fn tell_future(&self, there: &[CatalogEntry]) {
        let now = self.world.clock.now();
        for entry in there {
            let BackupState::Complete { manifest } = &entry.state else { continue };
            if is_future(manifest.started_at, now) {
                let what = format!(
                    "the copy in {} is dated {}, in the future: a clock was wrong",
                    self.to.root().display(),
                    manifest.started_at.format("%Y-%m-%d")
                );
                let problem = Problem::new(Severity::Warning, entry.stem.clone(), what);
                let source = SourceName::of_backups(&entry.name);
                self.world.observer.on_event(&Event::ProblemOf { source, problem });
            }
        }
    }

    /// Reports what is decided without a copy.
    fn tell_decisions(&self, report: &CopyReport) {
        for one in &report.backups {
            let Some(why) = &one.why else { continue };
            let is_error = one.outcome == CopyOutcome::Failed && !self.options.is_part_of_run;
            let severity = if is_error { Severity::Error } else { Severity::Warning };
            let problem = Problem::new(severity, one.stem.clone(), why.clone());
            let source = SourceName::of_backups(&one.volume);
            self.world.observer.on_event(&Event::ProblemOf { source, problem });
        }
    }

    /// Removes what interrupted copies of other backups left in the folders of these volumes.
    fn tidy(&self, due: &[(Candidate, u64)]) -> Result<(), StoreError> {
        let mut stems: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (candidate, _) in due {
            stems.entry(candidate.volume()).or_default().push(candidate.stem());
        }
        for (volume, stems) in stems {
            if let Some(folder) = self.to.existing_volume_directory(volume)?
                && !arrival::waits_for(&folder, &stems)?
            {
                remove_remains(&*folder)?;
            }
        }
        Ok(())
    }

    /// Copies one backup. Only an error after which no other can be copied is returned.
    fn one(&self, candidate: &Candidate, bytes: u64, report: &mut CopyReport) -> Result<(), TransferError> {
        let (observer, began) = (self.world.observer, Instant::now());
        let source = source_name(candidate.files());
        observer.on_event(&Event::SourceStarted { source: source.clone() });
        observer.on_event(&Event::Step { step: format!("copying to {}", self.to.root().display()) });
        observer.on_event(&Event::ExpectedBytes { bytes });
        let State::Complete { manifest, is_bad } = candidate.state() else { return Ok(()) };
        let transfer = Transfer {
            files: candidate.files(),
            manifest,
            is_bad: *is_bad,
            to: self.to,
            encryption: self.world.encryption,
            observer,
            cancel: self.world.cancel,
        };
        let done = match transfer.run() {
            Ok(done) => done,
            Err(error) => {
                let why = with_causes(&error);
                if !self.options.is_part_of_run {
                    observer.on_event(&Event::SourceFailed { source, why: why.clone() });
                }
                if error.ends_all() {
                    return Err(error);
                }
                if self.options.is_part_of_run {
                    let problem = Problem::new(Severity::Warning, candidate.stem(), format!("not copied: {why}"));
                    observer.on_event(&Event::ProblemOf { source: source_name(candidate.files()), problem });
                }
                report.add(candidate, CopyOutcome::Failed, Some(why));
                return Ok(());
            }
        };
        let outcome = CopyOutcome::Copied {
            bytes,
            copied_bytes: done.copied_bytes,
            kept_bytes: done.kept_bytes,
            seconds: began.elapsed().as_secs(),
        };
        report.add(candidate, outcome, None);
        let outcome = format!("{} ({})", done.archive.display(), ByteLen(bytes));
        observer.on_event(&Event::SourceFinished { source, outcome, worst: None });
        Ok(())
    }
}
