//! Arguments as they are typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use volbak::archive::kind::Compression;
use volbak::archive::level::CompressionLevel;
use volbak::config::parse_bytes;
use volbak::reader::exclude::{BadPattern, Excludes};
use volbak::source::SnapshotSize;

use super::browse::BrowseArgs;
use super::cloud::CloudCommand;
use super::copy::{COPY_EXAMPLES, CopyArgs};
use super::export::{EXPORT_EXAMPLES, ExportArgs, FormatArg, IMPORT_EXAMPLES, ImportArgs};
use super::fleet::{FLEET_EXAMPLES, FleetArgs};
use super::history::{FIND_EXAMPLES, FindArgs, LOG_EXAMPLES, LogArgs};
use super::keys::KeyArgs;
use super::list::{LIST_EXAMPLES, ListArgs};
use super::log::LogForm;
#[cfg(feature = "mount")]
use super::mount::{MOUNT_EXAMPLES, MountArgs};
use super::night_args::NightCommand;
use super::place::WhereTo;
use super::progress::ProgressForm;
use super::proof::{CatArgs, DiffArgs, RESTORE_EXAMPLES, RestoreArgs};
use super::remap::{REMAP_EXAMPLES, RemapArgs};
#[cfg(feature = "s3")]
use super::store::StoreCommand;
use super::terminal::ColourArg;
use super::verify::{VERIFY_EXAMPLES, VerifyArgs};

/// Back up block volumes while instances write to them, and restore with plain tar.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = format!("{EXIT_STATUS}\n\n{}", TOPICS))]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print problems and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more details
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Where and how log lines are written: `text` or `json` (one object per line) on standard error, or `journal`
    /// (systemd's journal, with fields); `auto` uses the journal if standard error is connected to it, else text
    /// [default: VOLBAK_LOG, or auto]
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    pub(crate) log: Option<LogForm>,
    /// How progress is shown: `auto`, a bar at a terminal and a line each minute elsewhere; `json`, a JSON line each
    /// second, with all log lines as JSON, too; `none`, not at all
    #[arg(long, global = true, value_enum, value_name = "FORM", default_value = "auto")]
    pub(crate) progress: ProgressForm,
    /// When `list`, `status` and `doctor` use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: ColourArg,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

pub(crate) const EXIT_STATUS: &str = "\
Exit status: 0 success; 1 the command failed, or a volume did; 2 wrong usage or config; 3 finished, with problems reported; \
4 another run holds the lock of the destination.";

const TOPICS: &str = "Topics: volbak help retention, volbak help restore, volbak help exit-status.

volbak --version --verbose prints the features, formats and libraries of this program.";

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  volbak snapshot vol-1                                      destination and settings from the config
  volbak snapshot vol-1 --destination /backups
  volbak snapshot cinder-volumes/volume-0000001a --to /backups --level 3
  volbak snapshot guest.img --to /backups --exclude '/var/cache' --exclude '*.tmp'
  volbak snapshot vol-2 --to /backups --image                all of it, byte for byte, instead of its files

To restore with tar alone, as root:
  cd /backups/vol-1 && sha1sum -c vol-1_20_11_2026.checksum
  tar --xattrs --xattrs-include='*' --acls --numeric-owner -xpzf vol-1_20_11_2026.tar.gz -C /mnt

To restore an image with gunzip alone, as root:
  gunzip -c vol-2_20_11_2026.img.gz | dd of=/dev/cinder-volumes/vol-2 bs=1M";

