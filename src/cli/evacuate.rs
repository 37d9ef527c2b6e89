//! `volbak cloud evacuate`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use volbak::error::{ExitClass, with_causes};
use volbak::outside::{Clock, SystemClock};
use volbak::run::cloud::recover::RecoverError;
use volbak::run::cloud::recover::evacuate::{EvacuateOptions, EvacuationPlan, apply, plan};

use super::log;
use super::output::{after_printing, print, print_json};
use super::place::Where;
use super::recover::{cancel_on_signals, save, seconds};
use volbak::shown::counted;

pub(crate) const EVACUATE_EXAMPLES: &str = "\
Examples:
  volbak cloud evacuate compute-1                      the plan; nothing is changed
  volbak cloud evacuate compute-1 --apply
  volbak cloud evacuate compute-1 --to compute-2 --apply
The host must be off, and stay off. After an interruption, kill -9 included, the same command continues. Exit status: 0; 1 if \
nothing can be done, or an instance failed; 3 if some are not evacuated; 4 if another evacuation of this host runs.";

#[derive(Debug, Args)]
pub(crate) struct EvacuateArgs {
    /// The lost compute host, by its name in Nova
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    place: Where,
    /// The compute host to which the instances are evacuated [default: the scheduler's choice]
    #[arg(long, value_name = "HOST")]
    to: Option<String>,
    /// Also evacuate instances with root, ephemeral or swap disks made by Nova: these disks are on storage that all
    /// compute hosts share
    #[arg(long)]
    shared_disks: bool,
    /// Save the plan in this file, as JSON [default: beside the journal]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Carry the plan out
    #[arg(long)]
    apply: bool,
    /// The journal [default: a file in /var/lib/volbak/recover, by the cloud and the host]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// The pause between two instances
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pause: Duration,
    /// Time limit for one instance
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    patience: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn evacuate(args: &EvacuateArgs) -> anyhow::Result<ExitClass> {
    let place = args.place.place()?;
    let openstack = place.config.as_ref().map(|config| config.openstack.clone()).unwrap_or_default();
    let destination = place.open().map_err(|error| {
        log::warning(&format!("warning: backups are not named: {}", with_causes(&error)));
    });
    let options = EvacuateOptions {
        openstack,
        destination: destination.ok(),
        host: args.host.clone(),
        to: args.to.clone(),
        shared_disks: args.shared_disks,
        journal: args.journal.clone(),
        pause: args.pause,
        patience: args.patience,
        cancel: cancel_on_signals()?,
    };
    if args.apply {
        let saved = |plan: &EvacuationPlan, default: &Path| {
            let path = args.plan.as_deref().unwrap_or(default);
            save(path, plan).map_err(|source| RecoverError::PlanFile { path: path.to_owned(), source })
        };
        let report = apply(&options, || SystemClock.now(), saved)?;
        for doubt in &report.doubts {
            log::warning(&format!("warning: {doubt}"));
        }
        let printed = if args.json { print_json(&report) } else { print(&report.text()) };
        return Ok(after_printing(
            printed,
            &format!("{} evacuated", counted(report.instances.len() as u64, "instance was", "instances were")),
            report.class(),
        ));
    }
    let (plan, doubts) = plan(&options, SystemClock.now())?;
    for doubt in &doubts {
        log::warning(&format!("warning: {doubt}"));
    }
    if let Some(file) = &args.plan {
        save(file, &plan).map_err(|source| RecoverError::PlanFile { path: file.clone(), source })?;
    }
    if args.json {
        print_json(&plan)?;
    } else {
        print(&plan.text())?;
    }
    Ok(match (plan.stops.is_empty(), plan.kept.is_empty()) {
        (false, _) => ExitClass::Failed,
        (true, false) => ExitClass::WithProblems,
        (true, true) => ExitClass::Well,
    })
}
