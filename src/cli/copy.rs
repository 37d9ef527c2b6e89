//! `volbak copy`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use volbak::error::ExitClass;
use volbak::outside::SystemClock;
use volbak::run::copy::{Candidate, CopyError, CopyOptions, CopyOutcome, CopyReport, CopyWorld, copy};
use volbak::run::throttle::throttled;
use volbak::shown::counted;
use volbak::store::Destination;
use volbak::store::catalog;
use volbak::units::ByteLen;

use super::export::rate;
use super::output::{after_printing, print, print_json, table};
use super::place::{UsageError, Where};
use super::progress::{Progress, Verbosity};
use super::proof::cancel;

pub(crate) const COPY_EXAMPLES: &str = "\
Examples:
  volbak copy --all --to /mnt/second               all backups that /mnt/second lacks
  volbak copy --all vol-1 --to /mnt/second         those of one volume
  volbak copy vol-1@2026-11-20 --to /mnt/second
  volbak copy db@2026-11-20 --to /mnt/second       a set: the backups of all members of a group
  volbak copy --all --to s3://backups/second       with the settings in [store]
  volbak copy --all --from /mnt/second --to /backups --dry-run

A copy is listed only when it is complete. After an interruption, the same command continues. Nothing in DIR is replaced or
removed; the backups there can be listed, verified and restored like any other.";

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["backups", "all"])))]
pub(crate) struct CopyArgs {
    /// VOLUME (its last backup), VOLUME@DATE, GROUP@DATE, or paths of archives; with --all, volumes [default: all]
    #[arg(value_name = "BACKUP")]
    backups: Vec<String>,
    /// All backups of these volumes
    #[arg(long)]
    all: bool,
    /// The destination to copy to: an existing directory, s3://BUCKET/PREFIX or swift://CONTAINER/PREFIX [default:
    /// `to` of [copy] in the config]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// Also copy backups that a verification found bad, with the record of that verification
    #[arg(long)]
    include_bad: bool,
    /// Read at most this number of bytes per second, such as 100M [default: read_rate_limit of the config]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    read_rate: Option<u64>,
    /// Print what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CopyArgs {
    /// The target. That of the config must be mounted, unless it says otherwise.
    fn target(&self) -> anyhow::Result<Destination> {
        let config = self.place.place().ok().and_then(|place| place.config);
        let store = config.as_ref().map(|config| config.store.clone()).unwrap_or_default();
        if let Some(to) = &self.to {
            return Ok(Destination::reach(to, &store)?);
        }
        let config = config.map(|config| config.copy).unwrap_or_default();
        let Some(to) = config.to else {
            return Err(UsageError(
                "name the directory to copy to: --to DIR, or `to` of [copy] in the config".to_owned(),
            )
            .into());
        };
        Ok(Destination::reach_mounted(&to, &store, config.require_mount)?)
    }

    /// The backups to copy, in the order of the arguments.
    fn chosen(&self) -> anyhow::Result<Vec<Candidate>> {
        if self.all {
            return all_of(&self.place.place()?.open()?, &self.backups);
        }
        let mut chosen = Vec::new();
        for wanted in &self.backups {
            match self.place.find_set(wanted)? {
                Some(set) => chosen.extend(set.backups.into_iter().map(|(_, files)| Candidate::named(files))),
                None => chosen.push(Candidate::named(self.place.find(wanted)?)),
            }
        }
        Ok(chosen)
    }
}

/// All backups of these volumes, or of all. An empty destination is an error: the directory below a missing mount is empty.
fn all_of(destination: &Destination, volumes: &[String]) -> anyhow::Result<Vec<Candidate>> {
    let there = destination.volume_names()?;
    if let Some(unknown) = volumes.iter().find(|name| !there.contains(name)) {
        let root = destination.root().display();
        return Err(UsageError(format!("{root} has no backups of {}", volbak::shown::text(unknown))).into());
    }
    let names = if volumes.is_empty() { &there[..] } else { volumes };
    let found: Vec<Candidate> = catalog::volumes(destination, names, Candidate::of_entry)?
        .into_iter()
        .flat_map(|volume| volume.backups)
        .collect();
    anyhow::ensure!(
        !found.is_empty(),
        "{} has no backups to copy: is this the right destination, and is it mounted?",
        destination.root().display()
    );
    Ok(found)
}

