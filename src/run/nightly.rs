//! The nightly run: every volume in turn, unattended, for years.
//!
//! One volume's failure never stops the others. A destination that is lost stops the run, since nothing can be kept
//! any more. Whatever happens there is a report; only a lock that somebody else holds, and volumes asked for by name
//! that do not exist, end in an error instead.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Local;

use super::backup::{BackupWorld, TimeLimit};
use super::collect::Collector;
use super::prune::{Shelf, Standing};
use super::remains::{remove_all_remains, remove_stale};
use super::{priority, prune, reports};
use crate::config::{Config, Selected};
use crate::error::{ExitClass, with_causes};
use crate::events::{Event, Observer, Problem, Severity, SourceName};
use crate::manifest::Manifest;
use crate::outside::host;
use crate::report::{Abort, FORMAT_VERSION, Outcome, RunFacts, RunReport, Usage, Verdict, VolumeReport};
use crate::source::{self, ListedVolume, SourceError, Volumes};
use crate::store::StoreError;
use crate::store::local::Destination;
use crate::store::presence::{disk_usage, is_on_mount};
use crate::store::retention::{Occasion, Plan, Refusal, brake};

mod dump;
mod gone;
mod order;
mod recheck;
mod rehearse;
mod select;
mod volume;

pub use rehearse::{forecast, rehearse};

use dump::Dumps;
use select::{Candidate, Selection, select, settle_clashes};

/// What of a night is wanted.
#[derive(Clone, Debug, Default)]
pub struct NightOptions {
    /// Only these volumes, `LV` or `VG/LV`, whatever the config's patterns say; all when empty.
    pub only: Vec<String>,
    /// The whole chain for one volume: the smallest, or the first of `only`.
    pub test: bool,
    /// Remove old backups even when that is more than half of all.
    pub force: bool,
    /// What the log lines of this run have as their `run_id`; the report names it.
    pub run_id: Option<String>,
}

/// Why there was no run, and is no report.
#[derive(Debug, thiserror::Error)]
pub enum NightError {
    /// The lock, mostly.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Volumes cannot be listed, and nothing but a list was wanted.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A volume that was asked for by name is not there.
    #[error("no such volume: {}; `lvs` lists those of {}", names.join(", "), groups.join(", "))]
    NoSuchVolume {
        /// Its name.
        names: Vec<String>,
        /// Where it was looked for.
        groups: Vec<String>,
    },
    /// The destination is not where it should be, and nothing but a list was wanted.
    #[error("the backup volume is not mounted: neither {} nor a directory above it is a mount point", .0.display())]
    NotMounted(std::path::PathBuf),
}

impl NightError {
    /// What it means for the exit status.
    pub fn class(&self) -> ExitClass {
        match self {
            Self::Store(StoreError::Locked { .. }) => ExitClass::Locked,
            Self::NoSuchVolume { .. } => ExitClass::Usage,
            Self::Store(_) | Self::Source(_) | Self::NotMounted(_) => ExitClass::Failed,
        }
    }
}

/// What came of a night.
#[derive(Debug)]
pub struct NightOutcome {
    /// The report, as it is kept.
    pub report: RunReport,
    /// What is for standard output.
    pub printed: Option<String>,
}

impl NightOutcome {
    /// What it means for the exit status.
    pub fn class(&self) -> ExitClass {
        match self.report.verdict() {
            Verdict::Good => ExitClass::Well,
            Verdict::Problems => ExitClass::WithProblems,
            Verdict::Failed => ExitClass::Failed,
        }
    }
}

