//! `volbak cloud sessions`.

use std::path::Path;

use clap::Args;
use volbak::cloud::CloudMap;
use volbak::config::DEFAULT_PATH;
use volbak::error::ExitClass;
use volbak::outside::SystemCommands;
use volbak::run::sessions::{ListedSession, check, close, list};
use volbak::units::ByteLen;

use super::current_map::current;
use super::log;
use super::output::{print, print_json, table};
use super::place::Where;

pub(crate) const SESSIONS_EXAMPLES: &str = "\
Examples:
  volbak cloud sessions                      the sessions of this host, their volumes, instances, disks and users
  volbak cloud sessions --check              why a volume does not answer
  volbak cloud sessions --close 6f0ba2f4-…   one session, if nothing uses its disk";

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    place: Where,
    /// Try the storage hosts of all sessions and recorded targets, and report what is wrong
    #[arg(long, conflicts_with = "close")]
    check: bool,
    /// Close the session of this volume (its ID, volume-ID, or the target), unless something uses its disk
    #[arg(long, value_name = "VOLUME")]
    close: Option<String>,
    /// With --close: only check whether it could be closed
    #[arg(long, requires = "close")]
    dry_run: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "close")]
    json: bool,
}

pub(crate) fn sessions(args: &SessionsArgs) -> anyhow::Result<ExitClass> {
    match &args.close {
        Some(volume) => close_one(volume, args.dry_run),
        None if args.check => check_all(args.json),
        None => list_all(args),
    }
}

fn list_all(args: &SessionsArgs) -> anyhow::Result<ExitClass> {
    let mut listed = list(None)?;
    // Without sessions no cloud is asked.
    if !listed.is_empty()
        && let Some(map) = names(&args.place)
    {
        listed = list(Some(&map))?;
    }
    if args.json {
        print_json(&serde_json::json!({ "sessions": listed }))?;
        return Ok(ExitClass::Well);
    }
    if listed.is_empty() {
        print("no iSCSI sessions\n")?;
        return Ok(ExitClass::Well);
    }
    let mut rows = vec![
        ["SESSION", "STATE", "VOLUME", "IN THE CLOUD", "PORTAL", "DISK", "SIZE", "USED BY"].map(str::to_owned).to_vec(),
    ];
    for ListedSession { session, volume, cloud, uses } in &listed {
        let disks: Vec<&str> = session.disks.iter().map(|disk| disk.name.as_str()).collect();
        rows.push(vec![
            session.number.to_string(),
            session.state.clone(),
            volume.clone().unwrap_or_else(|| session.target.clone()),
            cloud.clone().unwrap_or_else(|| "-".to_owned()),
            session.portal.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            if disks.is_empty() { "-".to_owned() } else { disks.join(" ") },
            ByteLen(session.disks.iter().map(|disk| disk.size_bytes).sum()).to_string(),
            if uses.is_empty() { "-".to_owned() } else { uses.join("; ") },
        ]);
    }
    print(&table(&rows))?;
    Ok(ExitClass::Well)
}

/// The map of the cloud, or else the newest saved one. A compute node may have neither, and lists its sessions all the same.
fn names(place: &Where) -> Option<CloudMap> {
    let is_given = place.config.is_some() || place.destination.is_some();
    let found = place.place().map_err(anyhow::Error::new).and_then(|place| current(&place, false));
    match found {
        Ok(map) => Some(map),
        Err(error) => {
            if is_given || Path::new(DEFAULT_PATH).exists() {
                log::warning(&format!("warning: the volumes' names in the cloud are not known: {error:#}"));
            }
            None
        }
    }
}

fn check_all(json: bool) -> anyhow::Result<ExitClass> {
    let reached = check(&SystemCommands)?;
    let class = if reached.iter().any(|one| one.fault.is_some()) { ExitClass::WithProblems } else { ExitClass::Well };
    if json {
        print_json(&serde_json::json!({ "targets": reached }))?;
        return Ok(class);
    }
    let mut text = String::new();
    for one in &reached {
        let session = one.session.map_or_else(|| "no session".to_owned(), |number| format!("session {number}"));
        text.push_str(&format!("{} ({session})\n", one.target));
        match &one.fault {
            Some(fault) => {
                text.push_str(&format!("  {}\n  next: {}\n", fault.what(&one.portal), fault.next(&one.portal)));
            }
            None => text.push_str(&format!("  {} answers\n", one.portal)),
        }
        if let Some(why) = &one.not_asked {
            text.push_str(&format!("  whether it has the target is not known: {why}\n"));
        }
    }
    print(if text.is_empty() { "no iSCSI sessions and no recorded targets\n" } else { &text })?;
    Ok(class)
}

fn close_one(volume: &str, dry_run: bool) -> anyhow::Result<ExitClass> {
    let closed = close(volume, dry_run, &SystemCommands)?;
    let (number, target) = (closed.session.number, &closed.session.target);
    let done = if dry_run { "could be closed: nothing uses its disk" } else { "closed" };
    print(&format!("session {number} ({target}): {done}\n"))?;
    for other in &closed.others_gone {
        log::warning(&format!("session {} ({}) ended, too, and was not closed by this", other.number, other.target));
    }
    Ok(if closed.others_gone.is_empty() { ExitClass::Well } else { ExitClass::WithProblems })
}
