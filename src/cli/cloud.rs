//! `volbak cloud`.

use chrono::NaiveDate;
use clap::{Args, Subcommand};
use volbak::error::ExitClass;
use volbak::run::cloud::{When, load};

use super::current_map::current;
#[cfg(feature = "openstack")]
use super::evacuate::{EVACUATE_EXAMPLES, EvacuateArgs, evacuate};
use super::night_args::day;
use super::output::{print, print_json};
use super::place::Where;
#[cfg(feature = "openstack")]
use super::recover::{RECOVER_EXAMPLES, RecoverArgs, recover};
use super::sessions::{SESSIONS_EXAMPLES, SessionsArgs, sessions};

const MAP_EXAMPLES: &str = "\
Examples:
  volbak cloud map                     ask the cloud; if it is down, show the newest saved map
  volbak cloud map --saved             the newest saved map, without asking the cloud
  volbak cloud map --date 2026-11-27   the map that the last run of that day saved
  volbak cloud map --json
If the cloud does not answer, a warning says so, and `taken_at` says how old the map is. Exit status: 0 with a map, 1 without.";

#[derive(Debug, Subcommand)]
pub(crate) enum CloudCommand {
    /// Show which instance each volume belongs to, as Cinder and Nova see it
    #[command(after_help = MAP_EXAMPLES)]
    Map(MapArgs),
    /// After a power failure: attach volumes again and restart instances
    #[cfg(feature = "openstack")]
    #[command(after_help = RECOVER_EXAMPLES)]
    Recover(RecoverArgs),
    /// Evacuate the instances of a lost compute host to other hosts
    #[cfg(feature = "openstack")]
    #[command(after_help = EVACUATE_EXAMPLES)]
    Evacuate(EvacuateArgs),
    /// Show, check or close the iSCSI sessions of this compute node
    #[command(after_help = SESSIONS_EXAMPLES)]
    Sessions(SessionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    #[command(flatten)]
    place: Where,
    /// The map that the last run of this day saved: 2026-11-20, 20_11_2026, today, yesterday, or "3 days ago"
    #[arg(long, value_parser = day, conflicts_with = "saved")]
    date: Option<NaiveDate>,
    /// Show the newest saved map, without asking the cloud
    #[arg(long)]
    saved: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn cloud(command: &CloudCommand) -> anyhow::Result<ExitClass> {
    match command {
        CloudCommand::Map(args) => map(args),
        #[cfg(feature = "openstack")]
        CloudCommand::Recover(args) => recover(args),
        #[cfg(feature = "openstack")]
        CloudCommand::Evacuate(args) => evacuate(args),
        CloudCommand::Sessions(args) => sessions(args),
    }
}

fn map(args: &MapArgs) -> anyhow::Result<ExitClass> {
    let place = args.place.place()?;
    let map = match args.date {
        Some(day) => load(&place.open()?, When::Day(day))?,
        None => current(&place, args.saved)?,
    };
    if args.json {
        print_json(&map)?;
    } else {
        print(&map.text())?;
    }
    Ok(ExitClass::Well)
}
