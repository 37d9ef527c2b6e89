//! A validated config, and the options for one volume.

use std::path::PathBuf;
use std::time::Duration;

use super::copy::CopyTarget;
use super::encryption::EncryptionTable;
use super::fleet::FleetOptions;
use super::group::VolumeGroup;
use super::openstack::OpenStackOptions;
use super::options::{
    ArchiveOptions, ChangeLimits, DumpInstance, DumpOptions, HookOptions, IoNice, MailOptions, RecheckOptions,
    ReportOptions, Selected, VolumeOptions,
};
use super::pattern::Pattern;
use super::rehearse::RehearsalOptions;
use super::store::StoreOptions;
use super::volume::VolumeException;
use super::window::Window;
use crate::archive::kind::BackupMode;
use crate::mail::Settings;
use crate::notify::NotifyOptions;
use crate::outside::trust::Changeable;
use crate::source::FreezeOptions;
use crate::store::retention::Policy;

/// A validated config.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "the documented script's switches, each of its own")]
pub struct Config {
    /// The destination: a directory with one subdirectory per volume. Absolute.
    pub backup_destination: PathBuf,
    /// Whether archives get a `.checksum` beside them.
    pub enable_checksum: bool,
    /// Whether databases inside instances are dumped before the backup.
    pub enable_mysql_dump: bool,
    /// Whether volumes are backed up.
    pub enable_lvmsnapshots: bool,
    /// Whether the report is sent by mail.
    pub enable_mail_notification: bool,
    /// Whether each run is a test: all steps for a single volume.
    pub lvm_test_mode: bool,
    /// The recipients of the report.
    pub email_recipient: Vec<String>,
    /// The volume groups whose volumes are backed up.
    pub volume_groups: Vec<String>,
    /// Whether these are the default ones, since the config names none.
    pub volume_groups_by_default: bool,
    /// Patterns of volumes to back up.
    pub include: Vec<Pattern>,
    /// Patterns of volumes to leave out.
    pub exclude: Vec<Pattern>,
    /// Whether the destination must be on a mount point other than `/`.
    pub require_mount: bool,
    /// No further volume is started after this time; `None` means no limit.
    pub max_run: Option<Duration>,
    /// The number of volumes that are backed up at the same time.
    pub(crate) jobs: usize,
    /// How many of them may be in the same volume group.
    pub(crate) jobs_per_group: usize,
    /// The time between a failure that may pass and the second attempt.
    pub(crate) retry_pause: Duration,
    /// The time of day in which volumes are begun.
    pub(crate) window: Window,
    /// The maximum duration of one volume's backup; `None` means no limit except the run's.
    pub max_volume: Option<Duration>,
    /// The maximum length of a volume's archive before compression; `None` means no limit.
    pub max_volume_size: Option<u64>,
    /// The run's niceness, 0 to 19; `None` keeps the present one.
    pub nice: Option<u32>,
    /// The run's I/O priority; `None` keeps the present one.
    pub ionice: Option<IoNice>,
    /// The maximum rate of reading volumes in bytes per second; `None` means no limit.
    pub read_rate_limit: Option<u64>,
    /// Options of snapshots.
    pub snapshot: FreezeOptions,
    /// Options of archives.
    pub archive: ArchiveOptions,
    /// Retention of backups.
    pub retention: Policy,
    /// Whether sudden changes are detected.
    pub finds_sudden_changes: bool,
    /// The limits of a sudden change.
    pub change: ChangeLimits,
    /// Options of the report.
    pub report: ReportOptions,
    /// Options of mail.
    pub mail: MailOptions,
    /// Options of database dumps.
    pub dumps: DumpOptions,
    /// Hooks around snapshots.
    pub hooks: HookOptions,
    /// Commands after each run, when its report is stored.
    pub after_run: Vec<Vec<String>>,
    /// Where notices go.
    pub notify: Vec<NotifyOptions>,
    /// The second destination.
    pub copy: CopyTarget,
    /// The states of hosts.
    pub fleet: FleetOptions,
    /// The cloud, which is asked for the names of volumes and instances.
    pub openstack: OpenStackOptions,
    /// Keys of encrypted backups.
    pub encryption: EncryptionTable,
    /// How an object store is reached.
    pub store: StoreOptions,
    /// Options of re-checks of older backups.
    pub verify: RecheckOptions,
    /// Options of rehearsals.
    pub rehearse: RehearsalOptions,
    /// Volumes that belong together, in the order of the file.
    pub groups: Vec<VolumeGroup>,
    /// Exceptions for single volumes, in the order of the file.
    pub volumes: Vec<VolumeException>,
    /// Other users who can change the file of this config.
    pub changeable: Option<Changeable>,
}

/// The defaults. There is no default destination: it is empty here.
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
            jobs: 1,
            jobs_per_group: 1,
            retry_pause: Duration::from_secs(60),
            window: Window::default(),
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
            after_run: Vec::new(),
            notify: Vec::new(),
            copy: CopyTarget::default(),
            fleet: FleetOptions::default(),
            openstack: OpenStackOptions::default(),
            encryption: EncryptionTable::default(),
            store: StoreOptions::default(),
            verify: RecheckOptions::default(),
            rehearse: RehearsalOptions::default(),
            groups: Vec::new(),
            volumes: Vec::new(),
            changeable: None,
        }
    }
}

impl Config {
    /// Whether this volume is backed up, and the line of the config that decides. Does not check the group against
    /// `volume_groups`.
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

    /// The options for this volume: the general settings, overridden by each matching `[volume."NAME"]`. An exact
    /// name takes precedence over wildcards, and an earlier wildcard over later ones.
    pub fn for_volume(&self, group: &str, volume: &str) -> VolumeOptions {
        let mut options = VolumeOptions {
            snapshot: self.snapshot.clone(),
            archive: self.archive.clone(),
            retention: self.retention,
            hooks: self.hooks.clone(),
            finds_sudden_changes: self.finds_sudden_changes,
            change: self.change,
            mode: BackupMode::Files,
            max_time: self.max_volume,
            max_bytes: self.max_volume_size,
            expect: Vec::new(),
        };
        for exception in self.exceptions(group, volume).iter().rev() {
            exception.apply(&mut options);
        }
        options
    }

    /// The instance whose dump this volume waits for.
    pub fn dump_for(&self, group: &str, volume: &str) -> Option<&DumpInstance> {
        self.dumps.instances.iter().find(|instance| instance.volumes.iter().any(|p| p.matches(group, volume)))
    }

    /// The mail settings for this host.
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

    /// The matching exceptions, highest precedence first.
    fn exceptions(&self, group: &str, volume: &str) -> Vec<&VolumeException> {
        let (exact, wild): (Vec<_>, Vec<_>) = self
            .volumes
            .iter()
            .filter(|exception| exception.pattern.matches(group, volume))
            .partition(|exception| exception.pattern.names(group, volume));
        exact.into_iter().chain(wild).collect()
    }
}
