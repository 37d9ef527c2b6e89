//! A whole, checked config, and what it says of one volume.

use std::path::PathBuf;
use std::time::Duration;

use super::options::{
    ArchiveOptions, ChangeLimits, DumpInstance, DumpOptions, HookOptions, IoNice, MailOptions, RecheckOptions,
    ReportOptions, Selected, VolumeOptions,
};
use super::pattern::Pattern;
use super::volume::VolumeException;
use crate::mail::Settings;
use crate::outside::trust::Changeable;
use crate::source::FreezeOptions;
use crate::store::retention::Policy;

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
    pub snapshot: FreezeOptions,
    /// How archives are made.
    pub archive: ArchiveOptions,
    /// How long backups are kept.
    pub retention: Policy,
    /// Whether a sudden change of a volume is looked for.
    pub finds_sudden_changes: bool,
    /// What counts as one.
    pub change: ChangeLimits,
    /// How the report looks, and where its figures go.
    pub report: ReportOptions,
    /// How the report is mailed.
    pub mail: MailOptions,
    /// Databases to dump.
    pub dumps: DumpOptions,
    /// Commands around each snapshot.
    pub hooks: HookOptions,
    /// How older backups are checked again.
    pub verify: RecheckOptions,
    /// Exceptions for single volumes, in the order of the file.
    pub volumes: Vec<VolumeException>,
    /// Who else can change the file that this was read from.
    pub changeable: Option<Changeable>,
}

/// What holds where the config says nothing. There is no usual destination: it is empty here.
impl Default for Config {
    fn default() -> Self {
        Self {
            backup_destination: PathBuf::new(),
            enable_checksum: true,
            enable_mysql_dump: false,
            enable_lvmsnapshots: true,
            enable_mail_notification: false,
            lvm_test_mode: false,
            email_recipient: Vec::new(),
            volume_groups: vec!["cinder-volumes".to_owned(), "nova-volumes".to_owned()],
            volume_groups_by_default: true,
            include: Pattern::new("volume-*").into_iter().collect(),
            exclude: Vec::new(),
            require_mount: true,
            max_run: None,
            max_volume: None,
            max_volume_size: None,
            nice: None,
            ionice: None,
            read_rate_limit: None,
            snapshot: FreezeOptions::default(),
            archive: ArchiveOptions::default(),
            retention: Policy::default(),
            finds_sudden_changes: true,
            change: ChangeLimits::default(),
            report: ReportOptions::default(),
            mail: MailOptions::default(),
            dumps: DumpOptions::default(),
            hooks: HookOptions::default(),
            verify: RecheckOptions::default(),
            volumes: Vec::new(),
            changeable: None,
        }
    }
}

impl Config {
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
            retention: self.retention,
            hooks: self.hooks.clone(),
            finds_sudden_changes: self.finds_sudden_changes,
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

    /// How the report is mailed from this host.
    pub fn mail_settings(&self, host: &str) -> Settings {
        Settings {
            transport: self.mail.transport.clone(),
            from: self.mail.from.clone().unwrap_or_else(|| Settings::default_sender(host)),
            to: self.email_recipient.clone(),
            host: host.to_owned(),
            deadline: self.mail.deadline,
            spool: self.mail.spool.clone(),
        }
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
