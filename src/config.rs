//! The config: TOML and environment variables are read into a validated [`Config`], or all mistakes are listed with
//! line, column and correction.
//!
//! Top-level keys keep the names of the documented shell script where it has one. An environment variable overrides
//! the key in the file. Its name is `VOLBAK_` and the key in capitals (`VOLBAK_BACKUP_DESTINATION`); for a key in a
//! table, the table's name and two underscores precede the key (`VOLBAK_MAIL__SMTP_HOST`). The items of a list are
//! separated by commas, or written as TOML; `VOLBAK_VOLUMES` holds the tables `[volume."NAME"]` as TOML. The
//! password for the mail server comes from a file or from `VOLBAK_MAIL__PASSWORD`, and a [`Config`] never holds it.

use std::ffi::OsString;
use std::path::Path;

use crate::store::{Destination, StoreError};

mod choice;
mod copy;
mod dumps;
mod encryption;
mod expect;
mod fleet;
mod group;
mod kinds;
mod mail;
mod mistake;
mod notify;
mod openstack;
mod options;
mod pattern;
mod reading;
mod rehearse;
mod section;
mod sections;
mod size;
mod store;
mod trust;
mod volume;
mod whole;
mod window;
mod written;

pub use self::encryption::EncryptionTable;
pub(crate) use choice::{ByCloud, Retention};
pub use choice::{Choice, RetentionLimits};
pub use copy::CopyTarget;
pub use expect::{BadExpectation, Expectation};
pub use fleet::FleetOptions;
pub use group::{InstanceToFreeze, VolumeGroup};
pub use mail::PASSWORD_VARIABLE;
pub use mistake::{ConfigError, Location, Mistake};
pub use openstack::OpenStackOptions;
pub(crate) use options::FREEZE_LIMIT;
pub use options::{
    ArchiveOptions, ChangeLimits, DumpInstance, DumpKind, DumpOptions, HookOptions, IoNice, MailOptions, MailWhen,
    RecheckOptions, ReportOptions, Selected, VolumeOptions,
};
pub use pattern::{BadPattern, Pattern};
pub use reading::{HOOK_ENVIRONMENT, LOG_VARIABLE};
pub use rehearse::{Accelerator, RehearsalOptions};
pub use size::parse_bytes;
pub use store::StoreOptions;
pub use trust::{distrust, distrusted_hook};
pub use volume::VolumeException;
pub use whole::Config;

/// The default of `--config`.
pub const DEFAULT_PATH: &str = "/etc/volbak/volbak.toml";

impl Config {
    /// Reads the file at `path` and the given environment, `std::env::vars_os()`. Variables without the prefix
    /// `VOLBAK_` are ignored.
    ///
    /// Fails with `Changeable` if users other than root and the current one can change the file, and it names
    /// programs to run or secrets to use. Otherwise [`changeable`](Self::changeable) records it.
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
                            place: Location::File { line, column },
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

    /// Reads `text` and the given environment. Pure: does not access the files that the config names.
    pub fn parse(text: &str, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let (config, mistakes) = sections::read(text, environment);
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Wrong { path: None, mistakes }) }
    }

    /// Opens `backup_destination`. Does not look whether it is mounted.
    pub fn open_destination(&self) -> Result<Destination, StoreError> {
        Destination::reach(&self.backup_destination, &self.store)
    }

    /// Opens `backup_destination`, which must be mounted if `require_mount` says so; an object store is no mount.
    pub fn open_mounted_destination(&self) -> Result<Destination, StoreError> {
        Destination::reach_mounted(&self.backup_destination, &self.store, self.require_mount)
    }

    /// A commented, valid config: the output of `volbak config init`.
    pub fn example() -> &'static str {
        include_str!("config/example.toml")
    }
}

#[cfg(test)]
mod tests;
