//! `volbak export` and `volbak import`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use volbak::archive::kind::ArchiveKind;
use volbak::config::{Config, DEFAULT_PATH, parse_bytes};
use volbak::error::ExitClass;
use volbak::image::format::{ClusterBits, Compat, Compression, Format, Qcow2Options};
use volbak::image::make::ImageKind;
use volbak::log::{Kind, Line, Severity};
use volbak::outside::{Cancel, SystemClock, SystemCommands};
use volbak::run::backup::{AroundFreeze, BackupWorld};
use volbak::run::export::{ExportFrom, ExportOptions, ExportTarget, Exported, export as make_image};
use volbak::run::hooks;
use volbak::run::import::{self, ImportOptions};
use volbak::run::rebuild::target::TargetSpec;
use volbak::run::throttle::throttled;
use volbak::source::{self, FreezeOptions, SnapshotSize, Source, SourceError, SourceKind};
use volbak::store::Backup;
use volbak::units::ByteLen;

use super::about;
use super::log;
use super::output::{after_printing, print, print_json};
use super::place::{UsageError, Where};
use super::progress::{Progress, Verbosity};
use super::proof::{cancel, threads};

pub(crate) const EXPORT_EXAMPLES: &str = "\
Examples:
  volbak export cinder-volumes/volume-0000001a --to /nfs/volume-0000001a.qcow2 --verify
  volbak export vol-1@2026-11-20 --to vol-1.qcow2 --compress
  volbak export vol-1@last --to /nfs/vol-1.qcow2 --resume
  volbak export vol-1 --to - --format qcow2 | ssh jump 'cat >/nfs/vol-1.qcow2.part && mv /nfs/vol-1.qcow2.part /nfs/vol-1.qcow2'

The name of a volume means the volume as it is now; VOLUME@last means its last backup.";

pub(crate) const IMPORT_EXAMPLES: &str = "\
Examples:
  volbak import /nfs/vol-1.qcow2 --to-device cinder-volumes/volume-0000001b --dry-run
  volbak import /nfs/vol-1.qcow2 --to-device /dev/sdx --yes-erase=sdx
  volbak import vol-1.qcow2 --to-image vol-1.img";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    Qcow2,
    Raw,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Qcow2 => Self::Qcow2,
            FormatArg::Raw => Self::Raw,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompressArg {
    Zlib,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompatArg {
    /// Version 2
    #[value(name = "0.10")]
    V2,
    /// Version 3
    #[value(name = "1.1")]
    V3,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ExportArgs {
    /// VG/LV, the name of a volume, a device, a raw or qcow2 image, or a backup: VOLUME@DATE, VOLUME@last, an archive
    source: OsString,
    /// The image to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Format of the image [default: by the ending of FILE: .qcow2, .raw or .img]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// Format of a SOURCE that is an image file, of which a guest may have chosen the first bytes [default: by its first bytes]
    #[arg(long, value_enum, value_name = "FORMAT")]
    source_format: Option<FormatArg>,
    /// Size of a qcow2 cluster, from 512 to 2M [default: 64K]
    #[arg(long, value_name = "SIZE")]
    cluster_size: Option<ClusterBits>,
    /// Compress the clusters of a qcow2 image, with zlib unless zstd is given; not into a pipe
    #[arg(long, value_enum, value_name = "TYPE", num_args = 0..=1, require_equals = true, default_missing_value = "zlib")]
    compress: Option<CompressArg>,
    /// Version of the qcow2 format [default: 1.1]
    #[arg(long, value_enum, value_name = "VERSION")]
    compat: Option<CompatArg>,
    /// Replace FILE if it exists, when the new image is complete
    #[arg(long)]
    overwrite: bool,
    /// Continue an interrupted export of the same image, device or backup, after comparing the existing part with the
    /// source; if there is no such part, start from the beginning
    #[arg(long)]
    resume: bool,
    /// Read the image back, and compare it with what was read from the source
    #[arg(long)]
    verify: bool,
    /// Also copy the blocks that are free in the filesystems on the disk
    #[arg(long)]
    all_blocks: bool,
    /// Read at most this number of bytes per second, such as 100M [default: read_rate_limit of the config]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    read_rate: Option<u64>,
    /// Size of a thick snapshot's exception store: bytes (10G), or a share of the volume (50%)
    /// [default: that of the config, or 100%]
    #[arg(long, value_name = "SIZE")]
    snapshot_size: Option<SnapshotSize>,
    /// Directory in which the disk of a backup is rebuilt [default: the directory of FILE]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Number of compressing threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[command(flatten)]
    place: Where,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["to_device", "to_image"])))]