pub(crate) fn copy_backups(args: &CopyArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let cancel = cancel()?;
    let to = args.target()?;
    let chosen = args.chosen()?;
    let config = args.place.place().ok().and_then(|place| place.config);
    let config_rate = config.as_ref().and_then(|config| config.read_rate_limit);
    let mut options = CopyOptions::default();
    options.include_bad = args.include_bad;
    options.dry_run = args.dry_run;
    let progress = Arc::new(Progress::new(verbosity));
    let observer = throttled(progress.clone(), args.read_rate.or(config_rate), &cancel);
    let encryption = config.as_ref().and_then(|config| config.archive.encryption.as_ref());
    let world = CopyWorld { observer: &*observer, clock: &SystemClock, cancel: &cancel, encryption };
    let done = copy(chosen, &to, options, world);
    progress.done();
    let report = match done {
        Ok(report) => report,
        Err(CopyError::Store(error)) => return Err(error.into()),
        Err(error @ (CopyError::SamePlace { .. } | CopyError::Inside { .. })) => {
            return Err(UsageError(error.to_string()).into());
        }
        Err(error) => return Err(error.into()),
    };
    let printed = if args.json { print_json(&report) } else { print(&shown_copy(&report, to.root())) };
    Ok(after_printing(printed, &summary(&report), class_of(&report)))
}

fn class_of(report: &CopyReport) -> ExitClass {
    if report.has_failures() {
        ExitClass::Failed
    } else if report.count(|outcome| *outcome == CopyOutcome::PassedOver) > 0 {
        ExitClass::WithProblems
    } else {
        ExitClass::Well
    }
}

/// A line for each backup that is not simply there already, and a summary.
fn shown_copy(report: &CopyReport, to: &Path) -> String {
    let mut rows = Vec::new();
    for one in &report.backups {
        let (word, size) = match &one.outcome {
            CopyOutcome::Copied { bytes, .. } => ("copied", ByteLen(*bytes).to_string()),
            CopyOutcome::WouldCopy { bytes } => ("would be copied", ByteLen(*bytes).to_string()),
            CopyOutcome::Present => continue,
            CopyOutcome::PassedOver => ("passed over", "-".to_owned()),
            CopyOutcome::NotStarted => ("not started", "-".to_owned()),
            CopyOutcome::Failed => ("FAILED", "-".to_owned()),
        };
        let stem = volbak::shown::text(&one.stem);
        rows.push(vec![stem, size, word.to_owned(), one.why.clone().unwrap_or_default()]);
    }
    let room = match report.available_bytes {
        Some(available) => format!("; {} has {} free", to.display(), ByteLen(available)),
        None => String::new(),
    };
    format!("{}{}{room}\n", table(&rows), summary(report))
}

fn summary(report: &CopyReport) -> String {
    let count = |is: fn(&CopyOutcome) -> bool| report.count(is);
    let (copied, bytes, verb) = if report.dry_run {
        let bytes = report.backups.iter().map(|one| match one.outcome {
            CopyOutcome::WouldCopy { bytes } => bytes,
            _ => 0,
        });
        (count(|it| matches!(it, CopyOutcome::WouldCopy { .. })), bytes.sum(), "to copy")
    } else {
        (count(|it| matches!(it, CopyOutcome::Copied { .. })), report.copied_bytes(), "copied")
    };
    let mut text = format!("{} {verb} ({})", counted(copied, "backup", "backups"), ByteLen(bytes));
    let others = [
        (count(|it| *it == CopyOutcome::Present), "there already"),
        (count(|it| *it == CopyOutcome::PassedOver), "passed over"),
        (count(|it| matches!(it, CopyOutcome::Failed)), "failed"),
        (count(|it| *it == CopyOutcome::NotStarted), "not started"),
    ];
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    text
}
