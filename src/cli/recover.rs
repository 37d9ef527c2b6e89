//! `volbak cloud recover`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone, Utc};
use clap::Args;
use volbak::error::{ExitClass, with_causes};
use volbak::outside::{Cancel, Clock, SystemClock};
use volbak::run::cloud::recover::{Plan, RecoverOptions, plan};

use super::log;
use super::night_args::day;
use super::output::{print, print_json};
use super::place::Where;

pub(crate) const RECOVER_EXAMPLES: &str = "\
Examples:
  volbak cloud recover                             the plan; nothing is changed
  volbak cloud recover --outage '2026-11-28 22:10' a reboot after this time counts, and is not repeated
  volbak cloud recover --from-map 2026-11-27       volumes belong where the map of that day has them
Without --outage, reboots after the newest saved map count. Exit status: 0 with nothing to look at; 1 if nothing can be done; \
3 if something is not done and to be looked at.";

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    place: Where,
    /// Save the plan in this file, as JSON [default: beside the journal]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// One instance and its volumes alone
    #[arg(long, value_name = "ID|NAME")]
    instance: Option<String>,
    /// When the power went, as 2026-11-28 22:10 [default: when the saved map was taken]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    outage: Option<DateTime<Utc>>,
    /// The saved map of this day decides where volumes belong, also where the cloud says something else
    #[arg(long, value_name = "DATE", value_parser = day)]
    from_map: Option<NaiveDate>,
    /// The journal [default: a file in /var/lib/volbak/recover, by the cloud]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
        seen_plan: None,
        inside: false,
        pause: Duration::from_secs(2),
        patience: Duration::from_secs(300),
        settle: Duration::from_secs(15),
        cancel: Cancel::default(),
    };
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

fn class(plan: &Plan) -> ExitClass {
    match (plan.stops.is_empty(), plan.unclear.is_empty()) {
        (false, _) => ExitClass::Failed,
        (true, false) => ExitClass::WithProblems,
        (true, true) => ExitClass::Well,
    }
}

/// Replaces the file of the plan.
fn save(path: &Path, plan: &Plan) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&plan.to_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
