//! Arguments of the verbs that need a config.

use std::path::PathBuf;

use chrono::{Days, Local, NaiveDate};
use clap::{Args, Subcommand};
use volbak::config::DEFAULT_PATH;

use super::place::Where;

const RUN_EXAMPLES: &str = "\
Examples:
  volbak run                              the nightly run, as started by cron
  volbak run --dry-run                    show what would be backed up and removed, and why
  volbak run --only volume-0000001a       one volume now
  volbak run --test                       all steps, for the smallest volume";

pub(crate) const STATUS_EXIT: &str = "\
Exit status, as for Nagios and Icinga: 0 OK; 1 WARNING: the last run had problems, the last backup of a volume has problems \
or is older than --warning hours, or a backup is damaged; 2 CRITICAL: the last run or a volume failed, or a volume has no \
backup younger than --critical hours; 3 UNKNOWN: the config is wrong or the destination is not available.";

const PROTECT_HELP: &str = "\
DATE is 2026-11-20, 20_11_2026 (as in file names), today, yesterday or last. _HHMMSS after it selects one of several \
backups of a day.
Examples:
  volbak protect volume-0000001a@2026-11-20
  volbak unprotect volume-0000001a@20_11_2026_010203";

#[derive(Debug, Subcommand)]
pub(crate) enum NightCommand {
    /// Back up all volumes of the config, remove old backups, send a report
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Show, export or mail the report of the last run or of an earlier one
    Report(ReportArgs),
    /// Show the state of the backups; works as a plugin for Nagios and Icinga
    #[command(after_help = STATUS_EXIT)]
    Status(StatusArgs),
    /// Exempt a backup from retention
    #[command(after_help = PROTECT_HELP)]
    Protect(ProtectArgs),
    /// End the protection of a backup: retention may remove it again
    #[command(after_help = PROTECT_HELP)]
    Unprotect(ProtectArgs),
    /// Remove backups that you name
    #[command(after_help = super::remove::HELP)]
    Remove(super::remove::RemoveArgs),
    /// Confirm that a sudden change was intended, and release the backup before it
    Accept(AcceptArgs),
    /// Show which backups retention would remove, and why it keeps the others; or remove them
    Prune(PruneArgs),
    /// Check that this host can do what the config asks for
    Doctor(DoctorArgs),
    /// Test the notifications of the config
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Check the config, or print a commented one
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigPath {
    /// The config
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line, each of its own")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigPath,
    /// Show what would be backed up and removed, and why, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Back up only this volume, LV or VG/LV, regardless of include and exclude; may be repeated
    #[arg(long, value_name = "VOLUME")]
    pub(crate) only: Vec<String>,
    /// Make a test run: all steps for one volume, the smallest or that of --only
    #[arg(long)]
    pub(crate) test: bool,
    /// Remove old backups even if they are more than half of all backups
    #[arg(long)]
    pub(crate) force: bool,
    /// At the end, test-restore three backups, and boot those with a system, as [rehearse] in the config does once a
    /// week
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) rehearse: bool,
    /// Print the report, or what --dry-run finds, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// The report of the last run that began on this day: 2026-11-20, 20_11_2026, today, yesterday, or "3 days ago"
    #[arg(long, value_parser = day)]
    pub(crate) date: Option<NaiveDate>,
    /// Write the report as an HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Send the report by mail, again
    #[arg(long)]
    pub(crate) send: bool,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["html", "send"])]
    pub(crate) json: bool,
}

/// A day of the local calendar, in any of the accepted forms.
pub(crate) fn day(text: &str) -> Result<NaiveDate, String> {
    day_of(text, Local::now().date_naive()).ok_or_else(|| {
        "write a day such as 2026-11-20 or 20_11_2026, or today, yesterday, or \"3 days ago\"".to_owned()
    })
}

fn day_of(text: &str, today: NaiveDate) -> Option<NaiveDate> {
    let words = text.trim().to_ascii_lowercase();
    let days_ago = match words.split_whitespace().collect::<Vec<_>>()[..] {
        ["today"] => 0,
        ["yesterday"] => 1,
        [days, "day" | "days", "ago"] => days.parse().ok()?,
        _ => {
            let formats = ["%Y-%m-%d", "%d_%m_%Y"];
            return formats.iter().find_map(|format| NaiveDate::parse_from_str(&words, format).ok());
        }
    };
    today.checked_sub_days(Days::new(days_ago))
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Add performance data after a `|` in the first line, for Nagios and Icinga
    #[arg(long, conflicts_with = "json")]
    pub(crate) nagios: bool,
    /// Age of the last backup, in hours, above which there is a warning
    #[arg(long, value_name = "HOURS", default_value_t = 30)]
    pub(crate) warning: u32,
    /// Age of the last backup, in hours, above which the state is critical
    #[arg(long, value_name = "HOURS", default_value_t = 54)]
    pub(crate) critical: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ProtectArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// The backup, or a set of backups
    #[arg(value_name = "VOLUME@DATE|GROUP@DATE")]
    pub(crate) backup: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// The volume, LV or VG/LV, or its name in the cloud
    pub(crate) volume: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(group(clap::ArgGroup::new("which").required(true).args(["dry_run", "apply"])))]
pub(crate) struct PruneArgs {
    /// Only these volumes, groups, or sets of a group [default: all]
    #[arg(value_name = "VOLUME|GROUP|GROUP@DATE")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Show what `volbak run` would remove; `volbak remove` removes single backups
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove what retention does not keep, from volumes that have a backup of the last two days. For a host whose
    /// credentials may delete, if those of the backup host may not
    #[arg(long)]
    pub(crate) apply: bool,
    /// With --apply: remove even if more than half of all backups would be removed
    #[arg(long, requires = "apply")]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Send a test through each [[notify]] of the config, or through one
    Test {
        #[command(flatten)]
        place: Where,
        /// The name of a [[notify]] [default: all]
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the config and the environment, and explain each mistake
    Check {
        #[command(flatten)]
        config: ConfigPath,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a commented example config
    Init,
    /// Print the config lines that declare the contents found by the last backup of a volume as intended
    Expect {
        #[command(flatten)]
        config: ConfigPath,
        /// The volume, LV or VG/LV, or its name in the cloud
        volume: String,
    },
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::day_of;

    #[test]
    fn days_are_named_as_people_name_them() {
        let date = |text: &str| text.parse::<NaiveDate>().unwrap();
        let day = |text| day_of(text, date("2026-03-01"));
        for (text, meant) in [
            ("today", "2026-03-01"),
            ("Yesterday", "2026-02-28"),
            ("1 day ago", "2026-02-28"),
            ("60 days ago", "2025-12-31"),
            ("2026-02-07", "2026-02-07"),
            ("07_02_2026", "2026-02-07"),
        ] {
            assert_eq!(day(text), Some(date(meant)), "{text}");
        }
        for wrong in ["", "tomorrow", "-1 days ago", "99999999999 days ago", "18446744073709551615 days ago", "02-03"] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}
