//! One volume's part of a night: dump, backup, pruning, and its lines of the report.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::destination::is_present;
use super::dump::Dumps;
use super::fullest::Fullest;
use super::night::Night;
use super::passing::{may_pass, source_may_be_free};
use super::select::{SelectedVolume, select};
use crate::cloud::shown_names;
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity, SourceName};
use crate::report::{Dump, Outcome, Past, VolumeReport};
use crate::run::backup::taken::TakenSnapshot;
use crate::run::backup::{BackupError, BackupOptions, BackupOutcome, BackupWorld, back_up_source};
use crate::run::expected::Expected;
use crate::run::hooks;
use crate::run::next_room::next_bytes;
use crate::run::prune::{self, Kept, Shelf, shelf_of};
use crate::run::throttle::limited;
use crate::source::{self, LvFacts, Source, SourceError};
use crate::store::StoreError;
use crate::units::ByteLen;

/// Space for the other files of a backup: index, manifest, and the growth of the directory.
const SIDE_FILES_BYTES: u64 = 16 << 20;

/// Why a volume has no backup tonight.
#[derive(Debug, thiserror::Error)]
enum NoBackup {
    /// Found by the selection: it cannot be a source, or shares its name with another volume.
    #[error("{0}")]
    Unusable(String),
    #[error("{}", with_causes(.0))]
    Source(#[from] SourceError),
    #[error("{}", with_causes(.0))]
    Store(#[from] StoreError),
    #[error(
        "the destination has {} free, and about {} are needed, going by the last backup",
        ByteLen(*free_bytes),
        ByteLen(*needed_bytes)
    )]
    NoSpace { free_bytes: u64, needed_bytes: u64 },
    #[error("{}", with_causes(.0))]
    Backup(#[from] BackupError),
    #[error("the backup volume was lost: {0}")]
    DestinationLost(Box<NoBackup>),
}

impl NoBackup {
    /// Whether a second attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            // It is only tried again if it is there again.
            Self::DestinationLost(_) => true,
            Self::Source(error) | Self::Backup(BackupError::Source(error)) => source_may_be_free(error),
            Self::Store(error) => may_pass(error),
            Self::Backup(error) => may_pass(error),
            Self::Unusable(_) | Self::NoSpace { .. } => false,
        }
    }
}

/// A volume's turn in a night.
pub(super) struct Turn {
    pub(super) others_wait: bool,
    pub(super) may_prune: bool,
    /// Its snapshot, if it is a member of a set.
    pub(super) taken: Option<Arc<TakenSnapshot>>,
    /// Whether it is tried again later, if it fails for a reason that may pass. A member of a set is only tried again from
    /// the snapshot that it has.
    pub(super) may_be_postponed: bool,
}

/// A volume that had its turn.
pub(super) struct Came {
    pub(super) report: VolumeReport,
    /// It failed, and is tried again later in the run.
    pub(super) is_postponed: bool,
}

