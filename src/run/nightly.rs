//! The nightly run: backs up all volumes in turn, unattended.
//!
//! The failure of one volume never stops the others. The loss of the destination stops the run, since nothing can
//! be stored any more. A report is always written; only a lock held by another run, and volumes requested by name
//! that do not exist, end in an error instead.

use std::sync::Arc;
use std::time::Instant;

use chrono::Local;

use super::backup::BackupWorld;
use super::cloud::night::NightCloud;
use super::collect::{Collector, tell};
use super::notices::Notices;
use super::{begun, catalogue, priority, reports, status, throttle};
use crate::config::Config;
use crate::error::{ExitClass, with_causes};
use crate::events::{Event, Observer, Problem, Severity};
use crate::notify::Notice;
use crate::outside::host;
use crate::report::{Abort, RunFacts, RunReport, RunVerdict, Usage};
use crate::store::StoreError;
use crate::store::presence::disk_usage;

mod apart;
mod away;
mod brake;
mod by_cloud;
mod destination;
mod dry_run;
mod dump;
mod error;
mod fullest;
mod gone;
mod groups;
mod jobs;
mod limits;
mod night;
mod order;
mod passing;
mod recheck;
mod rehearsal;
mod round;
mod select;
mod set_end;
mod set_turn;
mod sets;
mod volume;
mod work;

pub use apart::{Applied, apply};
pub use dry_run::{DryRun, Forecast, LeftOut, PlannedBackup, PlannedVolume, ToBackUp, dry_run, forecast};
pub use error::NightError;
pub(super) use groups::{in_groups, volumes_backed_up};
pub use night::NightOptions;
pub(super) use select::selected_names;

use destination::{is_present, open_for_run};
use night::Night;

/// The result of a night.
#[derive(Debug)]
pub struct NightOutcome {
    /// The report, as stored.
    pub report: RunReport,
    /// The text for standard output.
    pub printed: Option<String>,
}

impl NightOutcome {
    /// The exit class.
    pub fn class(&self) -> ExitClass {
        match self.report.verdict() {
            RunVerdict::Good => ExitClass::Well,
            RunVerdict::Problems => ExitClass::WithProblems,
            RunVerdict::Failed => ExitClass::Failed,
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
    for what in config.readable_credentials() {
        tell(&*collector, Severity::Warning, "store".to_owned(), what);
    }
    let mut report = RunReport {
        run_id: options.run_id.clone(),
        retention_days: config.retention.retention_days,
        destination: config.backup_destination.display().to_string(),
        ..RunReport::begun(host::name(), started.with_timezone(&Local).fixed_offset())
    };
    let destination = match open_for_run(config) {
        Ok(destination) => Some(destination),
        Err(abort) => {
            report.aborted = Some(abort);
            None
        }
    };
    // Held until the report is stored.
    let lock = match destination.as_ref().map(|destination| destination.lock(started)) {
        None => None,
        Some(Ok(lock)) => Some(lock),
        Some(Err(error @ StoreError::Locked { .. })) => return Err(error.into()),
        Some(Err(error)) => {
            report.aborted = Some(Abort::Other(with_causes(&error)));
            None
        }
    };
    let is_whole = options.only.is_empty() && !(options.test || config.lvm_test_mode);
    let notices = if is_whole {
        Notices::start(
            config,
            &Notice::start(&report.host, options.run_id.as_deref(), report.started, &report.destination),
        )
    } else {
        Notices::default()
    };
    let mut existing = None;
    if let (Some(destination), Some(_)) = (&destination, &lock) {
        if let Err(error) = begun::record(destination, started) {
            tell(&*collector, Severity::Warning, "run".to_owned(), with_causes(&error));
        }
        let cloud = NightCloud::begin(config, started);
        let read_rate = config.read_rate_limit.map(throttle::rate);
        let night = Night {
            config,
            options,
            world,
            destination,
            collector: &collector,
            began,
            started,
            cloud: &cloud,
            read_rate: read_rate.as_ref(),
            at_once: 1,
        };
        existing = night.work(&mut report).inspect_err(|_| {
            // The caller gets the original error.
            let _ = begun::clear(destination);
        })?;
        night.finish_cloud();
    }
    // An unmounted destination must not be written to: its path then leads to the host's own disk.
    let present = destination.filter(|destination| is_present(config, destination));
    if let Some(destination) = &present
        && let Ok(Some(space)) = destination.space()
    {
        report.usage = Some(Usage {
            backups_bytes: disk_usage(destination.root()),
            used_bytes: space.used_bytes,
            available_bytes: space.available_bytes,
            full_in_days: status::forecast(destination, &space, Some(report.started.to_utc())),
        });
    }
    let unheard = world.observer.unheard();
    if unheard > 0 {
        let what = format!(
            "{unheard} of this run's log lines are lost or waiting: the \
             reader of its standard error, or the journal, accepts none; the run went on"
        );
        collector.on_event(&Event::Problem(Problem::new(Severity::Warning, "log", what)));
    }
    report.problems.extend(collector.collected().problems);
    report.duration_seconds = began.elapsed().as_secs();
    if let Some(destination) = &present {
        // An unreadable record is a problem that the delivery reports.
        report.compare(&reports::load_standing(destination).unwrap_or_default(), world.clock.now());
    }
    let scope = reports::scope(config);
    let facts = RunFacts { scope: &scope, is_whole, existing: existing.as_deref() };
    let printed =
        reports::deliver(&mut report, facts, config, present.as_ref().filter(|_| lock.is_some()), notices, world);
    if let Some(destination) = present.as_ref().filter(|_| lock.is_some()) {
        catalogue::note(destination, "run", &*world.observer);
    }
    // Cleared last, so that an interruption while the report is written counts as one of the run.
    if let Some(destination) = present.as_ref().filter(|_| lock.is_some())
        && let Err(error) = begun::clear(destination)
    {
        tell(&*world.observer, Severity::Warning, "run".to_owned(), with_causes(&error));
    }
    world.observer.on_event(&Event::RunFinished {
        severity: severity(report.verdict()),
        outcome: report.subject(),
        figures: report.figures(),
    });
    Ok(NightOutcome { report, printed })
}

fn severity(verdict: RunVerdict) -> Severity {
    match verdict {
        RunVerdict::Good => Severity::Notice,
        RunVerdict::Problems => Severity::Warning,
        RunVerdict::Failed => Severity::Error,
    }
}