/// Runs a night.
pub fn run(config: &Config, options: &NightOptions, world: &BackupWorld) -> Result<NightOutcome, NightError> {
    let began = Instant::now();
    let started = world.clock.now();
    let collector = Arc::new(Collector::new(Arc::clone(&world.observer)));
    for problem in priority::lower(config, &*world.commands) {
        collector.on_event(&Event::Problem(problem));
    }
    let mut report = RunReport {
        format_version: FORMAT_VERSION,
        host: host::name(),
        run_id: options.run_id.clone(),
        started: started.with_timezone(&Local).fixed_offset(),
        duration_seconds: 0,
        retention_days: config.retention.retention_days,
        destination: config.backup_destination.display().to_string(),
        usage: None,
        aborted: None,
        volumes: Vec::new(),
        gone: Vec::new(),
        problems: Vec::new(),
    };
    let destination = match open(config) {
        Ok(destination) => Some(destination),
        Err(abort) => {
            report.aborted = Some(abort);
            None
        }
    };
    // Held until the report is kept.
    let lock = match destination.as_ref().map(|destination| destination.lock(started)) {
        None => None,
        Some(Ok(lock)) => Some(lock),
        Some(Err(error @ StoreError::Locked { .. })) => return Err(error.into()),
        Some(Err(error)) => {
            report.aborted = Some(Abort::Other(with_causes(&error)));
            None
        }
    };
    let mut existing = None;
    if let (Some(destination), Some(_)) = (&destination, &lock) {
        let night = Night { config, options, world, destination, collector: &collector, began };
        existing = night.work(&mut report)?;
    }
    // What was unmounted meanwhile must not be written to: the path leads to the host's own disk.
    let present = destination.filter(|destination| is_present(config, destination));
    if let Some(destination) = &present
        && let Ok(space) = destination.space()
    {
        report.usage = Some(Usage {
            backups_bytes: disk_usage(destination.root()),
            used_bytes: space.used_bytes,
            available_bytes: space.available_bytes,
        });
    }
    report.problems.extend(collector.collected().problems);
    report.duration_seconds = began.elapsed().as_secs();
    let scope = reports::scope(config);
    let is_whole = options.only.is_empty() && !(options.test || config.lvm_test_mode);
    let facts = RunFacts { scope: &scope, is_whole, existing: existing.as_deref() };
    let printed = reports::deliver(&mut report, facts, config, present.as_ref().filter(|_| lock.is_some()), world);
    world.observer.on_event(&Event::RunFinished {
        severity: severity(report.verdict()),
        outcome: report.subject(),
        figures: report.figures(),
    });
    Ok(NightOutcome { report, printed })
}

fn severity(verdict: Verdict) -> Severity {
    match verdict {
        Verdict::Good => Severity::Notice,
        Verdict::Problems => Severity::Warning,
        Verdict::Failed => Severity::Error,
    }
}

fn open(config: &Config) -> Result<Destination, Abort> {
    let path = &config.backup_destination;
    let destination = Destination::open(path).map_err(|error| match error {
        StoreError::Missing(_) => Abort::NotMounted,
        other => Abort::Other(with_causes(&other)),
    })?;
    let is_mounted = !config.require_mount || is_on_mount(path).map_err(|error| Abort::Other(with_causes(&error)))?;
    if is_mounted { Ok(destination) } else { Err(Abort::NotMounted) }
}

/// Whether the destination is mounted, and the one that was opened.
fn is_present(config: &Config, destination: &Destination) -> bool {
    let mounted = |path: &Path| !config.require_mount || is_on_mount(path).unwrap_or(false);
    mounted(destination.root()) && destination.is_still_there().unwrap_or(false)
}

/// A night under way.
struct Night<'a> {
    config: &'a Config,
    options: &'a NightOptions,
    world: &'a BackupWorld,
    destination: &'a Destination,
    collector: &'a Arc<Collector>,
    began: Instant,
}

