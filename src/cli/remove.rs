//! `volbak remove`.

use clap::Args;
use serde_json::json;
use volbak::error::ExitClass;
use volbak::outside::SystemClock;
use volbak::run::named::NamedError;
use volbak::run::remove::{RemoveError, RemoveOptions, remove};
use volbak::units::ByteLen;

use super::output::{after_printing, print, print_json};
use super::place::{UsageError, Where};

pub(super) const HELP: &str = "\
Refuses, and removes nothing, if one of the backups is protected, is kept because of a sudden change, is the last good, whole \
or verified one of its volume, is damaged, or is in a set of which other members would stay.
Examples:
  volbak remove volume-0000001a@2026-11-20 --dry-run
  volbak remove volume-0000001a@2026-11-20 volume-0000001b@20_11_2026_010203";

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// The backups, or sets of backups
    #[arg(value_name = "VOLUME@DATE|GROUP@DATE", required = true)]
    pub(crate) backups: Vec<String>,
    /// Show what would be removed, and its size, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also remove the last good backup of a volume, a damaged one, or a single member of a set
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) fn remove_backups(args: &RemoveArgs) -> anyhow::Result<ExitClass> {
    let config = args.place.config()?;
    let destination = config.open_destination()?;
    let mut specs = Vec::new();
    for wanted in &args.backups {
        let members = args.place.members_of(wanted)?;
        let is_dated = wanted.contains('@') && !wanted.ends_with("@last");
        if members != [wanted.as_str()] && !is_dated {
            return Err(UsageError(format!("{wanted} names no date: write the set to remove as GROUP@DATE")).into());
        }
        specs.extend(members);
    }
    let options = RemoveOptions { dry_run: args.dry_run, force: args.force };
    let removed = match remove(&destination, &specs, options, &SystemClock) {
        Ok(removed) => removed,
        Err(RemoveError::Named(NamedError::Store(error))) => return Err(error.into()),
        Err(error @ (RemoveError::Named(_) | RemoveError::NoDate(_))) => {
            return Err(UsageError(error.to_string()).into());
        }
        Err(error) => return Err(error.into()),
    };
    let bytes = removed.iter().map(|one| one.bytes).fold(0, u64::saturating_add);
    let is = if args.dry_run { "would be removed" } else { "is removed" };
    let lines = removed.iter().map(|one| format!("{} {is}, {}", one.backup, ByteLen(one.bytes)));
    let done = lines.collect::<Vec<_>>().join("\n");
    let printed = if args.json {
        print_json(&json!({ "dry_run": args.dry_run, "removed": removed, "bytes": bytes }))
    } else {
        print(&format!("{done}\n"))
    };
    Ok(after_printing(printed, &done, ExitClass::Well))
}
