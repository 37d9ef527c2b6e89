//! The config: TOML and the environment as written → a [`Config`] that is whole and checked, or all the mistakes with
//! their lines, columns and what would be right.
//!
//! Keys at top level keep the names of the documented shell script where it has one. Each key can also be given by an
//! environment variable, which wins over the file: `VOLBAK_` and the key in capitals (`VOLBAK_BACKUP_DESTINATION`), for
//! a key in a table the table's name and two underscores before it (`VOLBAK_MAIL__SMTP_HOST`). Lists are parted by
//! commas there, or written as TOML; the tables `[volume."NAME"]` together as TOML in `VOLBAK_VOLUMES`. The password
//! for the mail server comes from a file or from `VOLBAK_MAIL__PASSWORD`, and a [`Config`] never holds it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::outside::trust::Changeable;

mod dumps;
mod expect;
mod level;
mod mail;
mod mistake;
mod options;
mod pattern;
mod reading;
mod sections;
mod size;
mod trust;
mod volume;

pub use expect::Expectation;
pub use level::{BadCompressionLevel, CompressionLevel};
pub use mistake::{ConfigError, Mistake, Place};
pub use options::{
    ArchiveOptions, ChangeOptions, DumpInstance, DumpKind, DumpOptions, HookOptions, IoNice, MailOptions, MailTls,
    MailTransport, MailWhen, PasswordSource, ReportOptions, RetentionOptions, Selected, SnapshotOptions, VerifyLevel,
    VerifyOptions, VolumeOptions,
};
pub use pattern::Pattern;
pub use reading::{HOOK_ENVIRONMENT, LOG_VARIABLE};
pub use size::{SnapshotSize, parse_bytes};
pub use trust::{distrust, distrusted_hook};
pub use volume::VolumeException;

/// Where the config is when `--config` does not say.
pub const DEFAULT_PATH: &str = "/etc/volbak/volbak.toml";

/// The variable that holds the mail server's password.
pub const PASSWORD_VARIABLE: &str = "VOLBAK_MAIL__PASSWORD";

/// A whole, checked config.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "the documented script's switches, each of its own")]
pub struct Config {
    /// The directory that holds a directory of backups for each volume. Absolute.
    pub backup_destination: PathBuf,
    /// Whether archives get a `.checksum` beside them.
    pub enable_checksum: bool,
    /// Whether databases inside instances are dumped first.
    pub enable_mysql_dump: bool,
    /// Whether volumes are backed up at all.
    pub enable_lvmsnapshots: bool,
    /// Whether the report is mailed.
    pub enable_mail_notification: bool,
    /// Whether each run is a test: the whole chain for one volume.
    pub lvm_test_mode: bool,
    /// Who gets the report.
    pub email_recipient: Vec<String>,
    /// The volume groups whose volumes are backed up.
    pub volume_groups: Vec<String>,
    /// Whether these are the usual ones, since the config names none.
    pub volume_groups_by_default: bool,
    /// Which of their volumes.
    pub include: Vec<Pattern>,
    /// Which of those not.
    pub exclude: Vec<Pattern>,
    /// Whether the destination must be, or lie on, a mount point other than `/`.
    pub require_mount: bool,
    /// After this long no further volume is begun; `None` is no limit.
    pub max_run: Option<Duration>,
    /// A volume's backup that takes longer than this is given up; `None` is no limit but the run's.
    pub max_volume: Option<Duration>,
    /// A volume whose archive would be longer than this before it is compressed is given up; `None` is no limit.
    pub max_volume_size: Option<u64>,
    /// The run's CPU niceness, 0 to 19; `None` leaves it.
    pub nice: Option<u32>,
    /// The run's place in the I/O scheduler; `None` leaves it.
    pub ionice: Option<IoNice>,
    /// Bytes a second that are read from volumes at most; `None` is no limit.
    pub read_rate_limit: Option<u64>,
    /// How snapshots are made.
    pub snapshot: SnapshotOptions,
    /// How archives are made.
    pub archive: ArchiveOptions,
    /// How long backups are kept.
    pub retention: RetentionOptions,
    /// What counts as a sudden change.
    pub change: ChangeOptions,
    /// How the report looks, and where its figures go.
    pub report: ReportOptions,
    /// How the report is mailed.
    pub mail: MailOptions,
    /// Databases to dump.
    pub dumps: DumpOptions,
    /// Commands around each snapshot.
    pub hooks: HookOptions,
    /// How older backups are checked again.
    pub verify: VerifyOptions,
    /// Exceptions for single volumes, in the order of the file.
    pub volumes: Vec<VolumeException>,
    /// Who else can change the file that this was read from.
    pub changeable: Option<Changeable>,
}

