//! Delivers each run's report: stores it in the destination, writes its metrics, mails or prints it; shows or mails
//! a stored report again.

use std::fs;
use std::io::Read;

use chrono::{DateTime, Duration, Local, NaiveDate, Utc};

use super::backup::BackupWorld;
use super::fleet;
use super::hooks;
use super::kept::{KeptError, moment_of, name_at};
use super::notices::Notices;
use super::prune::{Kept, Shelf};
use super::record::sha256;
use crate::config::{Config, MailWhen};
use crate::error::with_causes;
use crate::events::{Event, Problem, Severity};
use crate::mail;
use crate::notify::{Notice, NoticeEvent};
use crate::outside::replaced::replace;
use crate::outside::{Clock, SystemClock, host};
use crate::report::fleet::HostState;
use crate::report::{ReportError, RunFacts, RunReport, RunVerdict, Standing};
use crate::shown::hex;
use crate::store::StoreError;
use crate::store::records::{REPORTS, STANDING};
use crate::store::{Destination, OWN_DIRECTORY};

const MAX_BYTES: u64 = 256 << 20;

/// Why a stored report cannot be loaded.
pub type LoadError = KeptError<ReportError>;

/// Why a report or the standing of the volumes was not stored.
#[derive(Debug, thiserror::Error)]
enum NotKept {
    #[error("{}", with_causes(.0))]
    Report(#[from] ReportError),
    #[error("{}", with_causes(.0))]
    Store(#[from] StoreError),
}

/// Stores, exports and sends a report; a failure of one step does not prevent the others. Adds problems to the
/// report and reports them to the observer. Returns the text for standard output if mail is disabled.
pub fn deliver(
    report: &mut RunReport,
    facts: RunFacts<'_>,
    config: &Config,
    destination: Option<&Destination>,
    notices: Notices,
    world: &BackupWorld,
) -> Option<String> {
    let delivery = Delivery { facts, config, destination, now: world.clock.now() };
    let before = report.problems.len();
    let printed = delivery.deliver(report);
    delivery.notify(report, notices);
    delivery.run_hooks(report);
    for problem in report.problems.get(before..).unwrap_or_default() {
        world.observer.on_event(&Event::Problem(problem.clone()));
    }
    printed
}

/// The inputs of a delivery.
struct Delivery<'a> {
    facts: RunFacts<'a>,
    config: &'a Config,
    destination: Option<&'a Destination>,
    now: DateTime<Utc>,
}

impl Delivery<'_> {
    fn deliver(&self, report: &mut RunReport) -> Option<String> {
        self.file(report);
        let config = self.config;
        if !config.enable_mail_notification {
            self.file_with(report, mail::drop_old(&config.mail.spool, self.now));
            return Some(report.text(config.report.style));
        }
        let is_wanted = config.mail.when == MailWhen::Always || report.verdict() != RunVerdict::Good;
        let mail_settings = config.mail_settings(&host::name());
        let delivery = if is_wanted {
            mail::send(&mail_settings, &report.render(config.report.style), self.now)
        } else {
            mail::send_waiting(&mail_settings, self.now)
        };
        self.file_with(report, delivery.problems);
        None
    }

    /// Sends the notices, after the mail, so that they tell of a mail that failed.
    fn notify(&self, report: &mut RunReport, notices: Notices) {
        let notice = Notice::of(report, self.config.report.style);
        let problems = notices.finish(self.config, &notice, self.facts.is_whole, self.now);
        self.file_with(report, problems);
    }

    /// Runs the commands of `after_run`, all of them even if one fails.
    fn run_hooks(&self, report: &mut RunReport) {
        let stored = self.destination.map(|destination| {
            let own = destination.root().join(OWN_DIRECTORY).join(REPORTS);
            own.join(name_at(&report.started)).display().to_string()
        });
        let outcome = NoticeEvent::of(report.verdict());
        let failed = hooks::after_run(self.config, outcome.word(), &stored.unwrap_or_default(), &report.subject());
        let problems = failed.iter().map(|error| Problem::new(Severity::Warning, "after_run", error.to_string()));
        self.file_with(report, problems.collect());
    }

