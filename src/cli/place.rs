//! The destination and the config: the same arguments for every verb.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use volbak::config::{Config, DEFAULT_PATH};
use volbak::events::SourceName;
use volbak::outside::{Clock, SystemClock};
use volbak::run::completion::KnownNames;
use volbak::run::locate::{self, LocateError, Located, find};
use volbak::run::sets::{LocatedSet, find_set};
use volbak::store::Backup;
use volbak::store::Destination;
use volbak::store::{StoreError, StoreOptions, is_in_object_store};

use super::{keys, log};

/// The environment variable for the destination. The config key `backup_destination` is read from it, too.
const DESTINATION_VARIABLE: &str = "VOLBAK_BACKUP_DESTINATION";

/// Arguments that select the destination of existing backups.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// The destination [default: that of the config, or VOLBAK_BACKUP_DESTINATION]
    #[arg(long, visible_alias = "from", value_name = "DIR")]
    pub(crate) destination: Option<PathBuf>,
    /// The config [default: /etc/volbak/volbak.toml, unless --destination is given]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The place, once it was found: the config is loaded once.
    #[arg(skip)]
    pub(crate) found: OnceLock<Place>,
    /// The destination, once it was opened.
    #[arg(skip)]
    pub(crate) opened: OnceLock<Destination>,
}

/// Arguments that select the destination of a new backup.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhereTo {
    /// The destination; each volume gets its own directory in it [default: that of the config, or
    /// VOLBAK_BACKUP_DESTINATION]
    #[arg(long, visible_alias = "to", value_name = "DIR")]
    destination: Option<PathBuf>,
    /// The config with the settings for the volume [default: /etc/volbak/volbak.toml, unless --destination is given]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<&WhereTo> for Where {
    fn from(to: &WhereTo) -> Self {
        Self { destination: to.destination.clone(), config: to.config.clone(), ..Self::default() }
    }
}

/// Wrong usage: exit status 2.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A destination, and the config that names it or supplies its settings.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// `None` if only a destination was given.
    pub(crate) config: Option<Config>,
    must_be_mounted: bool,
}

impl Where {
    /// Another destination, with the config given as an argument.
    pub(crate) fn at(&self, destination: &str) -> Self {
        Self { destination: Some(destination.into()), config: self.config.clone(), ..Self::default() }
    }

    /// The destination given as an argument, or that of the config.
    pub(crate) fn place(&self) -> Result<Place, UsageError> {
        if let Some(found) = self.found.get() {
            return Ok(found.clone());
        }
        let place = self.look(load)?;
        Ok(self.found.get_or_init(|| place).clone())
    }

    /// The same, in silence: warnings and errors would appear in the line that is being typed. Keys are not read.
    pub(crate) fn place_for_completion(&self) -> Option<Place> {
        let load = |path: &Path| Config::load(path, std::env::vars_os()).map_err(|_| UsageError(String::new()));
        self.look(load).ok()
    }

    fn look(&self, load: impl Fn(&Path) -> Result<Config, UsageError>) -> Result<Place, UsageError> {
        let config = match (&self.config, &self.destination) {
            (Some(path), _) => Some(load(path)?),
            (None, None) if Path::new(DEFAULT_PATH).exists() => Some(load(Path::new(DEFAULT_PATH))?),
            (None, _) => None,
        };
        if let Some(root) = &self.destination {
            return Ok(Place { root: root.clone(), config, must_be_mounted: false });
        }
        if let Some(config) = config {
            let root = config.backup_destination.clone();
            return Ok(Place { root, must_be_mounted: config.require_mount, config: Some(config) });
        }
        match std::env::var_os(DESTINATION_VARIABLE).filter(|value| !value.is_empty()) {
            Some(root) => Ok(Place { root: root.into(), config: None, must_be_mounted: false }),
            None => Err(UsageError(format!(
                "no destination is given and there is no {DEFAULT_PATH}: use --destination DIR, or create a config with \
                 `volbak config init`"
            ))),
        }
    }

    /// The config, with the destination given as an argument in place of its own. Without a config the defaults apply.
    pub(crate) fn config(&self) -> Result<Config, UsageError> {
        self.place()?.into_config()
    }

    /// Finds a backup by name or path. Notes about the choice go to the log.
    pub(crate) fn find(&self, backup: &str) -> anyhow::Result<Backup> {
        Ok(noted(self.look_for(backup)??))
    }

    /// The set that `GROUP` or `GROUP@DATE` names; `None` if it names no group. What it lacks goes to the log.
    pub(crate) fn find_set(&self, wanted: &str) -> anyhow::Result<Option<LocatedSet>> {
        if wanted.contains('/') || Backup::of_archive(Path::new(wanted)).is_some() {
            return Ok(None);
        }
        let set = find_set(wanted, self.opened()?, SystemClock.now())?;
        for lacking in set.iter().flat_map(|set| &set.lacking) {
            log::warning(&format!("the set is partial: {lacking}"));
        }
        set.iter().flat_map(|set| &set.notes).for_each(|note| log::warning(note));
        Ok(set)
    }