impl Night<'_> {
    fn tell(&self, severity: Severity, location: &str, what: impl Into<String>) {
        self.collector.on_event(&Event::Problem(Problem::new(severity, location, what)));
    }

    /// A problem of a volume that is not being worked on.
    fn tell_of(&self, source: SourceName, problem: Problem) {
        self.collector.on_event(&Event::ProblemOf { source, problem });
    }

    /// The whole work. Gives the names of all volumes that the host has, when they could be listed.
    fn work(&self, report: &mut RunReport) -> Result<Option<Vec<String>>, NightError> {
        self.remove_remains();
        let mut dumps = Dumps::new(self.config, self.world);
        if !self.config.enable_lvmsnapshots {
            dumps.all_without_volumes(|_| false, |problem| self.collector.on_event(&Event::Problem(problem)));
            return Ok(None);
        }
        // Volumes of all groups: one that moved to another group is not gone.
        let everything = match self.list() {
            Ok(volumes) => volumes,
            Err(error) => {
                report.aborted = Some(Abort::Other(with_causes(&error)));
                return Ok(None);
            }
        };
        let ours = in_groups(&everything, self.config);
        if let Some(what) = about_groups(&ours, self.config) {
            self.tell(Severity::Notice, "volumes", what);
        }
        let mut selection = self.select(&ours)?;
        let shelves = match Shelf::all(self.destination) {
            Ok(shelves) => shelves,
            Err(error) => {
                report.aborted = Some(Abort::Other(with_causes(&error)));
                return Ok(None);
            }
        };
        settle(&mut selection, &shelves);
        self.tell_empty_groups(&ours, &shelves);
        let existing: Vec<String> = everything.volumes.iter().map(|volume| volume.facts.lv.clone()).collect();
        let may_prune = self.check_brake(&selection, &shelves, &existing);
        self.put_in_order(&mut selection.chosen, &shelves);

        let is_waited_for = |instance: &str| {
            let of = |one: &Candidate| self.config.dump_for(&one.facts.vg, &one.facts.lv);
            selection.chosen.iter().filter_map(of).any(|dump| dump.name == instance)
        };
        if self.is_whole() {
            dumps.all_without_volumes(is_waited_for, |problem| self.collector.on_event(&Event::Problem(problem)));
        }
        self.say_how_much(&selection.chosen, &shelves);
        let mut waiting = selection.chosen.iter();
        while let Some(candidate) = waiting.next() {
            if let Some(why) = self.reason_to_stop(report) {
                report.volumes.push(self.not_started(candidate, &shelves, &why, report.aborted.is_some()));
                break;
            }
            report.volumes.extend(self.one_volume(
                candidate,
                &shelves,
                may_prune,
                &mut dumps,
                !waiting.as_slice().is_empty(),
            ));
        }
        let why = self.reason_to_stop(report).unwrap_or_default();
        let is_aborted = report.aborted.is_some();
        report.volumes.extend(waiting.map(|candidate| self.not_started(candidate, &shelves, &why, is_aborted)));
        if self.is_whole() && report.aborted.is_none() {
            report.gone = self.gone(&shelves, &existing, may_prune);
            self.recheck();
        }
        Ok(Some(existing))
    }

    /// How many volumes there are, and by their last backups how much of them will be read.
    fn say_how_much(&self, chosen: &[Candidate], shelves: &[Shelf]) {
        let of_backup =
            |manifest: &Manifest| manifest.regions.iter().filter_map(|region| region.used_bytes).sum::<u64>();
        let bytes = chosen.iter().map(|one| {
            let newest = shelf_of(shelves, &one.facts.lv).and_then(Shelf::newest);
            newest.map_or(one.facts.size_bytes, of_backup)
        });
        let bytes = bytes.fold(0_u64, u64::saturating_add);
        self.collector.on_event(&Event::RunStarted { sources: chosen.len() as u64, bytes });
    }

    /// Whether this night is for all that there is.
    fn is_whole(&self) -> bool {
        self.options.only.is_empty() && !self.is_test()
    }

    fn is_test(&self) -> bool {
        self.options.test || self.config.lvm_test_mode
    }

    /// Why no further volume is begun. A loss of the destination and a wish to stop end the whole run.
    fn reason_to_stop(&self, report: &mut RunReport) -> Option<String> {
        if report.aborted.is_none() {
            if self.world.cancel.is_cancelled() {
                report.aborted = Some(Abort::Other("stopped by a signal".to_owned()));
            } else if !is_present(self.config, self.destination) {
                report.aborted = Some(Abort::NotMounted);
            }
        }
        match &report.aborted {
            Some(Abort::NotMounted) => Some("the backup volume is not mounted".to_owned()),
            Some(Abort::Other(why)) => Some(why.clone()),
            None => self
                .config
                .max_run
                .filter(|limit| self.began.elapsed() >= *limit)
                .map(|limit| format!("the run had its {} h (max_run_hours)", limit.as_secs_f64() / 3600.0)),
        }
    }

    /// How long the next volume may take: what the config says for it, and never longer than the run. While others wait it
    /// leaves them a part of the time, unless the config says otherwise: one that never ends would keep them from being
    /// backed up at all.
    fn time_limit(&self, configured: Option<Duration>, others_wait: bool) -> Option<TimeLimit> {
        let configured = configured.map(|duration| TimeLimit { duration, name: "max_volume_hours".to_owned() });
        let Some(max_run) = self.config.max_run else { return configured };
        let left = max_run.saturating_sub(self.began.elapsed());
        match configured {
            Some(limit) if limit.duration < left => Some(limit),
            None if others_wait => Some(TimeLimit {
                duration: left * 3 / 4,
                name: "three quarters of what was left of max_run_hours, since others wait; max_volume_hours sets it"
                    .to_owned(),
            }),
            _ => Some(TimeLimit { duration: left, name: "what was left of max_run_hours".to_owned() }),
        }
    }

    /// What a crash left, outside of the destination and in it.
    fn remove_remains(&self) {
        let told = BackupWorld { observer: Arc::clone(self.collector) as Arc<dyn Observer>, ..self.world.clone() };
        if self.config.enable_lvmsnapshots
            && let Err(error) = remove_stale(&told)
        {
            self.tell(Severity::Warning, "stale snapshots", with_causes(&error));
        }
        remove_all_remains(self.destination, &**self.collector);
    }

    fn list(&self) -> Result<Volumes, SourceError> {
        source::list_volumes(&[], &*self.world.commands)
    }

    fn select(&self, volumes: &Volumes) -> Result<Selection, NightError> {
        let mut selection = select(self.config, &self.options.only, &volumes.volumes);
        if !selection.unknown.is_empty() {
            let groups = self.config.volume_groups.clone();
            return Err(NightError::NoSuchVolume { names: selection.unknown, groups });
        }
        if self.is_test() {
            keep_one(&mut selection.chosen, &self.options.only);
        }
        if selection.chosen.is_empty() {
            let groups = self.config.volume_groups.join(", ");
            self.tell(Severity::Warning, "volumes", format!("there is no volume to back up in {groups}"));
        }
        Ok(selection)
    }

    /// A group without volumes is one that the host does not have, which is fine, unless there are backups of it.
    fn tell_empty_groups(&self, volumes: &Volumes, shelves: &[Shelf]) {
        let host = host::name();
        for group in &volumes.empty_groups {
            let of_group = |shelf: &&Shelf| {
                let newest = shelf.newest();
                newest.is_some_and(|newest| newest.host == host && newest.source.vg.as_ref() == Some(group))
            };
            let count = shelves.iter().filter(of_group).count();
            if count > 0 {
                let what = format!("it has no volumes, and there are backups of {count} of its volumes: is it active?");
                self.tell(Severity::Warning, group, what);
            }
        }
    }

    /// Says whether anything may be removed tonight.
    fn check_brake(&self, selection: &Selection, shelves: &[Shelf], existing: &[String]) -> bool {
        let plans =
            forecasts(self.config, selection, shelves, existing, prune::now(self.world.clock.now()), self.is_whole());
        match brake(&plans) {
            Some(refusal @ Refusal::TooMany { .. }) if !self.options.force => {
                self.tell(Severity::Warning, "retention", refusal.to_string());
                false
            }
            _ => true,
        }
    }

    /// With a deadline, those that waited longest come first, so that no volume is left out every night.
    fn put_in_order(&self, chosen: &mut [Candidate], shelves: &[Shelf]) {
        if self.config.max_run.is_some() {
            // What is wrong with it is reported when this night is noted there.
            let standing = reports::load_standing(self.destination).unwrap_or_default();
            order::put_in_order(chosen, shelves, &standing, self.world.clock.now());
        }
    }

    /// Called after an abort, too, which the run's last line names once for all of them.
    fn not_started(&self, candidate: &Candidate, shelves: &[Shelf], why: &str, is_aborted: bool) -> VolumeReport {
        if !is_aborted {
            let source = candidate.facts.name();
            self.collector.on_event(&Event::SourceFailed { source, why: format!("not started: {why}") });
        }
        let before = shelf_of(shelves, &candidate.facts.lv);
        VolumeReport {
            outcome: Outcome::NotStarted(why.to_owned()),
            group: Some(candidate.facts.vg.clone()),
            ..self.blank_volume(&candidate.facts.lv, before.map(|shelf| shelf.history(None)).unwrap_or_default())
        }
    }
}

