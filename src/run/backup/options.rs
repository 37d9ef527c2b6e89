//! How a backup is made, and what it works with.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::limit::TimeLimit;
use crate::config::{ArchiveOptions, ChangeLimits, Config, Expectation, VolumeOptions};
use crate::events::Observer;
use crate::outside::host::processors;
use crate::outside::{Cancel, Clock, RunCommand};
use crate::run::parent::ParentChoice;
use crate::source::FreezeOptions;

/// The world that a backup works in.
#[derive(Clone)]
pub struct BackupWorld {
    /// Runs LVM's tools.
    pub commands: Arc<dyn RunCommand>,
    /// Tells the time that names the backup.
    pub clock: Arc<dyn Clock>,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Ends the work.
    pub cancel: Cancel,
}

/// How a backup is made.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// How the archive is made. Without `scratch`, journals are replayed in the directory of the volume's backups.
    pub archive: ArchiveOptions,
    /// How long it may take; `None` is no limit.
    pub time_limit: Option<TimeLimit>,
    /// How long the archive may be before it is compressed, in bytes; `None` is no limit.
    pub max_bytes: Option<u64>,
    /// How the snapshot is taken.
    pub freeze: FreezeOptions,
    /// Whether the snapshot stays.
    pub keep_snapshot: bool,
    /// Which backup is carried forward from.
    pub parent: ParentChoice,
    /// Whether the archive gets a `.checksum` beside it.
    pub checksum: bool,
    /// What counts as a sudden change; `None` looks for none.
    pub change_limits: Option<ChangeLimits>,
    /// What is done around the moment at which the source is frozen.
    pub around: Option<Arc<dyn AroundFreeze>>,
    /// What the source holds that is no problem.
    pub expect: Vec<Expectation>,
}

impl BackupOptions {
    /// How many threads compress.
    pub(super) fn threads(&self) -> usize {
        let wanted = self.archive.threads.and_then(|threads| usize::try_from(threads).ok());
        wanted.unwrap_or_else(processors)
    }
}

/// How the config has a volume backed up. Its time limit is that of a volume alone, and nothing is done around the snapshot.
impl From<&VolumeOptions> for BackupOptions {
    fn from(options: &VolumeOptions) -> Self {
        Self {
            archive: options.archive.clone(),
            time_limit: options.max_time.map(|duration| TimeLimit { duration, name: "max_volume_hours".to_owned() }),
            max_bytes: options.max_bytes,
            freeze: options.snapshot.clone(),
            keep_snapshot: false,
            parent: ParentChoice::Newest,
            checksum: true,
            change_limits: options.finds_sudden_changes.then_some(options.change),
            around: None,
            expect: options.expect.clone(),
        }
    }
}

/// As a volume is backed up without a config.
impl Default for BackupOptions {
    fn default() -> Self {
        Self::from(&Config::default().for_volume("", ""))
    }
}

/// Why what is to be done around the moment of the freeze was not done.
pub type AroundError = Box<dyn Error + Send + Sync>;

/// What is done around the moment at which a source is frozen: an instance is told to hold its breath, and to go on.
pub trait AroundFreeze: fmt::Debug + Send + Sync {
    /// Done before. When it fails there is no snapshot and no backup; [`Self::after`] follows all the same.
    fn before(&self) -> Result<(), AroundError>;

    /// Done after: the source was frozen as `snapshot` (`VG/LV`, for a volume), or could not be (`is_frozen` is
    /// false). When it fails, that is a problem of the backup.
    fn after(&self, snapshot: Option<&str>, is_frozen: bool) -> Result<(), AroundError>;
}
