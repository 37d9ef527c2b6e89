//! `volbak snapshot`.

use std::sync::Arc;

use anyhow::Context;
use clap::CommandFactory;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use volbak::archive::kind::BackupMode;
use volbak::config::Config;
use volbak::error::ExitClass;
use volbak::events::Observer;
use volbak::image::format::Format;
use volbak::log::{Kind, Line, Severity};
use volbak::outside::{Cancel, SystemClock, SystemCommands};
use volbak::run::backup::{BackupOptions, BackupOutcome, BackupWorld, TimeLimit};
use volbak::run::hooks;
use volbak::run::parent::ParentChoice;
use volbak::run::snapshot::{self as run, Happened, Sources};
use volbak::run::throttle::throttled;
use volbak::source::{Source, SourceKind};
use volbak::store::shared::ArchiveLayout;

use super::args::{Cli, LayoutArg, ReaderArg, SnapshotArgs};
use super::log;
use super::output::{
    JsonBackup, JsonOutcome, OutputError, after_printing, print, print_json, shown_error, shown_outcome,
};
use super::place::Where;
use super::progress::{Progress, Verbosity};
use super::{about, shown};

pub(crate) fn snapshot(args: &SnapshotArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let cancel = Cancel::default();
    // A second Ctrl-C ends the process at once, and the next run removes the remains. Handlers run in the order of
    // registration.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, cancel.flag())?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // nohup(1) starts programs with SIGHUP ignored, and this must stay so.
        if signal != SIGHUP || !is_ignored(SIGHUP)? {
            signal_hook::flag::register(signal, cancel.flag())?;
        }
    }
    if args.name.is_some() && args.sources.len() > 1 {
        let message = "--name is for one source: each source needs its own directory";
        log::exit_with_usage(&Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message));
    }
    let place = Where::from(&args.place).place()?;
    // `Place` knows whether the destination must be mounted.
    let destination = place.open()?;
    let config = place.into_config()?;
    let progress = Arc::new(Progress::new(verbosity));
    let world = BackupWorld {
        commands: Arc::new(SystemCommands),
        clock: Arc::new(SystemClock),
        observer: throttled(progress.clone(), config.read_rate_limit, &cancel),
        cancel: cancel.clone(),
    };
    let wanted = Sources {
        sources: &args.sources,
        name: args.name.as_deref(),
        format: args.source_format.map(Format::from),
        options: &|source| options(args, &config, source, &cancel),
    };
    let mut results = Vec::with_capacity(args.sources.len());
    let run = run::snapshot(&wanted, &destination, &world, &mut |report| match report {
        Happened::RemainsStay(error) => {
            let why = anyhow::Error::new(error);
            log::warning(&format!("warning: cannot look for the remains of earlier runs: {why:#}"));
        }
        Happened::Source { spec, name, result } => {
            let result = result.map_err(|error| about(spec, anyhow::Error::new(error)));
            if let Err(error) = &result {
                progress.done();
                log::write(Line::new(Severity::Error, Kind::Message, shown_error(error)).about(Some(name)));
            }
            results.push((shown(spec), result));
        }
    });
    progress.done();
    let run = run?;
    let printed = report(&results, args.json);
    if log::has_fields() {
        progress.on_event(&run.finished());
    }
    let published: Vec<String> = results
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok())
        .map(|outcome| format!("the backup {} is published", outcome.archive.display()))
        .collect();
    let done = if published.is_empty() { "no backup is published".to_owned() } else { published.join(", ") };
    Ok(after_printing(printed, &done, run.class()))
}

/// The settings of the config for this source, overridden by the arguments.
fn options(args: &SnapshotArgs, config: &Config, source: &Source, cancel: &Cancel) -> BackupOptions {
    let group = match source.kind() {
        SourceKind::Volume(facts) => facts.vg.as_str(),
        SourceKind::Device { .. } | SourceKind::Image => "",
    };
    let wanted = config.for_volume(group, source.backup_name());
    let mut options = BackupOptions::from(&wanted);
    options.checksum = config.enable_checksum;
    // Hooks quiesce the instance of a volume; an image has none.
    if let SourceKind::Volume(facts) = source.kind() {
        options.around = hooks::around(&wanted.hooks, &facts.vg, &facts.lv, cancel);
    }
    if args.image {
        options.mode = BackupMode::Image;
    }
    if let Some(format) = args.format {
        options.archive.format = format;
        options.mode = BackupMode::Files;
    }
    if let Some(level) = args.level {
        options.archive.level = level;
    }
    if let Some(threads) = args.threads {
        options.archive.threads = Some(threads.into());
    }
    options.archive.exclude.extend(args.exclude.iter().cloned());
    if let Some(scratch) = &args.scratch {
        options.archive.scratch = Some(scratch.clone());
    }
    if let Some(reader) = args.reader {
        options.archive.by_kernel = reader == ReaderArg::Kernel;
    }
    if let Some(duration) = args.max_hours {
        options.time_limit = Some(TimeLimit { duration, name: "--max-hours".to_owned() });
    }
    options.max_bytes = args.max_size.or(options.max_bytes);
    options.archive.read_only_snapshots |= args.read_only_snapshots;
    if let Some(size) = args.snapshot_size {
        options.freeze.snapshot_size = size;
    }
    options.keep_snapshot = args.keep_snapshot;
    options.parent = match &args.parent {
        _ if args.full => ParentChoice::Full,
        Some(parent) => ParentChoice::Named(parent.clone()),
        None => ParentChoice::Newest,
    };
    if let Some(days) = args.full_read_every_days {
        options.archive.full_read_every_days = days;
    }
    options.archive.share_blocks &= !args.no_shared_blocks;
    if let Some(layout) = args.layout {
        options.archive.layout = match layout {
            LayoutArg::Plain => ArchiveLayout::Plain,
            LayoutArg::Shared => ArchiveLayout::Shared,
        };
    }
    options
}

fn report(results: &[(String, anyhow::Result<Box<BackupOutcome>>)], json: bool) -> Result<(), OutputError> {
    if json {
        let backups: Vec<JsonBackup<'_>> = results
            .iter()
            .map(|(source, result)| match result {
                Ok(outcome) => JsonBackup {
                    source,
                    status: if outcome.has_problems() { "problems" } else { "ok" },
                    error: None,
                    outcome: Some(JsonOutcome { archive: &outcome.archive, manifest: &outcome.manifest }),
                },
                Err(error) => JsonBackup { source, status: "failed", error: Some(shown_error(error)), outcome: None },
            })
            .collect();
        return print_json(&serde_json::json!({ "backups": backups }));
    }
    for (_, result) in results {
        if let Ok(outcome) = result {
            print(&shown_outcome(outcome))?;
        }
    }
    Ok(())
}

/// Whether this process was started with `signal` ignored: proc_pid_status(5), `SigIgn`.
fn is_ignored(signal: i32) -> anyhow::Result<bool> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("/proc/self/status cannot be read (is /proc mounted?)")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    Ok(u64::from_str_radix(mask.trim(), 16)? & (1 << (signal - 1)) != 0)
}
