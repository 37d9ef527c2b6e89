//! `volbak cloud recover`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone, Utc};
use clap::Args;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use volbak::error::{ExitClass, with_causes};
use volbak::log::{Kind, Line, Severity};
use volbak::outside::{Cancel, Clock, SystemClock};
use volbak::run::cloud::recover::{Outcome, Plan, RecoverError, RecoverOptions, StepResult, apply, plan};

use super::night_args::day;
use super::output::{after_printing, print, print_json};
use super::place::Where;
use super::{log, named_file};
use volbak::shown::counted;

pub(crate) const RECOVER_EXAMPLES: &str = "\
Examples:
  volbak cloud recover                             the plan; nothing is changed
  volbak cloud recover --outage '2026-11-28 22:10' instances rebooted since this time are not rebooted
  volbak cloud recover --from-map 2026-11-27       attach volumes as in the map of that day
  volbak cloud recover --instance web-1 --apply    only one instance and its volumes
  volbak cloud recover --plan plan.json
  volbak cloud recover --apply plan.json           only the steps of this plan
Without --outage, instances rebooted since the newest saved map are not rebooted. After an interruption, kill -9 included, \
the same command continues. Exit status: 0, nothing is left to do; 1, a step failed or nothing can be done; 3, a finding \
needs attention; 4, another recovery is running.";

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    place: Where,
    /// Save the plan in this file, as JSON [default: beside the journal]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Carry the plan out; with FILE, only the steps of that plan
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "given or not, with a file or without")]
    apply: Option<Option<PathBuf>>,
    /// Only this instance and its volumes
    #[arg(long, value_name = "ID|NAME")]
    instance: Option<String>,
    /// Time of the power loss, such as 2026-11-28 22:10 [default: the time of the saved map]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    outage: Option<DateTime<Utc>>,
    /// Take the attachments from the saved map of this day, even if the cloud has others
    #[arg(long, value_name = "DATE", value_parser = day)]
    from_map: Option<NaiveDate>,
    /// The journal [default: a file in /var/lib/volbak/recover, by the cloud]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// At the end, reboot instances whose volumes were attached after their restart, with `ssh USER@ADDRESS shutdown
    /// -r now` (login without a password, known host key) [default USER: root]
    #[arg(long, value_name = "USER", num_args = 0..=1, default_missing_value = "root")]
    ssh_reboot: Option<String>,
    /// The pause between two steps
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pause: Duration,
    /// Time limit for one step
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    patience: Duration,
    /// Time after which a transient state counts as stale
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    settle: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Seconds, with a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| time.as_secs() <= 86_400)
        .ok_or_else(|| "write a number of seconds from 0 to 86400".to_owned())
}

/// A moment of the local calendar, or one with its zone.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let formats = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"];
    let local = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text.trim(), format).ok());
    // Of an hour that a clock shows twice, the first one: a reboot in between counts.
    let time = local.and_then(|local| Local.from_local_datetime(&local).earliest());
    time.map(|time| time.to_utc())
        .ok_or_else(|| "write a time such as \"2026-11-28 22:10\", or 2026-11-28T21:10:00Z".to_owned())
}

pub(crate) fn recover(args: &RecoverArgs) -> anyhow::Result<ExitClass> {
    let place = args.place.place()?;
    let openstack = place.config.as_ref().map(|config| config.openstack.clone()).unwrap_or_default();
    let destination = match place.open() {
        Ok(destination) => Some(destination),
        Err(error) => {
            log::warning(&format!("warning: there are no saved maps: {}", with_causes(&error)));
            None
        }
    };
    let options = RecoverOptions {
        openstack,
        destination,
        instance: args.instance.clone(),
        outage: args.outage,
        from_map: args.from_map,
        journal: args.journal.clone(),
        seen_plan: args.apply.clone().flatten(),
        inside: args.ssh_reboot.clone(),
        pause: args.pause,
        patience: args.patience,
        settle: args.settle,
        cancel: cancel_on_signals()?,
    };
    if args.apply.is_some() {
        return carry_out(args, &options);
    }
    let planned = plan(&options, SystemClock.now())?;
    for doubt in &planned.doubts {
        log::warning(&format!("warning: {doubt}"));
    }
    let file = args.plan.as_ref().unwrap_or(&planned.default_file);
    match save(file, &planned.plan) {
        Ok(()) => {}
        Err(error) if args.plan.is_some() => return Err(anyhow::Error::new(error).context(file.display().to_string())),
        Err(error) => log::warning(&format!("warning: the plan is not saved: {}: {error}", file.display())),
    }
    if args.json {
        print_json(&planned.plan)?;
    } else {
        print(&planned.plan.text())?;
    }
    Ok(class(&planned.plan))
}

fn carry_out(args: &RecoverArgs, options: &RecoverOptions) -> anyhow::Result<ExitClass> {
    let save = |plan: &Plan, default: &Path| {
        let path = args.plan.as_deref().unwrap_or(default);
        save(path, plan).map_err(|source| RecoverError::PlanFile { path: path.to_owned(), source })
    };
    let progress = |step: &StepResult| match step.outcome {
        Outcome::Done | Outcome::AlreadySo => {
            log::write(Line::new(Severity::Notice, Kind::Step, format!("{}: done", step.action)));
        }
        Outcome::NotDone => log::warning(&format!("{}: not done, {}", step.action, step.what)),
        Outcome::Failed => log::warning(&format!("{}: FAILED, {}", step.action, step.what)),
    };
    let report = apply(options, || SystemClock.now(), save, &progress)?;
    for doubt in &report.doubts {
        log::warning(&format!("warning: {doubt}"));
    }
    let printed = if args.json { print_json(&report) } else { print(&report.text()) };
    Ok(after_printing(
        printed,
        &format!("{} done", counted(report.steps.len() as u64, "step is", "steps are")),
        report.class(),
    ))
}

/// A first signal stops between two steps, a second one at once.
pub(crate) fn cancel_on_signals() -> anyhow::Result<Cancel> {
    let cancel = Cancel::default();
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, cancel.flag())?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, cancel.flag())?;
    }
    Ok(cancel)
}

fn class(plan: &Plan) -> ExitClass {
    match (plan.stops.is_empty(), plan.unclear.is_empty()) {
        (false, _) => ExitClass::Failed,
        (true, false) => ExitClass::WithProblems,
        (true, true) => ExitClass::Well,
    }
}

/// Replaces the file of the plan.
pub(crate) fn save(path: &Path, plan: &impl Serialize) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut text = serde_json::to_vec_pretty(plan)?;
    text.push(b'\n');
    named_file::write(path, &text, 0o600)
}