    /// The names of the backups that `wanted` stands for: itself, or the path of each member of a set.
    pub(crate) fn members_of(&self, wanted: &str) -> anyhow::Result<Vec<String>> {
        Ok(match self.find_set(wanted)? {
            Some(set) => set.backups.iter().map(|(_, files)| files.archive_path().display().to_string()).collect(),
            None => vec![wanted.to_owned()],
        })
    }

    /// As [`Self::find`]; if no backup of the volume is usable, its newest. For verbs that only inspect a backup.
    pub(crate) fn find_even_bad(&self, backup: &str) -> anyhow::Result<Located> {
        let located = match self.look_for(backup)? {
            Err(LocateError::NoneUsable { newest, .. }) => *newest,
            found => found?,
        };
        noted(located.clone());
        Ok(located)
    }

    /// The destination, opened once.
    pub(crate) fn opened(&self) -> anyhow::Result<&Destination> {
        if let Some(destination) = self.opened.get() {
            return Ok(destination);
        }
        let destination = self.place()?.open()?;
        Ok(self.opened.get_or_init(|| destination))
    }

    fn look_for(&self, backup: &str) -> anyhow::Result<Result<Located, LocateError>> {
        if backup.contains('/') {
            // A path needs no config; but its keys say whether the backup should be encrypted.
            let _ = self.place();
        } else {
            // Until the backup is found, log lines name the volume as given.
            let volume = backup.split_once('@').map_or(backup, |(volume, _)| volume);
            log::set_subject(SourceName::of_backups(volume));
        }
        let now = SystemClock.now();
        match find(backup, None, now) {
            Err(LocateError::NoDestination(_)) => Ok(find(backup, Some(self.opened()?), now)),
            by_path => Ok(by_path),
        }
    }
}

/// A path in which `~/` stands for the user's home directory, as in a shell.
pub(crate) fn from_home(typed: &str) -> PathBuf {
    match (typed.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(below), Some(home)) => PathBuf::from(home).join(below),
        _ => typed.into(),
    }
}

/// The volume that a name stands for. That it stands for several is wrong usage.
pub(crate) fn volume_called(destination: &Destination, name: &str) -> anyhow::Result<String> {
    locate::volume_called(destination, name).map_err(|error| match error {
        LocateError::Ambiguous { .. } => UsageError(error.to_string()).into(),
        error => error.into(),
    })
}

impl Place {
    /// Opens the destination. With `require_mount`, the destination of the config must be mounted.
    pub(crate) fn open(&self) -> Result<Destination, StoreError> {
        match &self.config {
            Some(config) => Destination::reach_mounted(&self.root, &config.store, self.must_be_mounted),
            None => Destination::reach_mounted(&self.root, &StoreOptions::default(), self.must_be_mounted),
        }
    }

    /// The names in the destination, without waiting for a store.
    pub(crate) fn known_names(&self) -> Option<KnownNames> {
        let options = self.config.as_ref().map(|config| config.store.clone()).unwrap_or_default();
        KnownNames::of(&self.root, &options, self.must_be_mounted)
    }

    /// The config, as returned by [`Where::config`].
    pub(crate) fn into_config(self) -> Result<Config, UsageError> {
        let mut config = match self.config {
            Some(config) => config,
            None => defaults(&self.root)?,
        };
        config.require_mount = self.must_be_mounted;
        config.backup_destination = self.root;
        Ok(config)
    }
}

/// Logs the notes about a backup, and returns it.
fn noted(found: Located) -> Backup {
    log::set_subject(SourceName::of_backups(&found.files.volume()));
    for note in &found.notes {
        log::warning(note);
    }
    found.files
}

/// Reads a config. The error lists its mistakes.
pub(crate) fn load(path: &Path) -> Result<Config, UsageError> {
    let config = Config::load(path, std::env::vars_os())
        .map_err(|error| UsageError(format!("{:#}", anyhow::Error::new(error))))?;
    keys::take_from(&config).map_err(|error| UsageError(format!("{error:#}")))?;
    if let Some(found) = &config.changeable {
        log::warning(&format!("warning: {}: the config does not belong to root alone: {found}", path.display()));
    }
    Ok(config)
}

fn defaults(root: &Path) -> Result<Config, UsageError> {
    let in_store = is_in_object_store(root).then(|| Ok(root.to_owned()));
    let absolute = in_store
        .unwrap_or_else(|| std::path::absolute(root))
        .map_err(|error| UsageError(format!("{}: {error}", root.display())))?;
    let named: [(OsString, OsString); 1] = [(DESTINATION_VARIABLE.into(), absolute.into())];
    Config::parse("", named).map_err(|error| UsageError(format!("{:#}", anyhow::Error::new(error))))
}