/// The plans of all sources before anything is done, for the brake: what a new backup of each chosen volume would let
/// go, and what the gone ones lose.
fn forecasts(
    config: &Config,
    selection: &Selection,
    shelves: &[Shelf],
    existing: &[String],
    now: crate::store::retention::Now,
    is_whole: bool,
) -> Vec<Plan> {
    let host = host::name();
    let plan = |shelf: &Shelf| {
        let is_chosen = selection.chosen.iter().any(|one| one.facts.lv == shelf.name);
        let occasion = match shelf.standing(&host, existing) {
            _ if is_chosen => Occasion::Forecast,
            Standing::Gone if is_whole => Occasion::Gone,
            _ => Occasion::NothingNew,
        };
        shelf.plan(config, now, occasion)
    };
    shelves.iter().map(plan).collect()
}

fn settle(selection: &mut Selection, shelves: &[Shelf]) {
    settle_clashes(&mut selection.chosen, |name| Some(shelf_of(shelves, name)?.newest()?.source.clone()));
}

fn shelf_of<'a>(shelves: &'a [Shelf], name: &str) -> Option<&'a Shelf> {
    shelves.iter().find(|shelf| shelf.name == name)
}

/// The volumes of the config's groups, in the order of the groups. Where the config names no groups and the usual ones have
/// no volumes, as on a host whose Cinder uses a group of another name: those of each group that has volumes which
/// `include` matches.
pub(super) fn in_groups(everything: &Volumes, config: &Config) -> Volumes {
    let of_group = |group: &String| -> Vec<ListedVolume> {
        everything.volumes.iter().filter(|volume| volume.facts.vg == *group).cloned().collect()
    };
    let named = &config.volume_groups;
    let empty_groups: Vec<String> = named.iter().filter(|group| of_group(group).is_empty()).cloned().collect();
    if !config.volume_groups_by_default || empty_groups.len() < named.len() {
        return Volumes { volumes: named.iter().flat_map(of_group).collect(), empty_groups };
    }
    let is_meant = |volume: &&ListedVolume| {
        let is_included = matches!(config.selects(&volume.facts.vg, &volume.facts.lv), Selected::Included { .. });
        is_included && volume.refusal.is_none() && !volume.is_ours()
    };
    let mut others: Vec<String> =
        everything.volumes.iter().filter(is_meant).map(|volume| volume.facts.vg.clone()).collect();
    others.dedup();
    Volumes { volumes: others.iter().flat_map(of_group).collect(), empty_groups }
}

