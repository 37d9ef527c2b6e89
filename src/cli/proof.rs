//! The verbs that read backups: `restore`, `cat`, `diff`.

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use volbak::archive::kind::ArchiveKind;
use volbak::error::ExitClass;
use volbak::outside::Cancel;
use volbak::outside::host::processors;
use volbak::run::browse::{self, Change};
use volbak::run::restore::dry_run::{DryRun, dry_run};
use volbak::run::restore::{self, Existing, RestoreOptions};
use volbak::run::sets::LocatedSet;
use volbak::shown::counted;
use volbak::store::Backup;
use volbak::units::ByteLen;

use super::disk::{DiskArgs, Work, restore_disk};
use super::log;
use super::of_volume::VolumeArgs;
use super::output::{Output, after_printing, lacking_in_backup, print, print_json};
use super::owners::{OwnerArgs, owners_as_text};
use super::place::Where;
use super::progress::{Progress, Verbosity};
#[cfg(feature = "openstack")]
use super::to_volume::restore_to_volume;

pub(crate) const RESTORE_EXAMPLES: &str = "\
Examples:
  volbak restore /backups/vol-1/vol-1_20_11_2026.tar.gz --to /mnt
  volbak restore vol-1@2026-11-19 --to /mnt --path etc/ssh --path 'var/log/*.gz'
  volbak restore vol-1 --destination /backups --to /mnt --resume

A whole filesystem, into an empty one that is mounted:
  volbak restore vol-1 --to /mnt --top --keep-setid --devices

A whole disk, with its partitions, filesystems and boot code:
  volbak restore vol-1 --to-image restored.img
  volbak restore vol-1 --to-device /dev/cinder-volumes/volume-0000001b --dry-run
  volbak restore vol-1 --to-device /dev/sdx --yes-erase=sdx
  volbak restore vol-1 --to-volume --attach web-1