impl Night<'_> {
    /// `None` if the volume was deleted since the night began.
    pub(super) fn one_volume(
        &self,
        candidate: &SelectedVolume,
        shelves: &[Shelf],
        dumps: &Mutex<Dumps<'_>>,
        turn: &Turn,
    ) -> Option<Came> {
        let began = Instant::now();
        let (facts, trouble) = match self.look_again(candidate) {
            Ok(Some((facts, trouble))) => (facts, trouble.map(NoBackup::Unusable)),
            Ok(None) => {
                let what = "it was deleted or renamed since the run began; it is not backed up any more";
                let problem = Problem::new(Severity::Notice, candidate.facts.full_name(), what);
                self.tell_of(candidate.facts.name(), problem);
                return None;
            }
            Err(why) => (candidate.facts.clone(), Some(why.into())),
        };
        let name = facts.lv.clone();
        let before = shelf_of(shelves, &name);
        let mut report = self.blank_volume(&name, before.map(|shelf| shelf.history(None)).unwrap_or_default());
        report.group = Some(facts.vg.clone());
        let in_cloud = self.cloud.entry(self.destination, &name).map(|entry| shown_names(&entry.volume));
        report.cloud = in_cloud.filter(|names| !names.is_empty()).or_else(|| self.cloud.nova_disk(&name));
        report.problems.extend(before.map(Shelf::damage).unwrap_or_default());

        // The backup itself reports its problems as they occur.
        let mut told = 0..0;
        let mut is_postponed = false;
        let expect = self.config.for_volume(&facts.vg, &facts.lv).expect;
        let fullest = Arc::new(Fullest::new(Arc::clone(&self.world.observer)));
        let result = trouble.map_or_else(|| self.check_space(before), Err).and_then(|()| {
            // Only a volume that needs a dump waits for one that another job makes.
            if self.config.dump_for(&facts.vg, &facts.lv).is_some() {
                let mut dumps = dumps.lock().unwrap_or_else(PoisonError::into_inner);
                let (dump, problem) = dumps.before(&facts.vg, &facts.lv);
                report.dump = dump;
                report.problems.extend(problem);
            }
            self.back_up(facts, turn, &fullest)
        });
        match result {
            Ok(outcome) => {
                told = report.problems.len()..report.problems.len() + outcome.manifest.problems.len();
                report.problems.extend(outcome.manifest.problems.iter().cloned());
                report.taken_at = Some(outcome.manifest.started_at);
                report.archive_bytes = Some(outcome.manifest.sizes.archive_bytes);
                // An image has no entries; one of zeros is empty all the same.
                let manifest = &outcome.manifest;
                let is_counted = manifest.image.as_ref().is_none_or(|image| image.data_bytes == 0);
                report.entries = is_counted.then_some(manifest.sizes.entries);
                let stem = &outcome.manifest.stem;
                let manifest = outcome.archive.with_file_name(format!("{stem}.manifest.json"));
                report.manifest = Some(manifest.display().to_string());
                let snapshot = outcome.manifest.snapshot.as_ref();
                report.snapshot_peak_percent = snapshot.and_then(|snapshot| snapshot.peak_fill_percent);
                report.whole = Some(outcome.manifest.is_whole());
                report.encrypted = Some(outcome.manifest.kind().is_sealed());
                report.outcome = Outcome::BackedUp;
                self.prune(&mut report, stem, turn);
                let is_meant = Expected(&expect).permits_no_files(&outcome.manifest) && report.entries == Some(0);
                report.problems.extend(report.shrink_warning(outcome.replaced_until).filter(|_| !is_meant));
            }
            Err(error) => {
                let why = error.to_string();
                let source = candidate.facts.name();
                let can_be_read = turn.taken.as_ref().is_none_or(|taken| taken.can_be_read());
                is_postponed = turn.may_be_postponed && error.may_pass() && can_be_read;
                self.world.observer.on_event(&if is_postponed {
                    Event::SourcePostponed { source, why: why.clone() }
                } else {
                    Event::SourceFailed { source, why: why.clone() }
                });
                report.outcome = Outcome::Failed(why);
                report.snapshot_peak_percent = fullest.percent();
                self.leave_no_empty_directory(&name);
            }
        }
        self.say_the_rest(&report, &told);
        report.directory_bytes = self.destination.used_by_volume(&name);
        report.duration_seconds = began.elapsed().as_secs();
        Some(Came { report, is_postponed })
    }

    /// Reports the problems outside `told`, which the backup itself did not report.
    fn say_the_rest(&self, report: &VolumeReport, told: &Range<usize>) {
        let source = SourceName::of_volume(report.group.as_deref().unwrap_or_default(), &report.name);
        let tell = |severity, location: String, what: String| {
            let problem = Problem::new(severity, location, what);
            self.world.observer.on_event(&Event::ProblemOf { source: source.clone(), problem });
        };
        if let Dump::Failed(why) = &report.dump {
            tell(Severity::Error, format!("{}: dump", report.name), why.clone());
        }
        for (at, problem) in report.problems.iter().enumerate() {
            if !told.contains(&at) {
                tell(problem.severity, format!("{}: {}", report.name, problem.location), problem.what.clone());
            }
        }
    }

    /// The volume's present state, by its UUID: it may have grown or been renamed.
    pub(super) fn look_again(
        &self,
        candidate: &SelectedVolume,
    ) -> Result<Option<(LvFacts, Option<String>)>, SourceError> {
        let group = std::slice::from_ref(&candidate.facts.vg);
        let mut now = source::list_volumes(group, &*self.world.commands)?.volumes;
        now.retain(|volume| volume.facts.uuid == candidate.facts.uuid);
        let is_renamed = now.iter().any(|volume| volume.facts.lv != candidate.facts.lv);
        // The config may decide otherwise for its new name.
        let mut chosen = select(self.config, &[], &now, &|_| None).chosen;
        if !is_renamed && chosen.is_empty() {
            chosen = select(self.config, std::slice::from_ref(&candidate.facts.lv), &now, &|_| None).chosen;
        }
        let clash = candidate.trouble.clone().filter(|_| !is_renamed);
        Ok(chosen.pop().map(|one| (one.facts, one.trouble.or(clash))))
    }

    fn check_space(&self, before: Option<&Shelf>) -> Result<(), NoBackup> {
        let Some(next_bytes) = before.and_then(next_bytes) else { return Ok(()) };
        let needed_bytes = next_bytes.saturating_add(SIDE_FILES_BYTES);
        let free_bytes = self.destination.free_space()?.0;
        if free_bytes >= needed_bytes { Ok(()) } else { Err(NoBackup::NoSpace { free_bytes, needed_bytes }) }
    }

    fn back_up(&self, facts: LvFacts, turn: &Turn, fullest: &Arc<Fullest>) -> Result<BackupOutcome, NoBackup> {
        let wanted = self.config.for_volume(&facts.vg, &facts.lv);
        let mut options = BackupOptions::from(&wanted);
        options.time_limit = self.time_limit(wanted.max_time, turn.others_wait);
        if self.at_once > 1 {
            options.archive.threads =
                u32::try_from(options.threads() / self.at_once).ok().map(|threads| threads.max(1));
        }
        options.set.clone_from(&turn.taken);
        options.checksum = self.config.enable_checksum;
        options.cloud = self.cloud.entry(self.destination, &facts.lv).map(Box::new);
        // Pauses and the hook before the snapshot also end at the time limit; the hook after it still runs to thaw
        // the instance.
        let limit = options.time_limit.as_ref();
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit.duration));
        let cancel = &self.world.cancel;
        let cancel = deadline.map_or_else(|| cancel.clone(), |deadline| cancel.until(deadline));
        options.around = hooks::around(&wanted.hooks, &facts.vg, &facts.lv, &cancel);
        let observer = limited(Arc::clone(fullest) as Arc<dyn Observer>, self.read_rate, &cancel);
        let world = BackupWorld { observer, ..self.world.clone() };
        Source::of_volume(facts)
            .map_err(NoBackup::from)
            .and_then(|source| Ok(back_up_source(&source, self.destination, &options, &world)?))
            .map_err(|why| {
                let is_gone = !is_present(self.config, self.destination);
                if is_gone { NoBackup::DestinationLost(Box::new(why)) } else { why }
            })
    }

    /// Removes old backups of this volume after its new one was published. Lists the directory again.
    fn prune(&self, report: &mut VolumeReport, stem: &str, turn: &Turn) {
        let found = Kept::of(self.destination).and_then(|kept| Shelf::read(self.destination, &report.name, &kept));
        let there = match found {
            Ok(Some(there)) => there,
            Ok(None) => return,
            Err(error) => {
                let what = format!("nothing was removed: {}", with_causes(&error));
                report.problems.push(Problem::new(Severity::Warning, "retention", what));
                return;
            }
        };
        report.history = there.history(Some(stem));
        report.last_verified = there.last_verified;
        report.last_proof = there.last_proof();
        let now = prune::now(self.world.clock.now());
        // Sets are retired as one, after the last member.
        if turn.taken.is_some() {
            return;
        }
        let plan = match self.with_its_sets(&there, now, stem) {
            Ok(plan) => plan,
            Err(error) => {
                let what = format!("nothing was removed: {}", with_causes(&error));
                report.problems.push(Problem::new(Severity::Warning, "retention", what));
                return;
            }
        };
        report.problems.extend(prune::problems_of(&plan));
        if turn.may_prune {
            let pruned = self.carry_out(&report.name, &plan);
            report.removed = pruned.removed.iter().map(|path| path.display().to_string()).collect();
            report.problems.extend(pruned.problems);
        }
    }

    fn leave_no_empty_directory(&self, name: &str) {
        if is_present(self.config, self.destination)
            && let Ok(Some(volume)) = self.destination.existing_volume_directory(name)
        {
            // An empty directory does no harm if it remains.
            let _ = volume.remove_if_empty();
        }
    }

    pub(super) fn blank_volume(&self, name: &str, history: Vec<Past>) -> VolumeReport {
        let directory = self.destination.root().join(name).display().to_string();
        VolumeReport { history, ..VolumeReport::not_started(name.to_owned(), directory) }
    }
}