const INSPECT_EXAMPLES: &str = "\
Examples:
  volbak inspect vol-1
  volbak inspect /dev/sdb
  volbak inspect --json guest.img";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the partitions, filesystems and nested LVM of a volume
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Back up volumes from snapshots: the files as a tar.gz, or the whole volume as an img.gz, with checksum and
    /// manifest
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// List the backups in a destination with their state
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Verify backups: compare every byte with the recorded digests
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Restore a backup or a part of it: files into a directory, or the whole disk onto a device, an image or a
    /// Cinder volume
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Box<RestoreArgs>),
    /// Copy backups to another destination, verified on the way
    #[command(after_help = COPY_EXAMPLES)]
    Copy(CopyArgs),
    /// Write a volume, a device, an image or a backup as a qcow2 or raw image of its used blocks
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Change the owners and groups of a tree to other numbers
    #[command(after_help = REMAP_EXAMPLES)]
    Remap(RemapArgs),
    /// Write the disk in a qcow2 or raw image to a device
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// List the contents of a backup, or walk through them at a terminal
    ///
    /// At a terminal the arrow keys walk through the directories of the backup, and Enter shows a file. Space marks an entry,
    /// r restores what is marked, and q ends it. With --list, --recursive or --json, in a pipe, and for a set, the directory is
    /// printed.
    Browse(BrowseArgs),
    /// Print one file of a backup
    Cat(CatArgs),
    /// Show the differences between two backups
    Diff(DiffArgs),
    /// Search all backups for files by name, and show the first and the last backup that has them
    #[command(after_help = FIND_EXAMPLES)]
    Find(FindArgs),
    /// Show the versions of one file in all backups: when each appeared, its size and digest, and which backups have
    /// it
    #[command(after_help = LOG_EXAMPLES)]
    Log(LogArgs),
    /// Serve backups as a read-only file system, until it is unmounted
    #[cfg(feature = "mount")]
    #[command(after_help = MOUNT_EXAMPLES)]
    Mount(MountArgs),
    /// Work with the OpenStack cloud: which instance has each volume, recovery after an outage, and iSCSI sessions
    #[command(subcommand)]
    Cloud(CloudCommand),
    /// Test whether an object store can be a destination
    #[cfg(feature = "s3")]
    #[command(subcommand)]
    Store(StoreCommand),
    #[command(flatten)]
    Night(NightCommand),
    /// Show all hosts: silent hosts, overdue backups and overdue verifications
    #[command(after_help = FLEET_EXAMPLES)]
    Fleet(FleetArgs),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        directory: PathBuf,
    },
    /// Show the help of a verb, or of a topic: retention, restore, exit-status
    Help {
        /// A verb, or a topic
        #[arg(value_name = "VERB|TOPIC")]
        words: Vec<String>,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the volumes and dates that complete a line
    #[command(hide = true)]
    CompleteWords {
        /// The words of the line up to the cursor: the program, and the word at the cursor last
        #[arg(last = true)]
        words: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// VG/LV, the name of a volume, a device, or a raw or qcow2 disk image
    pub(crate) source: OsString,
    /// Format of a SOURCE that is an image file, of which a guest may have chosen the first bytes [default: by its first bytes]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) source_format: Option<FormatArg>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The reader of filesystems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReaderArg {
    /// volbak's own reader where it supports the filesystem
    Auto,
    /// The kernel, through a mount
    Kernel,
}

/// How the nights of a volume lie in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArg {
    /// Each archive is a file
    Plain,
    /// Data that the backups of a volume have in common is stored once
    Shared,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct SnapshotArgs {
    /// VG/LV, the name of a volume, a device, or a raw or qcow2 disk image
    #[arg(required = true, value_name = "SOURCE")]
    pub(crate) sources: Vec<OsString>,
    /// Format of a SOURCE that is an image file, of which a guest may have chosen the first bytes [default: by its first bytes]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) source_format: Option<FormatArg>,
    #[command(flatten)]
    pub(crate) place: WhereTo,
    /// Name of the backups, and of their directory in DIR [default: name of the volume, or of the file without .img
    /// or .raw]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Back up the whole volume as an image of its used blocks (NAME_DD_MM_YYYY.img.gz), instead of its files
    /// [default: `mode` in the config, or files]
    #[arg(long, conflicts_with_all = ["exclude", "reader", "read_only_snapshots"])]
    pub(crate) image: bool,
    /// Format of an archive of files: tar.gz, or tar.zst, which is smaller and faster to make, but needs zstd for a
    /// restore without volbak [default: that of the config, or tar.gz]
    #[arg(long, value_name = "FORMAT", conflicts_with = "image")]
    pub(crate) format: Option<Compression>,
    /// Compression level, from 1 (fast) to 12 (small); `auto` (or `auto:3-9`) uses spare CPU time
    /// [default: that of the config, or 6]
    #[arg(long, value_name = "N")]
    pub(crate) level: Option<CompressionLevel>,
    /// Exclude files that match, in the syntax of a .gitignore in the root of the filesystem; may be repeated, and adds to
    /// the patterns of the config
    #[arg(long, value_name = "PATTERN", value_parser = exclude_pattern)]
    pub(crate) exclude: Vec<String>,
    /// Size of a thick snapshot's exception store: bytes (10G), or a share of the volume (50%)
    /// [default: that of the config, or 100%]
    #[arg(long, value_name = "SIZE")]
    pub(crate) snapshot_size: Option<SnapshotSize>,
    /// Directory for a temporary copy, if the kernel must replay the journal of a read-only source [default: the
    /// directory of the volume in DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Reader of the filesystems: `auto` reads ext2 to ext4 itself, `kernel` mounts all of them
    /// [default: that of the config, or auto]
    #[arg(long, value_enum, value_name = "READER")]
    pub(crate) reader: Option<ReaderArg>,
    /// Abandon a source that takes longer than this number of hours (0.5 is 30 minutes)
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    pub(crate) max_hours: Option<Duration>,
    /// Abandon a source whose archive would exceed this size before compression: bytes, or 500M, 20G
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_size: Option<u64>,
    /// Also archive the read-only snapshots in a btrfs; each takes its full size
    #[arg(long)]
    pub(crate) read_only_snapshots: bool,
    /// Number of compressing threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Read everything; carry nothing forward from the last backup
    #[arg(long, conflicts_with_all = ["parent", "full_read_every_days"])]
    pub(crate) full: bool,
    /// Carry forward from this backup: the path of an archive, or VOLUME[@DATE] in DIR
    /// [default: the last backup of the same source]
    #[arg(long, value_name = "BACKUP")]
    pub(crate) parent: Option<String>,
    /// Re-read every file at least once in this number of days, a share each day; 0 is never
    /// [default: that of the config, or 7]
    #[arg(long, value_name = "DAYS")]
    pub(crate) full_read_every_days: Option<u32>,
    /// Copy data that is carried forward, even if the destination can share blocks with the last backup
    #[arg(long)]
    pub(crate) no_shared_blocks: bool,
    /// How the archive is stored: `plain`, as a file, or `shared`: data that the backups of a volume
    /// have in common is stored once [default: that of the config, or plain]
    #[arg(long, value_enum, value_name = "LAYOUT")]
    pub(crate) layout: Option<LayoutArg>,
    /// Keep the snapshot, and print its name; to mount an ext4 on it, its journal may have to be replayed first
    #[arg(long)]
    pub(crate) keep_snapshot: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn hours(text: &str) -> Result<Duration, String> {
    let hours = text.parse().ok().filter(|hours: &f64| *hours > 0.0 && *hours <= 8760.0);
    let right = || "write a number of hours above 0 and up to 8760, such as 5.5".to_owned();
    hours.map(|hours| Duration::from_secs_f64(hours * 3600.0)).ok_or_else(right)
}

fn bytes(text: &str) -> Result<u64, String> {
    let right = || "write a number of bytes, or a number with K, M, G or T, such as 20G".to_owned();
    parse_bytes(text).filter(|bytes| *bytes > 0).ok_or_else(right)
}

fn exclude_pattern(pattern: &str) -> Result<String, BadPattern> {
    Excludes::new(&[pattern]).map(|_| pattern.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Cli::command().debug_assert();
    }
}
