//! The options of a validated config, table by table.

use std::path::PathBuf;
use std::time::Duration;

use super::expect::Expectation;
use super::pattern::Pattern;
use crate::archive::kind::{BackupMode, Compression};
use crate::archive::level::CompressionLevel;
use crate::encryption::EncryptionOptions;
use crate::mail::{SmtpServer, SpoolSettings, Transport};
use crate::report::{CheckLevel, Style};
use crate::source::FreezeOptions;
use crate::store::retention::Policy;
use crate::store::shared::ArchiveLayout;

/// The table `[archive]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveOptions {
    /// The compression level.
    pub level: CompressionLevel,
    /// The format of an archive of files.
    pub format: Compression,
    /// The number of compression threads; `None` means one per core.
    pub threads: Option<u32>,
    /// Excluded files: gitignore-style globs, anchored at each filesystem's root.
    pub exclude: Vec<String>,
    /// The directory for temporary copies of regions that need a journal replay.
    pub scratch: Option<PathBuf>,
    /// Whether the kernel reads filesystems for which volbak has its own reader.
    pub by_kernel: bool,
    /// Whether read-only snapshots in a btrfs are archived.
    pub read_only_snapshots: bool,
    /// Each file is re-read at least once in this number of days; 0 means never.
    pub full_read_every_days: u32,
    /// Whether an archive may share blocks with the archive that it carries from.
    pub share_blocks: bool,
    /// How the nights of a volume lie in a directory.
    pub layout: ArchiveLayout,
    /// How it is encrypted; `None` if it is not.
    pub encryption: Option<EncryptionOptions>,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self {
            level: CompressionLevel::default(),
            format: Compression::default(),
            threads: None,
            exclude: Vec::new(),
            scratch: None,
            by_kernel: false,
            read_only_snapshots: false,
            full_read_every_days: 7,
            share_blocks: true,
            layout: ArchiveLayout::default(),
            encryption: None,
        }
    }
}

/// The table `[sudden_change]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeLimits {
    /// A change is sudden if entries or bytes fall below this percentage of the usual.
    pub below_percent: u32,
    /// A change is sudden if at least this percentage of files changed or vanished, and at least twice the usual
    /// percentage.
    pub changed_percent: u32,
    /// Volumes with fewer entries than this are not judged by their number.
    pub min_entries: u64,
}

impl Default for ChangeLimits {
    fn default() -> Self {
        Self { below_percent: 50, changed_percent: 50, min_entries: 10 }
    }
}

/// The table `[report]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportOptions {
    /// How it is printed.
    pub style: Style,
    /// Reports kept in the destination are removed after this many days.
    pub keep_days: u32,
    /// A file for the Prometheus node exporter's textfile collector.
    pub metrics_file: Option<PathBuf>,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self { style: Style::default(), keep_days: 400, metrics_file: None }
    }
}

/// The table `[mail]`, also present while mail is disabled; it is complete only if mail is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailOptions {
    /// When the report is mailed.
    pub when: MailWhen,
    /// The sender's address; `None` means volbak at this host.
    pub from: Option<String>,
    /// How mail is sent.
    pub transport: Transport,
    /// The maximum duration of sending.
    pub deadline: Duration,
    /// The directory for mails that could not be sent, until the next run.
    pub spool: SpoolSettings,
}

impl Default for MailOptions {
    fn default() -> Self {
        Self {
            when: MailWhen::Always,
            from: None,
            transport: Transport::Smtp(SmtpServer::default()),
            deadline: Duration::from_secs(60),
            spool: SpoolSettings::default(),
        }
    }
}

/// When the report is mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailWhen {
    /// After each run.
    Always,
    /// If something failed or a problem was reported.
    OnProblem,
}

/// The program that dumps a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpKind {
    /// `mysqldump`.
    Mysql,
    /// `mariadb-dump`.
    Mariadb,
    /// `pg_dumpall`.
    Postgresql,
}

