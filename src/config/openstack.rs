//! The table `[openstack]`. Its presence switches it on.

use std::path::PathBuf;
use std::time::Duration;

use super::choice::{Choice, RetentionLimits, Term};
use super::kinds::seconds;
use super::section::Section;

/// The table `[openstack]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStackOptions {
    /// Whether the cloud is asked at all.
    pub enabled: bool,
    /// The name of the cloud in clouds.yaml; `OS_CLOUD`, or the variables `OS_*`, if `None`.
    pub cloud: Option<String>,
    /// The clouds.yaml; the usual places if `None`.
    pub clouds_file: Option<PathBuf>,
    /// A file with the authorities that sign the servers' certificates.
    pub ca_file: Option<PathBuf>,
    /// The time that the cloud has for all answers of a run together.
    pub deadline: Duration,
    /// The directory of a driver that keeps volumes in files; logical volumes if `None`.
    pub volumes_dir: Option<PathBuf>,
    /// This host's name in Cinder, before the `@`; the host's own name if `None`.
    pub host: Option<String>,
    /// Which volumes are backed up, by what the cloud says of them; all that the patterns select if `None`.
    pub select: Option<Choice>,
    /// The days that a volume's metadata `volbak:retention` may ask for; it is not heeded if `None`.
    pub retention_limits: Option<RetentionLimits>,
    /// Whether the volumes of an instance are a set.
    pub group_by_instance: bool,
    /// Whether instances are quiesced by their guest agents; their volumes are sets then, too.
    pub freezes_instances: bool,
}

impl OpenStackOptions {
    /// Whether the cloud's words about volumes decide anything.
    pub(crate) fn decides(&self) -> bool {
        self.enabled && (self.select.is_some() || self.retention_limits.is_some() || self.groups_instances())
    }

    /// Whether the volumes of an instance are a set.
    pub(crate) fn groups_instances(&self) -> bool {
        self.enabled && (self.group_by_instance || self.freezes_instances)
    }
}

impl Default for OpenStackOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            cloud: None,
            clouds_file: None,
            ca_file: None,
            deadline: Duration::from_secs(60),
            volumes_dir: None,
            host: None,
            select: None,
            retention_limits: None,
            group_by_instance: false,
            freezes_instances: false,
        }
    }
}

pub(super) fn read(section: &Section<'_>, is_there: bool) -> OpenStackOptions {
    let usual = OpenStackOptions::default();
    let cloud = section.text("cloud", "admin");
    let clouds_file = section.path("clouds_file", "/etc/volbak/clouds.yaml");
    OpenStackOptions {
        enabled: section.boolean("enabled").unwrap_or(is_there || cloud.is_some() || clouds_file.is_some()),
        cloud,
        clouds_file,
        ca_file: section.path("ca_file", "/etc/volbak/cloud-ca.pem"),
        deadline: seconds(section, "deadline_seconds", 3600).unwrap_or(usual.deadline),
        volumes_dir: section.path("volumes_dir", "/var/lib/cinder/mnt/0123abcd"),
        host: section.text("host", "storage-1"),
        select: section.list("select", Term::new).map(Choice),
        retention_limits: section.parsed("retention_limits", RetentionLimits::RIGHT, RetentionLimits::parse),
        group_by_instance: section.boolean("group_by_instance").unwrap_or(usual.group_by_instance),
        freezes_instances: section
            .choice("freeze", &[("none", false), ("guest-agent", true)])
            .unwrap_or(usual.freezes_instances),
    }
}
