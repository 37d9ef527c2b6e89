//! The map of a cloud: which instance a volume belongs to, as Cinder and Nova saw it at one moment.
//!
//! The map is plain data, so it can be read and shown without a cloud or a client. It holds no secrets.

#[cfg(feature = "openstack")]
mod differences;
mod text;

use std::collections::BTreeMap;
#[cfg(feature = "openstack")]
use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use text::shown_names;

/// The version of the format that this program writes.
pub const FORMAT: u32 = 1;
/// A larger file is not accepted as a map.
pub const MAX_BYTES: u64 = 256 << 20;
/// Cinder's names of logical volumes, before the UUID.
pub const VOLUME_PREFIX: &str = "volume-";

/// The map of a cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudMap {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// The cloud: its name in clouds.yaml, or Keystone's address.
    pub cloud: String,
    /// The region, if one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether Nova says which attachment of Cinder it means. Nova before Yoga does not.
    #[serde(default = "yes")]
    pub knows_attachment_ids: bool,
    /// The volumes, sorted by id.
    pub volumes: Vec<CloudVolume>,
    /// The instances, sorted by id.
    pub instances: Vec<Instance>,
    /// What could not be asked, and what is missing for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

fn yes() -> bool {
    true
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudVolume {
    /// Its UUID.
    pub id: String,
    /// The name of its logical volume.
    pub lv: String,
    /// The display name; empty if it has none.
    pub name: String,
    /// Cinder's status.
    pub status: String,
    /// Its size in GiB.
    pub size_gib: u64,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    /// The availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Where it lies, `HOST@BACKEND#POOL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The id of its project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The name of its project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    /// Whether an instance can boot from it.
    #[serde(default)]
    pub bootable: bool,
    /// Whether several instances can have it at once.
    #[serde(default)]
    pub multiattach: bool,
    /// Whether Nova encrypts its content.
    #[serde(default)]
    pub encrypted: bool,
    /// When it was made, as Cinder writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Its metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The metadata of the image that it was made from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub image_metadata: BTreeMap<String, String>,
    /// Where it is attached, as Cinder and Nova see it: one for each attachment or instance that either knows.
    #[serde(default)]
    pub attachments: Vec<Attached>,
    /// Where the two differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// An attachment of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The instance, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_name: Option<String>,
    /// Cinder's side; `None` if Nova alone knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cinder: Option<CinderSide>,
    /// Nova's side; `None` if Cinder alone knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nova: Option<NovaSide>,
}

/// An attachment, as Cinder sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CinderSide {
    /// Its UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<String>,
    /// `attached`, `reserved`, `detaching` and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The compute host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The iSCSI name of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iqn: Option<String>,
    /// Its address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<String>,
}

/// An attachment, as Nova sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NovaSide {
    /// Cinder's attachment that it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<String>,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Nova's own number of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bdm: Option<String>,
}

/// An instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Nova's status.
    pub status: String,
    /// The id of its project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The compute host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// 1 is running, 4 is shut down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<i64>,
    /// The task under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_state: Option<String>,
    /// Addresses, by network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Vec<String>>,
    /// The device that it boots from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_device: Option<String>,
    /// Its disks on the compute host: `root`, `ephemeral`, `swap`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_disks: Vec<String>,
}

/// How Cinder and Nova differ about a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    /// Nova maps it to an instance, and Cinder has no attachment. If Cinder says `available` or `error`, too, this is
    /// the state that neither detaching nor attaching ends.
    OnlyNova {
        /// The instance.
        instance: String,
    },
    /// Cinder has an attachment that Nova does not map.
    OnlyCinder {
        /// The attachment.
        attachment: String,
        /// The instance, if Cinder names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
    },
    /// Nova means another attachment than Cinder has.
    OtherAttachment {
        /// The instance.
        instance: String,
        /// Cinder's.
        cinder: String,
        /// Nova's.
        nova: String,
    },
    /// Cinder names an instance that Nova does not have.
    NoSuchInstance {
        /// The instance.
        instance: String,
    },
    /// The status does not fit the attachments, as `detaching` with one that Nova maps.
    Status {
        /// The status.
        status: String,
    },
}

/// What a backup's manifest says of its volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInCloud {
    /// The cloud.
    pub cloud: String,
    /// When the map was taken.
    pub taken_at: DateTime<Utc>,
    /// The volume.
    pub volume: CloudVolume,
}

impl CloudMap {
    /// Reads a saved map.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadMap> {
        let map: Self = serde_json::from_slice(bytes)?;
        if map.format > FORMAT { Err(BadMap::TooNew(map.format)) } else { Ok(map) }
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadMap> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The volume with this logical volume.
    pub fn of_lv(&self, lv: &str) -> Option<&CloudVolume> {
        self.volumes.iter().find(|volume| volume.lv == lv)
    }

    /// What a manifest says of a volume.
    pub fn entry(&self, lv: &str) -> Option<VolumeInCloud> {
        let volume = self.of_lv(lv)?.clone();
        Some(VolumeInCloud { cloud: self.cloud.clone(), taken_at: self.taken_at, volume })
    }

    /// The volumes with this UUID or this display name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a CloudVolume> {
        self.volumes.iter().filter(move |volume| volume.is_called(name))
    }

    /// The volumes that Cinder has on this host, by the host's name before `@`.
    pub fn on_host<'a, 'h>(&'a self, host: &'h str) -> impl Iterator<Item = &'a CloudVolume> + use<'a, 'h> {
        let is_there = move |volume: &&CloudVolume| {
            volume.host.as_deref().is_some_and(|place| place.split(['@', '#']).next() == Some(host))
        };
        self.volumes.iter().filter(is_there)
    }

    /// Whether it has the volumes of all projects: Cinder says hosts to an administrator alone.
    pub fn is_complete(&self) -> bool {
        self.volumes.iter().any(|volume| volume.host.is_some())
    }

    /// Puts everything in its order, so that two maps can be compared line by line, and finds the differences.
    #[cfg(feature = "openstack")]
    pub(crate) fn settle(&mut self) {
        self.volumes.sort_by(|one, other| one.id.cmp(&other.id));
        self.instances.sort_by(|one, other| one.id.cmp(&other.id));
        let instances: BTreeSet<&str> = self.instances.iter().map(|instance| instance.id.as_str()).collect();
        for volume in &mut self.volumes {
            let key = |one: &Attached| {
                let cinder = one.cinder.as_ref().and_then(|side| side.attachment.clone());
                (one.instance.clone(), cinder)
            };
            volume.attachments.sort_by_key(key);
            volume.differences = differences::of(volume, &instances, self.knows_attachment_ids);
        }
    }
}

impl CloudVolume {
    /// Whether this is its UUID, its logical volume's name, or its display name.
    pub fn is_called(&self, name: &str) -> bool {
        !name.is_empty() && (self.id == name || self.name == name || self.lv == name)
    }
}

/// Why a file is no map.
#[derive(Debug, thiserror::Error)]
pub enum BadMap {
    /// It is not JSON of this form.
    #[error("the map of the cloud cannot be understood")]
    Json(#[from] serde_json::Error),
    /// It was written by a newer version.
    #[error("the map of the cloud has format {0}, and this version of volbak knows formats up to {FORMAT}")]
    TooNew(u32),
}
