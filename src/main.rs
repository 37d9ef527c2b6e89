//! The command line of volbak: arguments become options, results become text and an exit status.

mod cli;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use signal_hook::consts::SIGXFSZ;
use volbak::error::ExitClass;
use volbak::image::format::Format;
use volbak::layout::render_table;
use volbak::outside::SystemCommands;
#[cfg(feature = "openstack")]
use volbak::run::cloud::recover::RecoverError;
use volbak::run::inspect::inspect;
use volbak::run::locate::LocateError;
use volbak::store::StoreError;

use crate::cli::args::{Cli, Command, InspectArgs};
use crate::cli::night::carry_out;
use crate::cli::output::{OutputError, print, print_as_it_is, print_json, shown_error};
use crate::cli::place::UsageError;
use crate::cli::progress::Verbosity;
use crate::cli::{
    about, about_program, browse, cloud, complete, completions, copy, export, fleet, history, list, log, manual,
    memory, progress, proof, remap, snapshot, terminal, topics, verify,
};

fn main() -> ExitCode {
    memory::spare_address_space();
    // Writing past `ulimit -f` should fail with an error instead of ending the process. A signal with a handler
    // is reset to its default in child processes. If the handler cannot be set, the default action remains.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    if about_program::is_asked(std::env::args_os().skip(1)) {
        return exit(print_as_it_is(&about_program::text()).map(|()| 0).map_err(Into::into));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            log::begin_for_wrong_usage(std::env::args_os().skip(1));
            return exit(log::explained(&usage).map_err(|error| OutputError::from(error).into()));
        }
    };
    terminal::begin(cli.color);
    log::begin(progress::begin::<Cli>(cli.progress, cli.log));
    let verbosity = match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    if let Err(error) = cli.keys.take() {
        return exit(Err(error));
    }
    let done = match &cli.command {
        Command::Inspect(args) => inspect_source(args),
        Command::Snapshot(args) => snapshot::snapshot(args, verbosity),
        Command::List(args) => list::list(args),
        Command::Verify(args) => verify::verify(args, verbosity),
        Command::Restore(args) => proof::restore(args, verbosity),
        Command::Copy(args) => copy::copy_backups(args, verbosity),
        Command::Export(args) => export::export(args, verbosity),
        Command::Remap(args) => remap::run(args),
        Command::Cloud(command) => cloud::cloud(command),
        Command::Import(args) => export::import(args, verbosity),
        Command::Browse(args) => browse::browse(args),
        Command::Cat(args) => proof::cat(args),
        Command::Diff(args) => proof::diff(args),
        Command::Fleet(args) => fleet::fleet(args),
        Command::Find(args) => history::find(args),
        Command::Log(args) => history::log_of(args),
        #[cfg(feature = "mount")]
        Command::Mount(args) => cli::mount::mount_backups(args, verbosity),
        #[cfg(feature = "s3")]
        Command::Store(command) => cli::store::store(command),
        Command::Night(command) => return exit(carry_out(command, verbosity)),
        Command::Man { directory } => manual::write(directory).map(|()| ExitClass::Well),
        Command::Completions { shell } => {
            print_as_it_is(&completions::script(*shell)).map(|()| ExitClass::Well).map_err(Into::into)
        }
        Command::CompleteWords { words } => Ok(complete::print_candidates(words)),
        Command::Help { words } => topics::help(words),
    };
    exit(done.map(ExitClass::status))
}

fn exit(done: anyhow::Result<u8>) -> ExitCode {
    let status = match done {
        Ok(status) => status,
        Err(error) => {
            log::error(&shown_error(&error));
            let class = match error.downcast_ref() {
                Some(StoreError::Locked { .. }) => ExitClass::Locked,
                #[cfg(feature = "openstack")]
                _ if error.downcast_ref().is_some_and(RecoverError::is_locked) => ExitClass::Locked,
                _ if error.is::<UsageError>() => ExitClass::Usage,
                // With each verb alike.
                _ if error.downcast_ref().is_some_and(LocateError::is_wrong_name) => ExitClass::Usage,
                _ => ExitClass::Failed,
            };
            class.status()
        }
    };
    log::end();
    status.into()
}

fn inspect_source(args: &InspectArgs) -> anyhow::Result<ExitClass> {
    let layout = inspect(&args.source, args.source_format.map(Format::from), &SystemCommands)
        .map_err(|error| about(&args.source, anyhow::Error::new(error)))?;
    if args.json {
        print_json(&layout)?;
    } else {
        print(&render_table(&layout))?;
    }
    Ok(ExitClass::Well)
}
