//! `volbak store`.

use clap::{Args, Subcommand};
use volbak::error::ExitClass;
use volbak::outside::{Clock, SystemClock};
use volbak::run::store_check::{Answer, check, client};

use super::output::{print, print_json};
use super::place::{UsageError, Where};
use volbak::shown::counted;

const CHECK_EXAMPLES: &str = "\
Examples:
  volbak store check                           the destination of the config
  volbak store check s3://backups/storage-1    another destination
  volbak store check s3://backups/storage-1 --json
  volbak store check swift://backups/storage-1
The address and the credentials come from [store] in the config, from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, or from ~/.aws; for Swift from clouds.yaml, OS_*, or ST_AUTH, ST_USER and ST_KEY. Exit status: 0 if all is well, 3 if something needs attention, 1 if backups cannot
be kept there.";

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Test an object store with small objects, which are then removed, and record the result in the store
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The destination, s3://BUCKET/PREFIX or swift://CONTAINER/PREFIX [default: that of the config]
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
    /// The config with [store] [default: /etc/volbak/volbak.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn store(command: &StoreCommand) -> anyhow::Result<ExitClass> {
    match command {
        StoreCommand::Check(args) => check_store(args),
    }
}

fn check_store(args: &CheckArgs) -> anyhow::Result<ExitClass> {
    let place = Where {
        destination: args.destination.clone().map(Into::into),
        config: args.config.clone(),
        ..Where::default()
    }
    .place()?;
    let destination = place.root.to_str().ok_or_else(|| UsageError("the destination is not UTF-8".to_owned()))?;
    let options = place.config.as_ref().map(|config| config.store.clone()).unwrap_or_default();
    let facts = check(&client(destination, &options)?, SystemClock.now())?;
    if args.json {
        print_json(&facts)?;
    } else {
        let mut lines = vec![format!("{} at {}, region {}", facts.destination, facts.endpoint, facts.region)];
        lines.extend(facts.findings.iter().map(ToString::to_string));
        lines.extend(facts.recorded_as.iter().map(|key| format!("recorded as {key}")));
        let (sent, received) = (facts.sent_bytes, facts.received_bytes);
        lines.push(format!(
            "{}, {sent} bytes sent, {received} received",
            counted(facts.requests, "request", "requests")
        ));
        print(&format!("{}\n", lines.join("\n")))?;
    }
    Ok(match facts.findings.iter().map(|finding| finding.answer).max() {
        Some(Answer::Bad) => ExitClass::Failed,
        Some(Answer::Doubtful) => ExitClass::WithProblems,
        _ => ExitClass::Well,
    })
}