    fn file_with(&self, report: &mut RunReport, problems: Vec<Problem>) {
        if !problems.is_empty() {
            report.problems.extend(problems);
            self.file(report);
        }
    }

    /// Stores the report and the standing of the volumes in the destination, and writes the metrics file.
    fn file(&self, report: &mut RunReport) {
        let standing = self.destination.and_then(|destination| note(report, self.facts, destination, self.now));
        if let Some(destination) = self.destination
            && let Err(error) = keep(report, self.config, destination, self.now)
        {
            add(report, Problem::new(Severity::Warning, "report", format!("it could not be stored: {error}")));
        }
        self.leave_state(report, standing.as_ref());
        write_metrics(report, standing.as_ref(), self.config);
    }

    /// Leaves the state of this host for `volbak fleet`.
    fn leave_state(&self, report: &mut RunReport, standing: Option<&Standing>) {
        let of_report = || Standing::of(report);
        let state = HostState::of(report, &standing.cloned().unwrap_or_else(of_report), self.now);
        for error in fleet::leave(&state, self.destination, self.config.fleet.directory.as_deref()) {
            add(
                report,
                Problem::new(Severity::Warning, "fleet", format!("the state of the host could not be stored: {error}")),
            );
        }
    }
}

/// Adds the run to the standing of the volumes, and stores that. `None` if the earlier standing cannot be read.
/// All manifests are read to find the worth of the backups, for the metrics and the state of the host.
fn note(
    report: &mut RunReport,
    facts: RunFacts<'_>,
    destination: &Destination,
    now: DateTime<Utc>,
) -> Option<Standing> {
    let mut standing = match load_standing(destination) {
        Ok(standing) => standing,
        Err(KeptError::Damaged { name, source }) => {
            let what = format!("{name} is damaged, and a new one is begun: {}", with_causes(&source));
            add(report, Problem::new(Severity::Warning, "report", what));
            Standing::default()
        }
        Err(error) => {
            let what = format!("the record of the volumes cannot be read: {}", with_causes(&error));
            add(report, Problem::new(Severity::Warning, "report", what));
            return None;
        }
    };
    standing.note(report, facts);
    if let Err(error) = look_at_worth(&mut standing, &report.host, destination, now) {
        let what = format!("the state of the backups cannot be read: {}", with_causes(&error));
        add(report, Problem::new(Severity::Warning, "metrics", what));
    }
    let kept = standing.to_json().map_err(NotKept::from).and_then(|json| {
        let own = destination.volume_directory(OWN_DIRECTORY);
        Ok(own.and_then(|own| own.replace_file(STANDING, json.as_bytes()))?)
    });
    if let Err(error) = kept {
        let what = format!("the record of the volumes is not stored: {error}");
        add(report, Problem::new(Severity::Warning, "report", what));
    }
    Some(standing)
}

/// Records the worth of each volume's backups, after retention and verifications of this run.
fn look_at_worth(
    standing: &mut Standing,
    host: &str,
    destination: &Destination,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let kept = Kept::of(destination)?;
    for (name, volume) in standing.volumes.iter_mut().filter(|(_, volume)| volume.host == host && !volume.gone) {
        volume.worth = Some(Shelf::read(destination, name, &kept)?.map_or_else(Default::default, |it| it.worth(now)));
    }
    Ok(())
}

/// The standing of the volumes. If an older version stored none, it is taken from the last report.
pub fn load_standing(destination: &Destination) -> Result<Standing, LoadError> {
    let own = destination.existing_volume_directory(OWN_DIRECTORY)?;
    let bytes = own.map_or(Ok(None), |own| own.read_file(STANDING, MAX_BYTES))?;
    match bytes {
        Some(bytes) => {
            Standing::from_json(&bytes).map_err(|source| KeptError::Damaged { name: STANDING.to_owned(), source })
        }
        None => match load(destination, None) {
            Ok(report) => Ok(Standing::of(&report)),
            // An invalid report must not prevent new records.
            Err(KeptError::Store(error)) if !matches!(error, StoreError::Io { .. }) => Err(error.into()),
            Err(_) => Ok(Standing::default()),
        },
    }
}

