//! `volbak fleet`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use volbak::config::{Config, DEFAULT_PATH};
use volbak::error::ExitClass;
use volbak::outside::{Clock, SystemClock};
use volbak::report::fleet::{FleetLimits, FleetView, FoundHost};
use volbak::run::fleet::read_states;
use volbak::store::is_in_object_store;

use super::named_file;
use super::output::{after_printing, print, print_json};
use super::place::{self, UsageError};

pub(crate) const FLEET_EXAMPLES: &str = "\
Examples:
  volbak fleet                                     the hosts of [fleet] in the config
  volbak fleet /mnt/fleet --hosts /etc/volbak/hosts --html /var/www/volbak/index.html
  volbak fleet s3://backups                        all hosts below this bucket, or prefix
  volbak fleet /mnt/a /mnt/b --prometheus /var/lib/prometheus/node-exporter/volbak-fleet.prom

Exit status 3: a host is silent, a backup or a full verification is overdue, a backup is bad, or a run failed.";

#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// Where the states of hosts are: destinations, `directory` of [fleet], or a prefix of an object store with the
    /// destinations of hosts below it [default: that of the config]
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// A file with the names of the expected hosts, one per line [default: `hosts` of [fleet], or all hosts that have
    /// a state]
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// A run or a backup is overdue after this number of hours [default: `max_age_hours` of [fleet], or 36]
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=87_600))]
    max_age: Option<u32>,
    /// A full verification is overdue after this number of days; 0 never [default: `proof_days` of [fleet], or 0]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    proof_days: Option<u32>,
    /// Write an HTML page (without scripts)
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write metrics for the textfile collector of the node exporter
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
    /// The config [default: /etc/volbak/volbak.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The longest list of hosts.
const MAX_LIST_BYTES: u64 = 1 << 20;

impl FleetArgs {
    fn config(&self) -> Result<Option<Config>, UsageError> {
        match &self.config {
            Some(path) => place::load(path).map(Some),
            // With all that it would say given, it need not be valid.
            None if self.needs_config() && Path::new(DEFAULT_PATH).exists() => {
                place::load(Path::new(DEFAULT_PATH)).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Whether the config has what was not given: the places, or how to reach an object store.
    fn needs_config(&self) -> bool {
        self.directories.is_empty() || self.directories.iter().any(|place| is_in_object_store(place))
    }

    fn roots(&self, config: Option<&Config>) -> Result<Vec<PathBuf>, UsageError> {
        match (self.directories.is_empty(), config) {
            (false, _) => Ok(self.directories.clone()),
            (true, Some(config)) => {
                Ok(vec![config.fleet.directory.clone().unwrap_or_else(|| config.backup_destination.clone())])
            }
            (true, None) => {
                Err(UsageError(format!("name the directories with the states of hosts: there is no {DEFAULT_PATH}")))
            }
        }
    }
}

/// The names in a list of hosts. A `#` begins a comment.
fn read_hosts(path: &Path) -> anyhow::Result<Vec<String>> {
    let named = || path.display().to_string();
    let length = fs::metadata(path).with_context(named)?.len();
    anyhow::ensure!(length <= MAX_LIST_BYTES, "{}: a list of hosts is shorter than {length} bytes", named());
    let text = fs::read_to_string(path).with_context(named)?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let names: BTreeSet<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(UsageError(format!("{} names no host", named())).into());
    }
    Ok(names.into_iter().collect())
}

pub(crate) fn fleet(args: &FleetArgs) -> anyhow::Result<ExitClass> {
    let config = args.config()?;
    let expected = match (&args.hosts, &config) {
        (Some(path), _) => read_hosts(path)?,
        (None, Some(config)) => config.fleet.hosts.clone(),
        (None, None) => Vec::new(),
    };
    let usual = config.as_ref().map(|config| config.fleet.clone()).unwrap_or_default();
    let limits = FleetLimits {
        max_age_hours: args.max_age.unwrap_or(usual.max_age_hours),
        proof_days: args.proof_days.unwrap_or(usual.proof_days),
    };
    let now = SystemClock.now();
    let store = config.as_ref().map(|config| config.store.clone()).unwrap_or_default();
    let found: Vec<FoundHost> = read_states(&args.roots(config.as_ref())?, &store, now)?;
    anyhow::ensure!(
        !found.is_empty() || !expected.is_empty(),
        "no host left a state there: is this the right directory, and is it mounted?"
    );
    let view = FleetView::new(found, &expected, limits, now);
    if let Some(path) = &args.html {
        // The page has names of volumes and hosts, which other users must not see unless the administrator says so.
        named_file::write(path, view.html().as_bytes(), 0o600).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.prometheus {
        named_file::write(path, view.metrics().as_bytes(), 0o644).with_context(|| path.display().to_string())?;
    }
    let class = if view.is_overdue { ExitClass::WithProblems } else { ExitClass::Well };
    let printed = if args.json {
        print_json(&view)
    } else if args.html.is_none() && args.prometheus.is_none() {
        print(&view.text())
    } else {
        Ok(())
    };
    Ok(after_printing(printed, "the hosts are judged", class))
}