One partition, with its filesystem, into a logical volume or partition that exists:
  volbak restore vol-1 --region p2 --to-device cinder-volumes/data --yes-erase=data";

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["to", "to_device", "to_image", "to_volume"])))]
pub(crate) struct RestoreArgs {
    /// VOLUME, VOLUME@DATE, VOLUME@DATE_HHMMSS, VOLUME@last, the path of an archive, or GROUP or GROUP@DATE (all
    /// volumes of a set, each in DIR/VOLUME)
    backup: String,
    #[command(flatten)]
    place: Where,
    /// The directory to restore into; created if it does not exist
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    disk: DiskArgs,
    #[command(flatten)]
    volume: VolumeArgs,
    /// Restore only this region, by its name in `volbak inspect` and in the report (p2): its files into DIR, or all
    /// of it onto DEV or into FILE
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Restore only this file or directory, or the files that match this pattern; may be repeated. The path starts in the
    /// region given, or in the only filesystem of the backup
    #[arg(long = "path", value_name = "PATTERN", conflicts_with_all = ["disk", "volume"])]
    paths: Vec<String>,
    /// Replace existing files
    #[arg(long, conflicts_with_all = ["resume", "disk", "volume"])]
    overwrite: bool,
    /// Continue an interrupted restore: existing files with equal content are not written again
    #[arg(long, conflicts_with_all = ["disk", "volume"])]
    resume: bool,
    /// Also create device files; needs root
    #[arg(long, conflicts_with_all = ["disk", "volume"])]
    devices: bool,
    /// Also set the owner, mode, times and attributes of DIR, from the root directory of the backup
    #[arg(long, conflicts_with_all = ["disk", "volume"])]
    top: bool,
    /// Keep set-user-ID and set-group-ID bits and file capabilities even if other users can reach the files
    #[arg(long, conflicts_with_all = ["disk", "volume"])]
    keep_setid: bool,
    /// Print what would be restored, with the owners of the files, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    owners: OwnerArgs,
    /// Do not compare digests during the restore
    #[arg(long, conflicts_with_all = ["disk", "volume"])]
    no_verify: bool,
    /// Number of decompressing threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// VOLUME:PATH, VOLUME@DATE:PATH or ARCHIVE:PATH
    #[arg(value_name = "BACKUP:PATH")]
    file: String,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The earlier backup: an archive, or VOLUME or VOLUME@DATE
    before: String,
    /// The later backup
    after: String,
    #[command(flatten)]
    place: Where,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn restore(args: &RestoreArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    if let Some(to) = &args.to
        && let Some(set) = args.place.find_set(&args.backup)?
    {
        return restore_set(args, &set, to, verbosity);
    }
    let files = args.place.find(&args.backup)?;
    let Some(to) = &args.to else {
        let (threads, json, dry_run) = (threads(args.threads), args.json, args.dry_run);
        let region = args.region.clone();
        let ids = match args.owners.wish() {
            Ok(wish) => wish,
            Err(class) => return Ok(class),
        };
        let (cancel, volume) = (cancel()?, None);
        let mut work = Work { threads, cancel, verbosity, json, dry_run, region, ids, volume, is_complete: false };
        if args.volume.is_asked() {
            #[cfg(feature = "openstack")]
            return restore_to_volume(&args.volume, &args.disk, &args.place, &files, &mut work);
            #[cfg(not(feature = "openstack"))]
            anyhow::bail!("--to-volume asks the cloud: this volbak was built without the feature `openstack`");
        }
        return restore_disk(&args.disk, &files, &mut work);
    };
    restore_files(args, &files, to, cancel()?, verbosity)
}

/// Restores each member of a set below `to`.
fn restore_set(args: &RestoreArgs, set: &LocatedSet, to: &Path, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    if args.json {
        log::error("--json is for one backup: name each volume of the group");
        return Ok(ExitClass::Usage);
    }
    if !args.dry_run {
        let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(to);
        made.with_context(|| format!("creating {}", to.display()))?;
    }
    let mut class = if set.is_whole() { ExitClass::Well } else { ExitClass::WithProblems };
    let cancel = cancel()?;
    for (volume, files) in &set.backups {
        match restore_files(args, files, &to.join(volume), cancel.clone(), verbosity) {
            Ok(ExitClass::WithProblems) if matches!(class, ExitClass::Well) => class = ExitClass::WithProblems,
            Ok(ExitClass::Well | ExitClass::WithProblems) => {}
            Ok(other) => return Ok(other),
            Err(error) if cancel.is_cancelled() => return Err(error),
            Err(error) => {
                log::error(&format!("{volume}: {error:#}"));
                class = ExitClass::Failed;
            }
        }
    }
    Ok(class)
}

fn restore_files(
    args: &RestoreArgs,
    files: &Backup,
    to: &Path,
    cancel: Cancel,
    verbosity: Verbosity,
) -> anyhow::Result<ExitClass> {
    let mut options = RestoreOptions::into_directory(to);
    options.region.clone_from(&args.region);
    options.paths.clone_from(&args.paths);
    options.existing = match (args.overwrite, args.resume) {
        (true, _) => Existing::Overwrite,
        (_, true) => Existing::Resume,
        _ => Existing::Keep,
    };
    options.verify = !args.no_verify;
    options.devices = args.devices;
    options.top = args.top;
    options.keep_set_id = args.keep_setid;
    options.ids = match args.owners.wish() {
        Ok(wish) => wish,
        Err(class) => return Ok(class),
    };
    options.threads = threads(args.threads);
    options.cancel = cancel;
    let progress = Progress::new(verbosity);
    if args.dry_run {
        let found = dry_run(files, &options, &progress).with_context(|| files.stem().to_owned())?;
        progress.done();
        if args.json {
            print_json(&found)?;
        } else {
            print(&shown_dry_run(&found, &options))?;
        }
        let well = found.unreadable == 0 && found.merged.is_empty() && found.lacking_bytes() == 0;
        return Ok(if well { ExitClass::Well } else { ExitClass::WithProblems });
    }
    restore_now(files, &options, args.json, &progress)
}

/// Restores these files and directories of a backup, with their paths in it, into `to`, as `volbak restore --path` does.
pub(crate) fn restore_paths(files: &Backup, to: &Path, paths: Vec<String>) -> anyhow::Result<ExitClass> {
    let mut options = RestoreOptions::into_directory(to);
    options.paths = paths;
    options.cancel = cancel()?;
    restore_now(files, &options, false, &Progress::new(Verbosity::Normal))
}

fn restore_now(files: &Backup, options: &RestoreOptions, json: bool, progress: &Progress) -> anyhow::Result<ExitClass> {
    let report = restore::restore(files, options, progress).with_context(|| files.stem().to_owned())?;
    progress.done();
    let printed = if json {
        print_json(&report)
    } else {
        let verified = if report.verified { "" } else { ", not compared with an index" };
        let stripped = match report.stripped {
            0 => String::new(),
            count => format!(", {count} without set-id bits or capabilities"),
        };
        print(&format!(
            "{}: {} restored, {} there already, {} left out, {} failed{stripped}{verified}{}\n",
            options.to.display(),
            counted(report.restored, "entry", "entries"),
            report.present,
            report.left_out,
            report.failed,
            lacking_in_backup(report.damaged_in_backup, report.backup_errors),
        ))
    };
    let is_exact = report.shortfalls.is_empty() && report.merged_ids.is_empty();
    let whole = report.is_complete() && report.is_as_the_source_was() && is_exact;
    let class = if whole { ExitClass::Well } else { ExitClass::WithProblems };
    Ok(after_printing(printed, &format!("the restore into {} is done", options.to.display()), class))
}

/// The plan of a restore as text.
fn shown_dry_run(found: &DryRun, options: &RestoreOptions) -> String {
    let (entries, bytes) = (counted(found.entries, "entry", "entries"), ByteLen(found.data_bytes));
    let mut text = format!("{}: {entries} with {bytes} would be restored\n", options.to.display());
    let needed = ByteLen(found.needed_bytes);
    match (found.available_bytes, found.lacking_bytes()) {
        (None, _) => text.push_str(&format!("  about {needed} would be written\n")),
        (Some(available), 0) => {
            text.push_str(&format!(
                "  about {needed} would be written, and the target has {} left\n",
                ByteLen(available)
            ));
        }
        (Some(available), lacking) => text.push_str(&format!(
            "  NO ROOM: about {needed} would be written, and the target has {} left: {} too little\n",
            ByteLen(available),
            ByteLen(lacking)
        )),
    }
    if found.devices > 0 && !options.devices {
        let devices = counted(found.devices, "device", "devices");
        text.push_str(&format!("  {devices} would be left out; --devices creates them\n"));
    }
    if found.set_id_files > 0 {
        let files = counted(found.set_id_files, "file has", "files have");
        text.push_str(&format!("  {files} set-id bits or capabilities\n"));
    }
    text.push_str(&owners_as_text(found));
    text.push_str("nothing was written\n");
    text
}

/// Flushes the output. A closed pipe (`| head`) is no error.
pub(crate) fn ended(
    given: Result<u64, browse::BrowseError>,
    mut out: io::BufWriter<Output>,
) -> anyhow::Result<ExitClass> {
    let written = match given {
        Err(browse::BrowseError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => {
            other?;
            out.flush()
        }
    };
    // Dropping the writer itself would try to write its buffer again.
    drop(out.into_parts());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitClass::Well),
    }
}

