//! The command line of volbak: arguments become options, results become text and an exit status.

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use volbak::config::ChangeOptions;
use volbak::error::ExitClass;
use volbak::layout::render_table;
use volbak::outside::{Cancel, Clock, SystemClock, SystemCommands};
use volbak::run::backup::{BackupError, BackupOptions, BackupOutcome, BackupWorld, back_up};
use volbak::run::inspect::inspect;
use volbak::run::limit::TimeLimit;
use volbak::run::parent::ParentChoice;
use volbak::run::remains::{remove_all_remains, remove_stale, remove_stale_device_maps, wants_lvm};
use volbak::run::settings::{change_limits, level};
use volbak::source::FreezeOptions;
use volbak::store::local::Destination;
use volbak::store::{StoreError, catalog};

use crate::cli::args::{Cli, Command, InspectArgs, ListArgs, ReaderArg, SnapshotArgs};
use crate::cli::night::carry_out;
use crate::cli::output::{
    JsonBackup, JsonOutcome, Listed, OutputError, after_printing, has_problems, print, print_as_it_is, print_json,
    shown_catalog, shown_error, shown_outcome,
};
use crate::cli::progress::{Progress, Verbosity, write_line};
use crate::cli::{memory, proof, verify};

fn main() -> ExitCode {
    memory::spare_address_space();
    // A write past `ulimit -f` is to fail with an error rather than end the process. What a handler is for, programs that
    // are started get back as it was; should there be no handler, the default action stays.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return explained(&usage),
    };
    let verbosity = match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let done = match &cli.command {
        Command::Inspect(args) => inspect_source(args),
        Command::Snapshot(args) => snapshot(args, verbosity),
        Command::List(args) => list(args),
        Command::Verify(args) => verify::verify(args, verbosity),
        Command::Restore(args) => proof::restore(args, verbosity),
        Command::Browse(args) => proof::browse(args),
        Command::Cat(args) => proof::cat(args),
        Command::Diff(args) => proof::diff(args),
        Command::Night(command) => return exit(carry_out(command, verbosity)),
        Command::Man { directory } => clap_mangen::generate_to(Cli::command(), directory)
            .map(|()| ExitClass::Well)
            .with_context(|| directory.display().to_string()),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "volbak", &mut text);
            print_as_it_is(&String::from_utf8_lossy(&text)).map(|()| ExitClass::Well).map_err(Into::into)
        }
    };
    exit(done.map(ExitClass::status))
}

/// Wrong usage ends with status 2; help and version, which come the same way, with 0.
fn explained(usage: &clap::Error) -> ExitCode {
    match usage.print() {
        Err(error) if !usage.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            exit(Err(OutputError::from(error).into()))
        }
        _ => u8::try_from(usage.exit_code()).unwrap_or(ExitClass::Usage.status()).into(),
    }
}

fn exit(done: anyhow::Result<u8>) -> ExitCode {
    match done {
        Ok(status) => status.into(),
        Err(error) => {
            write_line(&format!("volbak: {}", shown_error(&error)));
            let locked = matches!(error.downcast_ref(), Some(StoreError::Locked { .. }));
            if locked { ExitClass::Locked } else { ExitClass::Failed }.status().into()
        }
    }
}

fn inspect_source(args: &InspectArgs) -> anyhow::Result<ExitClass> {
    let layout =
        inspect(&args.source, &SystemCommands).map_err(|error| about(&args.source, anyhow::Error::new(error)))?;
    if args.json {
        print_json(&layout)?;
    } else {
        print(&render_table(&layout))?;
    }
    Ok(ExitClass::Well)
}