pub(crate) struct ImportArgs {
    /// The image: qcow2 or raw
    file: PathBuf,
    /// Write the disk to this block device: /dev/…, or VG/LV
    #[arg(long, value_name = "DEV")]
    to_device: Option<PathBuf>,
    /// Write the disk as this raw image
    #[arg(long, value_name = "FILE")]
    to_image: Option<PathBuf>,
    /// Format of the image [default: by its first bytes]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// Erase the contents of the target; NAME is the last component of its path
    #[arg(long, value_name = "NAME", require_equals = true)]
    yes_erase: Option<String>,
    /// Print what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let right = || "write a number of bytes, or a number with K, M, G or T, such as 100M".to_owned();
    parse_bytes(text).filter(|bytes| *bytes > 0).ok_or_else(right)
}

/// What is exported.
enum Chosen {
    Source(Box<Source>),
    Backup(Backup),
}

pub(crate) fn export(args: &ExportArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let kind = kind(args)?;
    let to_stream = args.to.as_os_str() == "-";
    if to_stream {
        check_stream(args)?;
    }
    let config = match (&args.place.config, Path::new(DEFAULT_PATH).exists()) {
        (None, false) => None,
        _ => args.place.place()?.config,
    };
    let cancel = cancel()?;
    let from = find(args).map_err(|error| about(&args.source, error))?;
    let (freeze, around) = snapshot_options(args, config.as_ref(), &from, &cancel);
    let to = if to_stream {
        ExportTarget::Stream(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    } else {
        ExportTarget::File { path: args.to.clone(), overwrite: args.overwrite, resume: args.resume }
    };
    let rate = args.read_rate.or_else(|| config.as_ref().and_then(|config| config.read_rate_limit));
    let progress = Arc::new(Progress::new(verbosity));
    let world = BackupWorld {
        commands: Arc::new(SystemCommands),
        clock: Arc::new(SystemClock),
        observer: throttled(progress.clone(), rate, &cancel),
        cancel,
    };
    let mut options = ExportOptions::new(kind, to);
    options.verify = args.verify;
    options.all_blocks = args.all_blocks;
    options.threads = threads(args.threads);
    options.freeze = freeze;
    options.around = around;
    let from = match from {
        Chosen::Source(source) => ExportFrom::Source(source),
        Chosen::Backup(files) => {
            let beside = args.to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            ExportFrom::Backup { files, scratch: args.scratch.clone().unwrap_or_else(|| beside.to_owned()) }
        }
    };
    let done = make_image(from, options, &world);
    progress.done();
    let done = done.map_err(|error| about(&args.source, error.into()))?;
    let class = if done.has_problems() { ExitClass::WithProblems } else { ExitClass::Well };
    if to_stream {
        log::write(Line::new(Severity::Info, Kind::Message, shown_export(&done)));
        return Ok(class);
    }
    let printed = if args.json { print_json(&done) } else { print(&(shown_export(&done) + "\n")) };
    Ok(after_printing(printed, &format!("the image {} is made", done.target), class))
}

/// The kind of image that the arguments ask for.
fn kind(args: &ExportArgs) -> Result<ImageKind, UsageError> {
    let format = args.format.map(Format::from).or_else(|| Format::of_name(&args.to)).ok_or_else(|| {
        let to = args.to.display();
        UsageError(format!("{to}: the format does not follow from the file name: use --format qcow2 or --format raw"))
    })?;
    if format == Format::Raw {
        let given = [("--cluster-size", args.cluster_size.is_some()), ("--compress", args.compress.is_some())];
        if let Some((option, _)) =
            given.into_iter().chain([("--compat", args.compat.is_some())]).find(|(_, given)| *given)
        {
            return Err(UsageError(format!("{option} is for qcow2 images, and the format is raw")));
        }
        return Ok(ImageKind::Raw);
    }
    let compression = args.compress.map(|compress| match compress {
        CompressArg::Zlib => Compression::Zlib,
        CompressArg::Zstd => Compression::Zstd,
    });
    let compat = args.compat.map_or_else(Compat::default, |compat| match compat {
        CompatArg::V2 => Compat::V2,
        CompatArg::V3 => Compat::V3,
    });
    if compat == Compat::V2 && compression == Some(Compression::Zstd) {
        return Err(UsageError("--compress=zstd needs --compat 1.1".to_owned()));
    }
    Ok(ImageKind::Qcow2(Qcow2Options { compat, cluster: args.cluster_size.unwrap_or_default(), compression }))
}

/// Refuses what a stream cannot have.
fn check_stream(args: &ExportArgs) -> Result<(), UsageError> {
    let wrong = if io::stdout().is_terminal() {
        "an image is not written to a terminal: redirect standard output, or use --to FILE"
    } else if args.compress.is_some() {
        "--compress needs a file: where the tables of a compressed image are is known only at its end"
    } else if args.verify {
        "--verify needs a file: a pipe cannot be read back"
    } else if args.resume {
        "--resume needs a file: what went into a pipe cannot be compared"
    } else if args.json {
        "--json needs --to FILE: the image goes to standard output"
    } else {
        return Ok(());
    };
    Err(UsageError(wrong.to_owned()))
}

/// Finds the source or the backup.
fn find(args: &ExportArgs) -> anyhow::Result<Chosen> {
    let text = args.source.to_str().unwrap_or_default();
    let path = Path::new(&args.source);
    let backup = |text: &str| -> anyhow::Result<Chosen> {
        if args.source_format.is_some() {
            return Err(UsageError(format!("--source-format is for image files, and {text} is a backup")).into());
        }
        let files = args.place.find(text)?;
        if args.to.as_os_str() == "-" && args.scratch.is_none() && !files.kind().is_image() {
            return Err(UsageError("a backup of files is rebuilt in a file first: use --scratch DIR".to_owned()).into());
        }
        Ok(Chosen::Backup(files))
    };
    if ArchiveKind::of_name(text).is_some() || (text.contains('@') && !path.exists()) {
        return backup(text);
    }
    match source::resolve_as(&args.source, args.source_format.map(Format::from), &SystemCommands) {
        Ok(source) => Ok(Chosen::Source(Box::new(source))),
        Err(error @ (SourceError::NotFound { .. } | SourceError::NotRun { .. })) if !text.contains('/') => {
            // No volume has this name any more; its backups may.
            backup(text).map_err(|other| if other.is::<UsageError>() { other } else { error.into() })
        }
        Err(error) => Err(error.into()),
    }
}

/// How the snapshot of a volume is taken, by the config and the arguments.
fn snapshot_options(
    args: &ExportArgs,
    config: Option<&Config>,
    from: &Chosen,
    cancel: &Cancel,
) -> (FreezeOptions, Option<Arc<dyn AroundFreeze>>) {
    let (mut freeze, mut around) = (FreezeOptions::default(), None);
    if let (Chosen::Source(source), Some(config)) = (from, config)
        && let SourceKind::Volume(facts) = source.kind()
    {
        let wanted = config.for_volume(&facts.vg, source.backup_name());
        around = hooks::around(&wanted.hooks, &facts.vg, &facts.lv, cancel);
        freeze = wanted.snapshot;
    }
    if let Some(size) = args.snapshot_size {
        freeze.snapshot_size = size;
    }
    (freeze, around)
}

fn shown_export(done: &Exported) -> String {
    let stored = done.stored_bytes.map_or_else(String::new, |bytes| format!(", {} on disk", ByteLen(bytes)));
    let kept =
        if done.kept_bytes > 0 { format!(", {} of it were there", ByteLen(done.kept_bytes)) } else { String::new() };
    let verified = if done.verified { ", read back and equal" } else { "" };
    format!(
        "{}: {} image of {} ({}): {} read, {} long{kept}{stored}, in {} s{verified}",
        done.target,
        done.format,
        done.source,
        ByteLen(done.disk_bytes),
        ByteLen(done.read_bytes),
        ByteLen(done.image_bytes),
        done.seconds,
    )
}

pub(crate) fn import(args: &ImportArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let target = match (&args.to_device, &args.to_image) {
        (Some(device), _) => TargetSpec::Device(device.clone()),
        (None, Some(image)) => TargetSpec::Image(image.clone(), None),
        (None, None) => anyhow::bail!("name a target: --to-device or --to-image"),
    };
    let mut options = ImportOptions::new(args.file.clone(), target);
    options.format = args.format.map(Format::from);
    options.yes_erase.clone_from(&args.yes_erase);
    options.cancel = cancel()?;
    let prepared = import::prepare(&options, &SystemCommands)?;
    let text = prepared.plan_as_text();
    if args.dry_run {
        let needs = prepared.needs(&options);
        if args.json {
            print_json(&serde_json::json!({ "plan": text, "lost": prepared.on_target(), "needs": needs }))?;
        } else {
            let needs = needs.map_or_else(String::new, |needs| {
                format!("  needs:  {needs}, which erases the target; without it nothing is written\n")
            });
            print(&(text + &needs))?;
        }
        return Ok(ExitClass::Well);
    }
    if !args.json && verbosity > Verbosity::Quiet {
        print(&text)?;
    }
    let progress = Progress::new(verbosity);
    let name = prepared.target_name().to_owned();
    let done = import::import(prepared, &options, &SystemCommands, &progress);
    progress.done();
    let done = done.with_context(|| args.file.display().to_string())?;
    let class = if done.has_problems() { ExitClass::WithProblems } else { ExitClass::Well };
    let printed = if args.json {
        print_json(&done)
    } else {
        print(&format!(
            "{name}: {} of data written, read back and equal, in {} s\n",
            ByteLen(done.data_bytes),
            done.seconds
        ))
    };
    Ok(after_printing(printed, &format!("the import to {name} is done"), class))
}
