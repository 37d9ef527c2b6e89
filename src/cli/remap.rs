//! `volbak remap`.

use std::path::PathBuf;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use volbak::error::ExitClass;
use volbak::outside::Cancel;
use volbak::run::remap::{RemapOptions, RemapReport, remap, undo};
use volbak::run::restore::ids::{IdMap, IdMaps, Mapping};

use super::log;
use super::output::{after_printing, print, print_json};
use super::place::UsageError;
use volbak::shown::counted;

pub(crate) const REMAP_EXAMPLES: &str = "\
Examples:
  volbak remap /var/lib/nova --uid 108:112 --gid 115:118 --dry-run   count what would be changed
  volbak remap /var/lib/nova --uid 108:112 --gid 115:118
  volbak remap /var/lib/nova --undo                                  restore the old numbers from the journal
OLD:NEW is a number or a range (1000-1999:101000-101999), as for `restore --map-uid`; 108:112 with 112:108 swaps two numbers.
After an interruption, kill -9 included, the same command continues. Exit status: 0; 3 if something was not changed.";

#[derive(Debug, Args)]
pub(crate) struct RemapArgs {
    /// The directory; mount points in it are left alone
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Change the user number OLD to NEW; may be repeated
    #[arg(long, alias = "map-uid", value_name = "OLD:NEW")]
    uid: Vec<Mapping>,
    /// Change the group number OLD to NEW; may be repeated
    #[arg(long, alias = "map-gid", value_name = "OLD:NEW")]
    gid: Vec<Mapping>,
    /// Count what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Restore the old numbers from the journal
    #[arg(long, conflicts_with_all = ["uid", "gid"])]
    undo: bool,
    /// The journal of the old numbers [default: a file in /var/lib/volbak/remap, by the directory's path]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &RemapArgs) -> anyhow::Result<ExitClass> {
    let cancel = Cancel::default();
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, cancel.flag())?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, cancel.flag())?;
    }
    let report = if args.undo {
        undo(&args.directory, args.journal.as_deref(), args.dry_run, &cancel)?
    } else {
        let map = |mappings: &[Mapping]| IdMap::new(mappings).map_err(|error| UsageError(error.to_string()));
        let maps = IdMaps { uids: map(&args.uid)?, gids: map(&args.gid)? };
        if maps.is_empty() {
            return Err(
                UsageError("no number is mapped: name some with --uid OLD:NEW or --gid OLD:NEW".to_owned()).into()
            );
        }
        let options = RemapOptions {
            directory: args.directory.clone(),
            maps,
            journal: args.journal.clone(),
            dry_run: args.dry_run,
            cancel,
        };
        remap(&options)?
    };
    for problem in &report.problems {
        log::warning(&format!("warning: {problem}"));
    }
    let more = report.problem_count.saturating_sub(report.problems.len() as u64);
    if more > 0 {
        log::warning(&format!("warning: and {more} more"));
    }
    let class = if report.problem_count > 0 { ExitClass::WithProblems } else { ExitClass::Well };
    let printed = if args.json { print_json(&report) } else { print(&text(args, &report)) };
    Ok(after_printing(printed, &format!("{} changed", counted(report.changed, "inode is", "inodes are")), class))
}

fn text(args: &RemapArgs, report: &RemapReport) -> String {
    if report.was_complete {
        let what =
            "an earlier call completed this remap; nothing is changed. To change what came since, remove its journal";
        return format!("{what}\n");
    }
    let would = if args.dry_run { "would be " } else { "" };
    let mut lines = Vec::new();
    if args.undo {
        lines.push(format!("{} {would}changed back", counted(report.changed, "inode", "inodes")));
    } else {
        lines.push(format!("{} of {} {would}changed", report.changed, counted(report.inodes, "inode", "inodes")));
        if report.resumed > 0 {
            lines.push(format!(
                "  {} in the journal of an earlier call",
                counted(report.resumed, "more is", "more are")
            ));
        }
        for (what, counts) in [("uid", &report.uids), ("gid", &report.gids)] {
            for (old, new, count) in counts {
                lines.push(format!("  {what} {old} to {new}: {count}"));
            }
        }
        let kept = report.kept;
        for (count, what) in [
            (kept.set_id, "with set-user-id or set-group-id bits, which are kept"),
            (kept.capabilities, "with capabilities, which are kept"),
            (kept.acls, "with ACLs that name a mapped number"),
            (report.further_names, "further names of inodes with several"),
            (report.other_filesystems, "mount points and other filesystems, which are left alone"),
        ] {
            if count > 0 {
                lines.push(format!("  {count} {what}"));
            }
        }
        lines.extend(report.merged.iter().map(|merged| format!("note: {merged}")));
    }
    if report.problem_count > 0 {
        lines.push(counted(report.problem_count, "problem", "problems"));
    }
    lines.push(String::new());
    lines.join("\n")
}
