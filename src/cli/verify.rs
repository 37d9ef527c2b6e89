//! `volbak verify`.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::TimeDelta;
use clap::{Args, ValueEnum};
use volbak::error::ExitClass;
use volbak::events::{Event, Observer, Severity};
use volbak::log::{Kind, Line};
use volbak::outside::{Clock, RunCommand, SystemClock, SystemCommands};
use volbak::run::boot::{BootOptions, BootOutcome, Interrupted, boot};
use volbak::run::catalogue;
use volbak::run::check::record::Record;
use volbak::run::check::{CheckLevel, Verdict};
use volbak::run::unsigned::{PlainBackups, Seen, is_expected};
use volbak::run::verify::choose::{DueBackup, MOST_WITHOUT_VERDICT, in_turn};
use volbak::run::verify::{Surroundings, VerifyOptions, VerifyReport, many};
use volbak::shown::counted;
use volbak::store::at_once::AtOnce;
use volbak::store::catalog::{self, CatalogEntry};
use volbak::store::{Backup, is_in_object_store};

use super::log;
use super::output::{after_printing, print, print_json};
use super::place::{Place, Where};
use super::progress::{Progress, Verbosity};
use super::proof::{cancel, threads};

pub(crate) const VERIFY_EXAMPLES: &str = "\
Examples:
  volbak verify /backups/vol-1/vol-1_20_11_2026.tar.gz
  volbak verify vol-1 vol-2@2026-11-19
  volbak verify --destination /backups --all --quick --json
  volbak verify --older-than 30 --sample 5";

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["backups", "all", "sample", "older_than"])))]
pub(crate) struct VerifyArgs {
    /// VOLUME, VOLUME@DATE, VOLUME@DATE_HHMMSS, VOLUME@last, paths of archives, or GROUP or GROUP@DATE (all volumes
    /// of a set)
    #[arg(value_name = "BACKUP")]
    backups: Vec<String>,
    #[command(flatten)]
    place: Where,
    /// All backups of the destination; the default with --sample and --older-than
    #[arg(long, conflicts_with = "backups")]
    all: bool,
    /// Verify only N of them: first those that were never verified, then those verified longest ago
    #[arg(long, value_name = "N")]
    sample: Option<u32>,
    /// Verify only those that were not verified at this level or a higher one in the last DAYS days
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    /// The extent of the verification
    #[arg(long, value_enum, default_value_t)]
    level: LevelArg,
    /// Same as --level quick
    #[arg(long, conflicts_with = "level")]
    quick: bool,
    /// Same as --level restore-test
    #[arg(long, conflicts_with_all = ["level", "quick"])]
    restore_test: bool,
    /// Also boot the disk in an emulator, after a restore test; [rehearse] in the config has the settings
    #[arg(long, conflicts_with_all = ["level", "quick"])]
    boot: bool,
    /// Also read the archive with flate2 and the tar crate, and compare the result with the index; implied by a restore test
    #[arg(long, conflicts_with = "quick")]
    second_opinion: bool,
    /// Directory for the filesystem of the restore test
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    scratch: PathBuf,
    /// Number of decompressing threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Do not write the result to the record beside the backup
    #[arg(long)]
    no_record: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LevelArg {
    /// The files of the backup exist and are consistent
    Quick,
    /// Every byte of the archive, and every file against the index
    #[default]
    Full,
    /// Also restore into a test filesystem, and compare
    RestoreTest,
}

impl VerifyArgs {
    fn level(&self) -> CheckLevel {
        match (self.quick, self.restore_test || self.boot, self.level) {
            (true, ..) | (.., LevelArg::Quick) => CheckLevel::Quick,
            (_, true, _) | (.., LevelArg::RestoreTest) => CheckLevel::RestoreTest,
            (.., LevelArg::Full) => CheckLevel::Full,
        }
    }