pub(crate) fn cat(args: &CatArgs) -> anyhow::Result<ExitClass> {
    say_when_interrupted()?;
    // The path of an archive may contain a colon.
    let after = |suffix: &str| args.file.find(&format!("{suffix}:")).map(|at| args.file.split_at(at + suffix.len()));
    let after_archive = ArchiveKind::ALL.into_iter().find_map(|kind| after(kind.suffix()));
    let split = after_archive.map(|(backup, path)| (backup, &path[1..])).or_else(|| args.file.split_once(':'));
    let (backup, path) = split.context("write BACKUP:PATH, for example vol-1@2026-11-20:etc/hosts")?;
    let files = args.place.find(backup)?;
    let mut out = io::BufWriter::with_capacity(256 << 10, Output::new());
    let given = browse::cat(&files, path, &cancel()?, &mut out);
    let doubt = given.as_ref().ok().and_then(|printed| printed.doubt.clone());
    let class = ended(given.map(|printed| printed.bytes), out)?;
    let Some(doubt) = doubt else { return Ok(class) };
    log::warning(&format!("{}: {doubt}", volbak::shown::text(path)));
    Ok(ExitClass::WithProblems)
}

pub(crate) fn diff(args: &DiffArgs) -> anyhow::Result<ExitClass> {
    say_when_interrupted()?;
    let differences = browse::diff(&args.place.find(&args.before)?, &args.place.find(&args.after)?, &cancel()?)?;
    if args.json {
        print_json(&serde_json::json!({ "differences": differences }))?;
        return Ok(ExitClass::Well);
    }
    let mut text = String::new();
    for difference in differences {
        let sign = match difference.change {
            Change::Added => "+",
            Change::Removed => "-",
            Change::Content => "M",
            Change::Attributes => "a",
        };
        text.push_str(&format!("{sign} {}\n", shown(&difference.path)));
    }
    print(&text)?;
    Ok(ExitClass::Well)
}

/// A path in the backup, as shown in lists. The path of the root is empty.
pub(crate) fn shown(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { volbak::shown::text(path) }
}

pub(crate) fn threads(wanted: Option<u16>) -> usize {
    wanted.map_or_else(processors, usize::from)
}

/// For verbs that only read: a signal ends the process at once, with a message.
pub(crate) fn say_when_interrupted() -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            log::warning("interrupted");
            log::end();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// A cancellation that Ctrl-C, SIGTERM and SIGHUP set. A second Ctrl-C ends the process at once.
pub(crate) fn cancel() -> anyhow::Result<Cancel> {
    let cancel = Cancel::default();
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, cancel.flag())?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, cancel.flag())?;
    }
    Ok(cancel)
}