impl Config {
    /// Reads the file at `path` and the given environment, `std::env::vars_os()`: names that are not ours are passed over.
    ///
    /// Fails with `Changeable` when others than root and this user can change the file, and it has programs run or secrets
    /// used. Without those [`changeable`](Self::changeable) says so.
    pub fn load(path: &Path, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let text = std::fs::read(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
            .and_then(|bytes| {
                String::from_utf8(bytes).map_err(|error| {
                    let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                    let line = before.split(|byte| *byte == b'\n').count();
                    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
                    ConfigError::Wrong {
                        path: Some(path.to_owned()),
                        mistakes: vec![Mistake {
                            place: Place::File { line, column },
                            what: "not UTF-8".to_owned(),
                            right: "save the file as UTF-8".to_owned(),
                        }],
                    }
                })
            })?;
        let mut config = Self::parse(&text, environment).map_err(|error| match error {
            ConfigError::Wrong { mistakes, .. } => ConfigError::Wrong { path: Some(path.to_owned()), mistakes },
            other => other,
        })?;
        config.check_who_can_change(path)?;
        Ok(config)
    }

    /// Reads `text` and the given environment. Pure: no file that the config names is looked at.
    pub fn parse(text: &str, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let (config, mistakes) = sections::read(text, environment);
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Wrong { path: None, mistakes }) }
    }

    /// A commented config that is right as it stands: what `volbak config init` prints.
    pub fn example() -> &'static str {
        include_str!("config/example.toml")
    }

    /// Whether this volume is backed up, and by which line of the config. Groups are not looked at.
    pub fn selects(&self, group: &str, volume: &str) -> Selected {
        let first = |patterns: &[Pattern]| {
            patterns.iter().find(|pattern| pattern.matches(group, volume)).map(|pattern| pattern.as_str().to_owned())
        };
        let exceptions = self.exceptions(group, volume);
        if let Some((by, true)) = exceptions.iter().find_map(|exception| Some((&exception.pattern, exception.skip?))) {
            return Selected::Skipped { by: by.as_str().to_owned() };
        }
        if let Some(by) = first(&self.exclude) {
            return Selected::Excluded { by };
        }
        first(&self.include).map_or(Selected::NotIncluded, |by| Selected::Included { by })
    }

    /// What holds for this volume: the general settings, and over them those of each `[volume."NAME"]` that matches
    /// it. An exact name wins over wildcards, and of several wildcards the one that comes first in the file.
    pub fn for_volume(&self, group: &str, volume: &str) -> VolumeOptions {
        let mut options = VolumeOptions {
            snapshot: self.snapshot.clone(),
            archive: self.archive.clone(),
            retention: self.retention.clone(),
            hooks: self.hooks.clone(),
            change: self.change,
            max_time: self.max_volume,
            max_bytes: self.max_volume_size,
            expect: Vec::new(),
        };
        for exception in self.exceptions(group, volume).iter().rev() {
            exception.apply(&mut options);
        }
        options
    }

    /// The instance whose dump this volume waits for, if any.
    pub fn dump_for(&self, group: &str, volume: &str) -> Option<&DumpInstance> {
        self.dumps.instances.iter().find(|instance| instance.volumes.iter().any(|p| p.matches(group, volume)))
    }

    /// The exceptions that match, the strongest first.
    fn exceptions(&self, group: &str, volume: &str) -> Vec<&VolumeException> {
        let (exact, wild): (Vec<_>, Vec<_>) = self
            .volumes
            .iter()
            .filter(|exception| exception.pattern.matches(group, volume))
            .partition(|exception| exception.pattern.names(group, volume));
        exact.into_iter().chain(wild).collect()
    }
}

#[cfg(test)]
mod tests;
