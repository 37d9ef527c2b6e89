//! Arguments of the verbs that go by the config.

use std::path::PathBuf;

use chrono::{Days, Local, NaiveDate};
use clap::{Args, Subcommand};
use volbak::config::DEFAULT_PATH;

use super::place::Where;

const RUN_EXAMPLES: &str = "\
Examples:
  volbak run                              what cron starts at night
  volbak run --dry-run                    say what would be done and removed, and why
  volbak run --only volume-0000001a       one volume now
  volbak run --test                       the whole chain for the smallest volume";

const STATUS_EXIT: &str = "\
Exit status, as Nagios and Icinga have it: 0 OK; 1 WARNING: the last run had problems, a last backup has problems or is \
older than --warning hours, something is damaged; 2 CRITICAL: the last run or a volume failed, a volume has no backup or \
none younger than --critical hours; 3 UNKNOWN: the config is wrong or the destination is not there.";

const PROTECT_HELP: &str = "\
DATE is 2026-11-20, 20_11_2026 as in the files' names, today, yesterday or last; with _HHMMSS for one of several of a day.
Examples:
  volbak protect volume-0000001a@2026-11-20
  volbak unprotect volume-0000001a@20_11_2026_010203";

#[derive(Debug, Subcommand)]
pub(crate) enum NightCommand {
    /// Back up all volumes that the config names, remove old backups, report
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Show the report of the last run, or of another one, again
    Report(ReportArgs),
    /// Say how the backups stand, also for Nagios and Icinga
    #[command(after_help = STATUS_EXIT)]
    Status(StatusArgs),
    /// Keep a backup whatever its age
    #[command(after_help = PROTECT_HELP)]
    Protect(ProtectArgs),
    /// Let retention have a protected backup again
    #[command(after_help = PROTECT_HELP)]
    Unprotect(ProtectArgs),
    /// Accept the sudden change of a volume: the backup before it is no longer kept for that
    Accept(AcceptArgs),
    /// Say which backups the next run would remove, and why it keeps the others
    Prune(PruneArgs),
    /// Look whether this host can do what the config wants
    Doctor(DoctorArgs),
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
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigPath,
    /// Only say what would be done and removed, and why
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only this volume, LV or VG/LV, whatever include and exclude say; may be repeated
    #[arg(long, value_name = "VOLUME")]
    pub(crate) only: Vec<String>,
    /// The whole chain for one volume: the smallest, or that of --only
    #[arg(long)]
    pub(crate) test: bool,
    /// Remove old backups even when they are more than half of all
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// That of the last run that began on this day: 2026-11-20, 20_11_2026, today, yesterday, or "3 days ago"
    #[arg(long, value_parser = day)]
    pub(crate) date: Option<NaiveDate>,
    /// Write it as an HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Mail it again
    #[arg(long)]
    pub(crate) send: bool,
}

/// A day as people name it, by the local calendar.
fn day(text: &str) -> Result<NaiveDate, String> {
    day_of(text, Local::now().date_naive())
        .ok_or_else(|| "write a day like 2026-11-20 or 20_11_2026, or today, yesterday, or \"3 days ago\"".to_owned())
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
    /// A last backup so old is a warning
    #[arg(long, value_name = "HOURS", default_value_t = 30)]
    pub(crate) warning: u32,
    /// A last backup so old is critical
    #[arg(long, value_name = "HOURS", default_value_t = 54)]
    pub(crate) critical: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ProtectArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// The backup
    #[arg(value_name = "VOLUME@DATE")]
    pub(crate) backup: String,
}

#[derive(Debug, Args)]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// The volume
    pub(crate) volume: String,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Needed: only a run removes backups, each volume's after its new backup is complete
    #[arg(long, required = true)]
    pub(crate) dry_run: bool,
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
pub(crate) enum ConfigCommand {
    /// Check the config and the environment, and explain each mistake
    Check(ConfigPath),
    /// Print a commented config that is right as it stands
    Init,
    /// Print the lines that say of a volume: what its last backup saw is no problem
    Expect {
        #[command(flatten)]
        config: ConfigPath,
        /// The volume, LV or VG/LV
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