/// An identifier of the volumes that a config covers, to separate runs of several configs on one destination.
pub fn scope(config: &Config) -> String {
    let skipped: Vec<_> = config.volumes.iter().map(|volume| (&volume.pattern, volume.skip)).collect();
    let selection = format!("{:?}", (&config.volume_groups, &config.include, &config.exclude, skipped));
    hex(&sha256(selection.as_bytes())[..8])
}

/// Adds a problem, once.
fn add(report: &mut RunReport, problem: Problem) {
    if !report.problems.contains(&problem) {
        report.problems.push(problem);
    }
}

fn keep(report: &RunReport, config: &Config, destination: &Destination, now: DateTime<Utc>) -> Result<(), NotKept> {
    let json = report.to_json()?;
    let written = destination.own_directory(REPORTS).and_then(|reports| {
        reports.replace_file(&name_at(&report.started), json.as_bytes())?;
        let oldest = now.with_timezone(&Local).date_naive() - Duration::days(i64::from(config.report.keep_days));
        reports.tidy(&reports.list()?, |name| moment_of(name).is_some_and(|time| time.date() < oldest))
    });
    Ok(written?)
}

fn write_metrics(report: &mut RunReport, standing: Option<&Standing>, config: &Config) {
    let Some(path) = &config.report.metrics_file else { return };
    let metrics = if let Some(standing) = standing {
        report.metrics(standing, None)
    } else {
        // Without the destination, the volumes' metrics in the file remain valid.
        let mut before = String::new();
        let read = fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut before));
        report.metrics(&Standing::of(report), read.ok().map(|_| before.as_str()))
    };
    // The node exporter runs as another user.
    if let Err(error) = replace(path, metrics.as_bytes(), 0o644) {
        let what = format!("{} could not be written: {error}", path.display());
        add(report, Problem::new(Severity::Warning, "metrics", what));
    }
}

/// The newest report, or the newest of the runs that started on that day.
pub fn load(destination: &Destination, date: Option<NaiveDate>) -> Result<RunReport, LoadError> {
    let none = || {
        KeptError::None(match date {
            Some(date) => {
                format!("no report of a run that began on {date} is kept in {}", destination.root().display())
            }
            None => format!("there is no report in {}: nothing ran yet", destination.root().display()),
        })
    };
    let reports = destination.existing_own_directory(REPORTS)?.ok_or_else(none)?;
    let names = reports.list()?.files;
    let wanted = |name: &&String| moment_of(name).is_some_and(|time| date.is_none_or(|date| time.date() == date));
    let name = names.iter().rfind(|name| wanted(name) && !is_of_wrong_clock(name));
    let name = name.or_else(|| names.iter().rfind(wanted)).ok_or_else(none)?;
    let bytes = reports.read_file(name, MAX_BYTES)?.ok_or_else(none)?;
    RunReport::from_json(&bytes).map_err(|source| KeptError::Damaged { name: name.clone(), source })
}

/// Whether a report is dated in the future, and so was written while the clock was wrong. It would be the newest until then.
/// Names have the local time of their host, which is less than a day apart.
fn is_of_wrong_clock(name: &str) -> bool {
    let latest = SystemClock.now().naive_utc() + Duration::days(1);
    moment_of(name).is_some_and(|time| time > latest)
}

/// The used space of the destination after each of the last `nights` runs, as their reports say. Damaged ones are left out.
pub(super) fn usage_of_nights(destination: &Destination, nights: usize) -> Vec<(DateTime<Utc>, u64)> {
    let Ok(Some(reports)) = destination.existing_own_directory(REPORTS) else { return Vec::new() };
    let Ok(listed) = reports.list() else { return Vec::new() };
    let is_report = |name: &&String| moment_of(name).is_some() && !is_of_wrong_clock(name);
    let names = listed.files.iter().filter(is_report).rev().take(nights);
    let usage = |name: &String| {
        let report = RunReport::from_json(&reports.read_file(name, MAX_BYTES).ok()??).ok()?;
        Some((report.started.to_utc(), report.usage?.used_bytes))
    };
    names.filter_map(usage).collect()
}

/// Mails a report again. Returns the problems.
pub fn send_again(report: &RunReport, config: &Config, now: DateTime<Utc>) -> Vec<Problem> {
    mail::send(&config.mail_settings(&host::name()), &report.render(config.report.style), now).problems
}