/// A database inside an instance, dumped before the instance's volumes are backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpInstance {
    /// Its name in the report.
    pub name: String,
    /// The host or address for ssh.
    pub host: String,
    /// The port for ssh.
    pub port: u16,
    /// The user for ssh.
    pub user: String,
    /// The private key for ssh; `None` uses ssh's own config.
    pub key: Option<PathBuf>,
    /// The kind of database.
    pub kind: DumpKind,
    /// The file with the database's credentials, inside the instance.
    pub defaults_file: Option<String>,
    /// The directory for the dumps, inside the instance.
    pub directory: String,
    /// The volumes of this instance; they are backed up only after the dump.
    pub volumes: Vec<Pattern>,
}

/// The table `[dumps]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpOptions {
    /// ssh's list of known hosts; `None` uses ssh's own config. Host keys are always checked.
    pub known_hosts: Option<PathBuf>,
    /// The maximum duration of connecting.
    pub connect_timeout: Duration,
    /// The maximum duration of one dump.
    pub timeout: Duration,
    /// Dumps older than this many days are removed.
    pub retention_days: u32,
    /// The databases.
    pub instances: Vec<DumpInstance>,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self {
            known_hosts: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(3600),
            retention_days: Policy::default().retention_days,
            instances: Vec::new(),
        }
    }
}

/// How long a freeze may last: databases and instances wait all the while.
pub(crate) const FREEZE_LIMIT: Duration = Duration::from_secs(30);

/// The table `[hooks]`: commands as argument lists, run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOptions {
    /// Run in this order before a snapshot.
    pub before_snapshot: Vec<Vec<String>>,
    /// Run in this order after a snapshot, even if it failed.
    pub after_snapshot: Vec<Vec<String>>,
    /// The maximum duration of each command.
    pub timeout: Duration,
    /// The maximum time between those before and those after a snapshot.
    pub freeze_limit: Duration,
}

impl Default for HookOptions {
    fn default() -> Self {
        Self {
            before_snapshot: Vec::new(),
            after_snapshot: Vec::new(),
            timeout: Duration::from_secs(60),
            freeze_limit: FREEZE_LIMIT,
        }
    }
}

/// The table `[verify]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecheckOptions {
    /// Whether the nightly run re-checks older backups.
    pub enabled: bool,
    /// [`CheckLevel::Quick`] or [`CheckLevel::Full`].
    pub level: CheckLevel,
    /// Whether each archive is also read with independent libraries; only at the full level.
    pub second_opinion: bool,
    /// The percentage of all backups to check per night, 1 to 100.
    pub share_percent: u32,
    /// No further check is started after this time.
    pub time_budget: Duration,
}

impl Default for RecheckOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            level: CheckLevel::Full,
            second_opinion: false,
            share_percent: 5,
            time_budget: Duration::from_secs(3600),
        }
    }
}

/// The run's class in the kernel's I/O scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoNice {
    /// Idle: only while no other process uses the disk.
    Idle,
    /// Best effort, from 0 (highest priority) to 7.
    BestEffort(u8),
}

/// The options for one volume, including its exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeOptions {
    /// Options of its snapshot.
    pub snapshot: FreezeOptions,
    /// Options of its archive.
    pub archive: ArchiveOptions,
    /// Retention of its backups.
    pub retention: Policy,
    /// Hooks around its snapshot.
    pub hooks: HookOptions,
    /// Whether sudden changes are detected.
    pub finds_sudden_changes: bool,
    /// The limits of a sudden change.
    pub change: ChangeLimits,
    /// Whether its files are backed up, or an image of all of it.
    pub mode: BackupMode,
    /// The maximum duration of its backup.
    pub max_time: Option<Duration>,
    /// The maximum length of its archive before compression, in bytes.
    pub max_bytes: Option<u64>,
    /// Content that is expected and reported as no problem.
    pub expect: Vec<Expectation>,
}

/// Whether a volume is backed up, and the line of the config that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Included by this pattern of `include`.
    Included {
        /// The pattern.
        by: String,
    },
    /// Not backed up: this pattern of `exclude` matches.
    Excluded {
        /// The pattern.
        by: String,
    },
    /// Not backed up: `[volume."PATTERN"]` has `skip = true`.
    Skipped {
        /// The pattern.
        by: String,
    },
    /// Not backed up: no pattern of `include` matches.
    NotIncluded,
}