fn snapshot(args: &SnapshotArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let cancel = Cancel::default();
    // A second Ctrl-C ends at once; what it leaves, the next run removes. Handlers run in the order of registration.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, cancel.flag())?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // nohup(1) starts programs with SIGHUP ignored, and means it.
        if signal != SIGHUP || !is_ignored(SIGHUP)? {
            signal_hook::flag::register(signal, cancel.flag())?;
        }
    }
    if args.name.is_some() && args.sources.len() > 1 {
        let message = "--name is for one source: each needs a directory of its own";
        Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
    }
    let destination = Destination::open(&args.to)?;
    let _lock = destination.lock(SystemClock.now())?;

    let progress = Arc::new(Progress::new(verbosity));
    let world = BackupWorld {
        commands: Arc::new(SystemCommands),
        clock: Arc::new(SystemClock),
        observer: progress.clone(),
        cancel: cancel.clone(),
    };
    let options = BackupOptions {
        level: level(args.level),
        threads: proof::threads(args.threads),
        exclude: args.exclude.clone(),
        scratch: args.scratch.clone(),
        by_kernel: args.reader == ReaderArg::Kernel,
        time_limit: args.max_hours.map(|duration| TimeLimit { duration, name: "--max-hours".to_owned() }),
        max_bytes: args.max_size,
        with_snapshots: args.read_only_snapshots,
        freeze: FreezeOptions { snapshot_size: args.snapshot_size, ..FreezeOptions::default() },
        keep_snapshot: args.keep_snapshot,
        parent: match &args.parent {
            _ if args.full => ParentChoice::Full,
            Some(parent) => ParentChoice::Named(parent.clone()),
            None => ParentChoice::Newest,
        },
        full_read_every_days: args.full_read_every_days,
        share_blocks: !args.no_shared_blocks,
        checksum: true,
        change_limits: change_limits(ChangeOptions::default()),
        around: None,
        expect: Vec::new(),
    };
    remove_all_remains(&destination, &*world.observer);
    let removed = if wants_lvm(&args.sources) {
        remove_stale(&world)
    } else if rustix::process::geteuid().is_root() {
        remove_stale_device_maps(&world)
    } else {
        // Nobody else can have made one, nor remove it.
        Ok(())
    };
    if let Err(error) = removed {
        // If LVM is needed after all, its own error comes with the volume that needs it.
        write_line(&format!(
            "volbak: warning: what earlier runs left could not be looked for: {:#}",
            anyhow::Error::new(error)
        ));
    }

    let mut results = Vec::with_capacity(args.sources.len());
    for source in &args.sources {
        let result = if cancel.is_cancelled() {
            Err(BackupError::Cancelled)
        } else {
            back_up(source, args.name.as_deref(), &destination, &options, &world)
        };
        let result = result.map_err(|error| about(source, anyhow::Error::new(error)));
        if let Err(error) = &result {
            progress.done();
            write_line(&format!("volbak: {}", shown_error(error)));
        }
        results.push((shown(source), result));
    }
    progress.done();
    let printed = report(&results, args.json);
    let failed = results.iter().any(|(_, result)| result.is_err());
    let problems = results.iter().any(|(_, result)| result.as_ref().is_ok_and(has_problems));
    let class = match (failed, problems) {
        (true, _) => ExitClass::Failed,
        (_, true) => ExitClass::WithProblems,
        _ => ExitClass::Well,
    };
    let published: Vec<String> = results
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok())
        .map(|outcome| format!("the backup {} is published", outcome.archive.display()))
        .collect();
    let done = if published.is_empty() { "no backup is published".to_owned() } else { published.join(", ") };
    Ok(after_printing(printed, &done, class))
}

fn report(results: &[(String, anyhow::Result<BackupOutcome>)], json: bool) -> Result<(), OutputError> {
    if json {
        let backups: Vec<JsonBackup<'_>> = results
            .iter()
            .map(|(source, result)| match result {
                Ok(outcome) => JsonBackup {
                    source,
                    status: if has_problems(outcome) { "problems" } else { "ok" },
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

fn list(args: &ListArgs) -> anyhow::Result<ExitClass> {
    let entries = catalog::list(&Destination::open(&args.destination)?)?;
    let entries: Vec<Listed> = entries.into_iter().map(Listed::new).collect();
    if args.json {
        print_json(&serde_json::json!({ "backups": entries }))?;
    } else {
        print(&shown_catalog(&entries))?;
    }
    Ok(ExitClass::Well)
}

/// Whether this process was started with `signal` ignored: proc_pid_status(5), `SigIgn`.
fn is_ignored(signal: i32) -> anyhow::Result<bool> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("/proc/self/status cannot be read (is /proc mounted?)")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    Ok(u64::from_str_radix(mask.trim(), 16)? & (1 << (signal - 1)) != 0)
}

/// The error with the source it is about in front, unless it begins with that anyway.
fn about(source: &OsString, error: anyhow::Error) -> anyhow::Error {
    let source = shown(source);
    if error.to_string().starts_with(&source) { error } else { error.context(source) }
}

fn shown(source: &OsString) -> String {
    volbak::shown::bytes(source.as_encoded_bytes())
}
