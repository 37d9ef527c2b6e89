//! Options of a backup, and the services it uses.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::limit::TimeLimit;
use super::taken::TakenSnapshot;
use crate::archive::kind::{ArchiveKind, BackupMode};
use crate::cloud::VolumeInCloud;
use crate::config::{ArchiveOptions, ChangeLimits, Config, Expectation, FREEZE_LIMIT, VolumeOptions};
use crate::events::Observer;
use crate::outside::host::processors;
use crate::outside::{Cancel, Clock, RunCommand};
use crate::run::parent::ParentChoice;
use crate::source::FreezeOptions;

/// External services for a backup.
#[derive(Clone)]
pub struct BackupWorld {
    /// Runs LVM's tools.
    pub commands: Arc<dyn RunCommand>,
    /// The time, which names the backup.
    pub clock: Arc<dyn Clock>,
    /// Receives events.
    pub observer: Arc<dyn Observer>,
    /// Cancels the operation.
    pub cancel: Cancel,
}

/// Options of a backup.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupOptions {
    /// What is backed up.
    pub mode: BackupMode,
    /// Options of the archive. Without `scratch`, journals are replayed in the directory of the volume's backups.
    pub archive: ArchiveOptions,
    /// The time limit; `None` means no limit.
    pub time_limit: Option<TimeLimit>,
    /// The maximum length of the archive before compression, in bytes; `None` means no limit.
    pub max_bytes: Option<u64>,
    /// Options of the snapshot.
    pub freeze: FreezeOptions,
    /// Whether the snapshot is kept.
    pub keep_snapshot: bool,
    /// The backup to carry forward from.
    pub parent: ParentChoice,
    /// Whether the archive gets a `.checksum` beside it.
    pub checksum: bool,
    /// The limits of a sudden change; `None` disables the check.
    pub change_limits: Option<ChangeLimits>,
    /// Actions around the freeze.
    pub around: Option<Arc<dyn AroundFreeze>>,
    /// Content that is expected and reported as no problem.
    pub expect: Vec<Expectation>,
    /// The volume in the cloud, for the manifest.
    pub cloud: Option<Box<VolumeInCloud>>,
    /// Its snapshot, if it was taken together with those of other volumes.
    pub(crate) set: Option<Arc<TakenSnapshot>>,
}

impl BackupOptions {
    /// What the archive is.
    pub(super) fn kind(&self) -> ArchiveKind {
        match self.mode {
            BackupMode::Files if self.archive.encryption.is_some() => ArchiveKind::SealedFiles(self.archive.format),
            BackupMode::Files => ArchiveKind::Files(self.archive.format),
            BackupMode::Image if self.archive.encryption.is_some() => ArchiveKind::SealedImage,
            BackupMode::Image => ArchiveKind::Image,
        }
    }

    /// The number of compression threads.
    pub(in crate::run) fn threads(&self) -> usize {
        let wanted = self.archive.threads.and_then(|threads| usize::try_from(threads).ok());
        wanted.unwrap_or_else(processors)
    }
}

/// The config's options for a volume. The time limit is that of the volume alone, and there are no actions around
/// the snapshot.
impl From<&VolumeOptions> for BackupOptions {
    fn from(options: &VolumeOptions) -> Self {
        Self {
            mode: options.mode,
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
            cloud: None,
            set: None,
        }
    }
}

/// The options without a config.
impl Default for BackupOptions {
    fn default() -> Self {
        Self::from(&Config::default().for_volume("", ""))
    }
}

/// Why an action around the freeze failed.
pub type AroundError = Box<dyn Error + Send + Sync>;

/// Actions around the freeze of a source, for example to pause and resume writes in an instance.
pub trait AroundFreeze: fmt::Debug + Send + Sync {
    /// Runs before the freeze. If it fails there is no snapshot and no backup; [`Self::after`] still runs.
    fn before(&self) -> Result<(), AroundError>;

    /// Runs after the freeze: `snapshot` is `VG/LV` for a volume; `is_frozen` is false if the freeze failed. An
    /// error is reported as a problem of the backup.
    fn after(&self, snapshot: Option<&str>, is_frozen: bool) -> Result<(), AroundError>;

    /// How long the freeze may take. After it, [`Self::after`] runs at once, although the snapshot is not there.
    fn freeze_limit(&self) -> Duration {
        FREEZE_LIMIT
    }
}
