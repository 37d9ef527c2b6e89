//! What a validated config holds, table by table.

use std::path::PathBuf;
use std::time::Duration;

use super::expect::Expectation;
use super::level::CompressionLevel;
use super::pattern::Pattern;
use super::size::SnapshotSize;

/// How snapshots are made: `snapshot_max_size` and the table `[snapshot]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The size of a thick snapshot's exception store.
    pub max_size: SnapshotSize,
    /// Whether a snapshot that fills up is extended when its group has room.
    pub extend: bool,
}

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
    /// Within so many days all is read at least once, whatever is carried forward; 0 is never.
    pub full_read_every_days: u32,
    /// Whether an archive may have blocks in common with the one that it carries from.
    pub share_blocks: bool,
}

/// How long backups are kept: `backups_retention_days` and the table `[retention]`. Counts are of backups; 0 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Backups older than this many days go, unless another rule keeps them.
    pub days: u32,
    /// The newest so many stay.
    pub keep_last: u32,
    /// The newest of each of so many days.
    pub keep_daily: u32,
    /// The newest of each of so many weeks.
    pub keep_weekly: u32,
    /// The newest of each of so many months.
    pub keep_monthly: u32,
    /// The newest of each of so many years.
    pub keep_yearly: u32,
    /// Backups of a volume that is gone go when the newest of them is older than this many days. Never below `days`.
    pub gone_days: u32,
    /// Whether the last good backup of a gone volume goes too.
    pub remove_last_of_gone: bool,
}

/// What counts as a sudden change: the table `[sudden_change]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeOptions {
    /// Whether it is looked for.
    pub enabled: bool,
    /// A backup with less than this share of the usual entries or bytes.
    pub below_percent: u32,
    /// A backup in which at least this share of the files changed or is gone.
    pub changed_percent: u32,
    /// Volumes with fewer entries are not judged by their count.
    pub min_entries: u32,
}

impl Default for ChangeOptions {
    fn default() -> Self {
        Self { enabled: true, below_percent: 50, changed_percent: 50, min_entries: 10 }
    }
}

/// The table `[report]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportOptions {
    /// Between a size's whole number and its tenth: `,` or `.`.
    pub decimal_separator: char,
    /// Reports kept in the destination are removed after this many days.
    pub keep_days: u32,
    /// A file for the Prometheus node exporter's textfile collector.
    pub metrics_file: Option<PathBuf>,
}

/// When the report is mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailWhen {
    /// After each run.
    Always,
    /// When something failed or was reported as a problem.
    OnProblem,
}

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the first byte (port 465).
    Tls,
    /// Plain at first, then TLS, or no mail at all (port 587).
    StartTls,
    /// None (port 25).
    None,
}

/// Where the password for the mail server comes from. The config never holds the password itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// The first line of this file.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
}

/// How a mail leaves the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailTransport {
    /// To a mail server.
    Smtp {
        /// Its name or address; its certificate must be for this name.
        host: String,
        /// Its port; `None` is the usual one for the kind of TLS.
        port: Option<u16>,
        /// How the connection is protected.
        tls: MailTls,
        /// The name to log in with.
        user: Option<String>,
        /// The password to log in with; there when `user` is.
        password: Option<PasswordSource>,
        /// Certificates (PEM) to trust in place of the system's.
        ca_file: Option<PathBuf>,
    },
    /// To a program that takes a mail on standard input, as sendmail does.
    Sendmail {
        /// The program.
        program: PathBuf,
    },
    /// As a file for each mail.
    File {
        /// The directory.
        directory: PathBuf,
    },
}

/// The table `[mail]`. There is one also when mail is switched off; it is complete only when it is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailOptions {
    /// When the report is mailed.
    pub when: MailWhen,
    /// The sender's address; `None` is volbak at this host.
    pub from: Option<String>,
    /// How it leaves.
    pub transport: MailTransport,
    /// How long sending may take in all.
    pub deadline: Duration,
    /// Where mails that could not be sent wait for the next run.
    pub spool_dir: PathBuf,
    /// So many wait at most; the oldest go.
    pub spool_max_mails: u32,
    /// So many days they wait at most.
    pub spool_max_days: u32,
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

/// How closely the nightly run checks older backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Sizes, checksum and manifest agree.
    Quick,
    /// Every byte is read.
    Full,
}

/// The table `[verify]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
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

/// How low the run's reading stands in the kernel's I/O scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoNice {
    /// Only when nobody else wants the disk.
    Idle,
    /// Best effort, from 0 (first) to 7 (last).
    BestEffort(u8),
}

/// What holds for one volume, its exceptions worked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeOptions {
    /// How its snapshot is made.
    pub snapshot: SnapshotOptions,
    /// How its archive is made.
    pub archive: ArchiveOptions,
    /// How long its backups are kept.
    pub retention: RetentionOptions,
    /// What runs around its snapshot.
    pub hooks: HookOptions,
    /// What counts as a sudden change of it.
    pub change: ChangeOptions,
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
