//! What a validated config holds, table by table.

use std::path::PathBuf;
use std::time::Duration;

use super::expect::Expectation;
use super::pattern::Pattern;
use crate::archive::level::CompressionLevel;
use crate::mail::{SmtpServer, SpoolSettings, Transport};
use crate::report::Style;
use crate::source::FreezeOptions;
use crate::store::retention::Policy;

/// How archives are made: the table `[archive]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// The compression level.
    pub level: CompressionLevel,
    /// Compressing threads; `None` is one for each core.
    pub threads: Option<u32>,
    /// What is left out: gitignore-style globs, anchored to each filesystem's root.
    pub exclude: Vec<String>,
    /// Where temporary copies of regions that need a journal replay are put, when they are needed.
    pub scratch: Option<PathBuf>,
    /// Whether the kernel reads what volbak could read itself.
    pub by_kernel: bool,
    /// Whether read-only snapshots in a btrfs are archived.
    pub read_only_snapshots: bool,
    /// Each file is re-read at least once in this number of days, whatever is carried forward; 0 is never.
    pub full_read_every_days: u32,
    /// Whether an archive may have blocks in common with the one that it carries from.
    pub share_blocks: bool,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self {
            level: CompressionLevel::default(),
            threads: None,
            exclude: Vec::new(),
            scratch: None,
            by_kernel: false,
            read_only_snapshots: false,
            full_read_every_days: 7,
            share_blocks: true,
        }
    }
}

/// What counts as a sudden change: the table `[sudden_change]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeLimits {
    /// Fewer entries or bytes than this share of the usual, in percent.
    pub below_percent: u32,
    /// At least this share of the files changed or gone, in percent, and at least twice the usual share.
    pub changed_percent: u32,
    /// Volumes with fewer entries than this are not judged by their count.
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

/// The table `[mail]`. There is one also when mail is switched off; it is complete only when it is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailOptions {
    /// When the report is mailed.
    pub when: MailWhen,
    /// The sender's address; `None` is volbak at this host.
    pub from: Option<String>,
    /// How it leaves.
    pub transport: Transport,
    /// How long sending may take in all.
    pub deadline: Duration,
    /// Where mails that could not be sent wait for the next run.
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
    /// When something failed or was reported as a problem.
    OnProblem,
}

/// Which program dumps a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpKind {
    /// `mysqldump`.
    Mysql,
    /// `mariadb-dump`.
    Mariadb,
    /// `pg_dumpall`.
    Postgresql,
}

/// A database inside an instance that is dumped before the instance's volumes are backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpInstance {
    /// What the report calls it.
    pub name: String,
    /// The host or address for ssh.
    pub host: String,
    /// The port for ssh.
    pub port: u16,
    /// The user for ssh.
    pub user: String,
    /// The private key for ssh; `None` leaves it to ssh's own config.
    pub key: Option<PathBuf>,
    /// What dumps it.
    pub kind: DumpKind,
    /// The file inside the instance that holds the database's credentials.
    pub defaults_file: Option<String>,
    /// The directory inside the instance that takes the dumps.
    pub directory: String,
    /// The volumes of this instance: each is backed up only after the dump.
    pub volumes: Vec<Pattern>,
}

/// The table `[dumps]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpOptions {
    /// ssh's list of known hosts; `None` leaves it to ssh's own config. It is always checked.
    pub known_hosts: Option<PathBuf>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one dump may take in all.
    pub timeout: Duration,
    /// Dumps older than this many days go.
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

/// The table `[hooks]`: commands as argument lists, run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOptions {
    /// Run in this order before a snapshot.
    pub before_snapshot: Vec<Vec<String>>,
    /// Run in this order after a snapshot, also when making it failed.
    pub after_snapshot: Vec<Vec<String>>,
    /// How long each may take.
    pub timeout: Duration,
}

impl Default for HookOptions {
    fn default() -> Self {
        Self { before_snapshot: Vec::new(), after_snapshot: Vec::new(), timeout: Duration::from_secs(60) }
    }
}

/// How closely the nightly run checks older backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Sizes, checksum and manifest agree.
    Quick,
    /// Every byte is read.
    Full,
}

/// How the nightly run verifies older backups: the table `[verify]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecheckOptions {
    /// Whether the nightly run checks older backups at all.
    pub enabled: bool,
    /// How closely.
    pub level: VerifyLevel,
    /// Whether each archive is also read with the libraries of others; only when every byte is read.
    pub second_opinion: bool,
    /// The share of all backups to check in one night, in percent, 1 to 100.
    pub share_percent: u32,
    /// No further check is begun after this long.
    pub time_budget: Duration,
}

impl Default for RecheckOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            level: VerifyLevel::Full,
            second_opinion: false,
            share_percent: 5,
            time_budget: Duration::from_secs(3600),
        }
    }
}

/// How low the run's reading stands in the kernel's I/O scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoNice {
    /// Only when no other process uses the disk.
    Idle,
    /// Best effort, from 0 (first) to 7 (last).
    BestEffort(u8),
}

/// What holds for one volume, its exceptions worked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeOptions {
    /// How its snapshot is made.
    pub snapshot: FreezeOptions,
    /// How its archive is made.
    pub archive: ArchiveOptions,
    /// How long its backups are kept.
    pub retention: Policy,
    /// What runs around its snapshot.
    pub hooks: HookOptions,
    /// Whether a sudden change of it is looked for.
    pub finds_sudden_changes: bool,
    /// What counts as one.
    pub change: ChangeLimits,
    /// How long it may take.
    pub max_time: Option<Duration>,
    /// How long its archive may be before it is compressed, in bytes.
    pub max_bytes: Option<u64>,
    /// What it holds that is no problem.
    pub expect: Vec<Expectation>,
}

/// Whether a volume is backed up, and by which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// It is: by this pattern of `include`.
    Included {
        /// The pattern.
        by: String,
    },
    /// It is not: by this pattern of `exclude`.
    Excluded {
        /// The pattern.
        by: String,
    },
    /// It is not: `[volume."PATTERN"]` says `skip = true`.
    Skipped {
        /// The pattern.
        by: String,
    },
    /// It is not: no pattern of `include` matches it.
    NotIncluded,
}