/// Says which groups [`in_groups`] took in place of the usual ones.
fn about_groups(ours: &Volumes, config: &Config) -> Option<String> {
    let mut others: Vec<&str> = ours.volumes.iter().map(|volume| volume.facts.vg.as_str()).collect();
    others.retain(|vg| !config.volume_groups.iter().any(|group| group == vg));
    others.dedup();
    let usual = config.volume_groups.join(" and ");
    (!others.is_empty()).then(|| {
        format!("no volumes in {usual}; those of {} are taken: set volume_groups in the config", others.join(", "))
    })
}

/// Test mode: the first that was asked for, or else the smallest.
fn keep_one(chosen: &mut Vec<Candidate>, only: &[String]) {
    let asked = only
        .first()
        .and_then(|name| chosen.iter().position(|one| one.facts.lv == *name || one.facts.full_name() == *name));
    let smallest = || {
        let usable = chosen.iter().enumerate().filter(|(_, one)| one.trouble.is_none());
        usable.min_by_key(|(_, one)| one.facts.size_bytes).map(|(at, _)| at)
    };
    if let Some(at) = asked.or_else(smallest) {
        *chosen = vec![chosen.swap_remove(at)];
    }
}

/// The volumes that a night would back up, `VG/LV`.
pub(super) fn selected_names(config: &Config, volumes: &Volumes) -> Vec<String> {
    select(config, &[], &volumes.volumes).chosen.iter().map(|one| one.facts.full_name()).collect()
}