    fn boot_options(&self, options: &VerifyOptions) -> BootOptions {
        let config = self.place.place().ok().and_then(|place| place.config);
        let mut how = BootOptions::of(&config.map(|config| config.rehearse).unwrap_or_default());
        how.scratch.clone_from(&options.scratch);
        how.threads = options.threads;
        how.cancel = options.cancel.clone();
        how
    }

    /// The backups to verify, in order, and whether there is a problem with the choice: a set that was named lacks a member, or a
    /// plain backup is newer than encrypted ones, and should be encrypted.
    fn chosen(&self) -> anyhow::Result<(Vec<Backup>, bool)> {
        let (mut named, mut has_problem, mut is_any_doubtful) = (Vec::new(), false, false);
        for backup in &self.backups {
            if let Some(set) = self.place.find_set(backup)? {
                has_problem |= !set.is_whole();
                is_any_doubtful |= set.is_doubtful;
                named.extend(set.backups.into_iter().map(|(_, files)| files));
            } else {
                let located = self.place.find_even_bad(backup)?;
                is_any_doubtful |= located.is_doubtful;
                named.push(located.files);
            }
        }
        let (all, has_doubtful) = if named.is_empty() {
            all_of(&self.place.place()?)?
        } else {
            let config = self.place.place().ok().and_then(|place| place.config);
            (named, is_any_doubtful && is_expected(config.as_ref()))
        };
        has_problem |= has_doubtful;
        if self.sample.is_none() && self.older_than.is_none() {
            // In the order of the arguments.
            return Ok((all, has_problem));
        }
        let level = if self.boot { CheckLevel::Boot } else { self.level() };
        let candidates = AtOnce::default().map(all, |files| DueBackup::read(files, level));
        let older_than = self.older_than.map(|days| TimeDelta::days(days.into()));
        Ok((in_turn(candidates, older_than, SystemClock.now()), has_problem))
    }
}

pub(crate) fn verify(args: &VerifyArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let mut options = VerifyOptions::at(args.level());
    options.second_opinion = args.second_opinion;
    options.threads = threads(args.threads);
    options.scratch.clone_from(&args.scratch);
    options.cancel = cancel()?;
    anyhow::ensure!(
        options.level > CheckLevel::Quick || !options.second_opinion,
        "--second-opinion reads the archive, and --level quick does not: use --level full"
    );
    let (mut backups, has_problem) = args.chosen()?;
    let how_to_boot = args.boot.then(|| args.boot_options(&options));
    let progress = Progress::new(verbosity);
    let commands: Arc<dyn RunCommand> = Arc::new(SystemCommands);
    let around = Surroundings { observer: &progress, clock: &SystemClock, commands: &SystemCommands };
    let mut class = if has_problem { ExitClass::WithProblems } else { ExitClass::Well };
    let mut reports = Vec::new();
    let sample = args.sample.map_or(backups.len(), |sample| usize::try_from(sample).unwrap_or(usize::MAX));
    let wanted = sample.min(backups.len());
    // In place of those that cannot be read, whose turn it would be each time, others are verified.
    backups.truncate(wanted + MOST_WITHOUT_VERDICT);
    progress.on_event(&Event::RunStarted { sources: wanted as u64, bytes: 0 });
    let without_verdict =
        many::verify_each(&backups, wanted, &options, around, !args.no_record, &mut |files, mut verified| {
            progress.done();
            let mut report = verified.report;
            if let Some(how) = how_to_boot.as_ref().filter(|_| report.verdict != Verdict::Bad) {
                // An interruption ends the run with the next backup, or below.
                let Ok(outcome) = boot(files, how, &commands, &progress) else { return };
                progress.done();
                if matches!(outcome, BootOutcome::NotUp { .. }) {
                    class = class.max(ExitClass::WithProblems);
                }
                report.add_boot(outcome);
                if !args.no_record {
                    verified.recorded = Some(report.save_record(files));
                }
            }
            let said = match verified.recorded {
                None => None,
                Some(Ok(record)) => still_bad(&record, &report),
                Some(Err(error)) => {
                    class = class.max(ExitClass::WithProblems);
                    Some(format!("{}: not recorded: {error}", files.record_path().display()))
                }
            };
            if let Some(what) = said {
                log::write(
                    Line::new(Severity::Warning.into(), Kind::Message, what).about(Some(many::source_name(files))),
                );
            }
            if report.verdict == Verdict::Bad {
                class = ExitClass::Failed;
            } else if report.manifest_lost || report.is_without_its_restore_test() {
                class = class.max(ExitClass::WithProblems);
            }
            if !args.json {
                // After an error the remaining backups are still verified, and their verdicts recorded.
                class = after_printing(print(&format!("{}\n", report.summary())), &report.summary(), class);
            }
            reports.push(report);
        })?;
    progress.done();
    if !without_verdict.is_empty() {
        class = ExitClass::Failed;
    }
    anyhow::ensure!(!(args.boot && options.cancel.is_cancelled()), Interrupted);
    if !args.no_record {
        class = class.max(note_in_catalogue(args, &progress)?);
    }
    let verified = reports.len() as u64;
    let printed = if args.json {
        print_json(&serde_json::json!({ "backups": reports, "without_verdict": without_verdict }))
    } else if backups.is_empty() {
        print("no backup is due for verification\n")
    } else {
        Ok(())
    };
    Ok(after_printing(printed, &format!("{} verified", counted(verified, "backup is", "backups are")), class))
}

/// Writes the new records into the catalogue of an object store.
fn note_in_catalogue(args: &VerifyArgs, progress: &Progress) -> anyhow::Result<ExitClass> {
    // Backups that were named by their paths need no destination.
    let Some(place) = args.place.place().ok().filter(|place| is_in_object_store(&place.root)) else {
        return Ok(ExitClass::Well);
    };
    let is_written = catalogue::note(&place.open()?, "verify", progress);
    progress.done();
    Ok(if is_written { ExitClass::Well } else { ExitClass::WithProblems })
}

/// The warning about a bad backup that this verification was not thorough enough to clear.
fn still_bad(record: &Record, report: &VerifyReport) -> Option<String> {
    let bad = record.decisive().filter(|result| result.verdict == Verdict::Bad)?;
    if report.verdict == Verdict::Bad {
        return None;
    }
    let (level, second) = match (bad.level, bad.second_opinion) {
        (CheckLevel::Quick, _) => ("quick", ""),
        (CheckLevel::Full, None) => ("full", ""),
        (CheckLevel::Full, Some(_)) => ("full", " with --second-opinion"),
        (CheckLevel::RestoreTest | CheckLevel::Boot, _) => ("restore-test", ""),
    };
    let everything = if report.reached.is_some() { ", which can check everything," } else { "" };
    Some(format!(
        "{}: it stays BAD since the verification of {}: only a verification of level {level}{second}{everything} can clear it",
        report.stem,
        bad.verified_at.format("%Y-%m-%d")
    ))
}

/// All backups of a destination, and whether a plain one is newer than encrypted ones, and should be encrypted. An empty
/// destination is an error: the directory below a missing mount is empty.
fn all_of(place: &Place) -> anyhow::Result<(Vec<Backup>, bool)> {
    let destination = place.open()?;
    let of_entry = |entry: CatalogEntry| (entry.files(), Seen::of(&entry));
    let volumes = catalog::volumes(&destination, &destination.volume_names()?, of_entry)?;
    let (backups, seen): (Vec<Backup>, Vec<Option<Seen>>) =
        volumes.into_iter().flat_map(|volume| volume.backups).unzip();
    let is_expected = is_expected(place.config.as_ref());
    let plain = PlainBackups::of(seen.into_iter().flatten(), is_expected);
    plain.lines().for_each(|line| log::warning(line));
    anyhow::ensure!(
        !backups.is_empty(),
        "{} has no backups to verify: is this the right destination, and is it mounted?",
        place.root.display()
    );
    Ok((backups, is_expected && !plain.doubtful.is_empty()))
}
