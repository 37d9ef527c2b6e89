//! The parts of answers that volbak uses, as types. Everything else in an answer is skipped, and never held.

use std::collections::BTreeMap;

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A value, or its default where the answer has `null`.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Metadata: text to text. What is no text is written as JSON.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map: Option<BTreeMap<String, serde_json::Value>> = Option::deserialize(deserializer)?;
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(map.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// Cinder writes `"true"` and `"false"`.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Truth {
        Is(bool),
        Text(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Truth::Is(is)) => is,
        Some(Truth::Text(text)) => text.eq_ignore_ascii_case("true"),
        None => false,
    })
}

/// A volume, as Cinder sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Its UUID.
    pub id: String,
    /// The display name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// `available`, `in-use`, `detaching` and others.
    pub status: String,
    /// Its size in GiB.
    pub size: u64,
    #[serde(default)]
    /// The name of its type.
    pub volume_type: Option<String>,
    /// Whether an instance can boot from it.
    #[serde(default, deserialize_with = "truth")]
    pub bootable: bool,
    /// Whether several instances can have it at once.
    #[serde(default, deserialize_with = "nullable")]
    pub multiattach: bool,
    /// Whether its content is encrypted by Nova.
    #[serde(default, deserialize_with = "nullable")]
    pub encrypted: bool,
    /// The availability zone.
    #[serde(default)]
    pub availability_zone: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<String>,
    /// Its metadata.
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: BTreeMap<String, String>,
    /// What it inherited from its image.
    #[serde(default, deserialize_with = "metadata")]
    pub volume_image_metadata: BTreeMap<String, String>,
    /// The instances that have it.
    #[serde(default, deserialize_with = "nullable")]
    pub attachments: Vec<VolumeAttachment>,
    /// The project.
    #[serde(default, rename = "os-vol-tenant-attr:tenant_id")]
    pub project: Option<String>,
    /// Where it lies, `HOST@BACKEND#POOL`.
    #[serde(default, rename = "os-vol-host-attr:host")]
    pub host: Option<String>,
    /// The UUID in the logical volume's name, if it is another one since a migration.
    #[serde(default, rename = "os-vol-mig-status-attr:name_id")]
    pub name_id: Option<String>,
}

/// An attachment in the list of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct VolumeAttachment {
    /// The attachment.
    #[serde(default)]
    pub attachment_id: Option<String>,
    /// The instance.
    #[serde(default)]
    pub server_id: Option<String>,
    /// The device, as Cinder recorded it.
    #[serde(default)]
    pub device: Option<String>,
    /// The compute host.
    #[serde(default)]
    pub host_name: Option<String>,
}

/// An instance, as Nova sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Its UUID.
    pub id: String,
    /// Its name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// `ACTIVE`, `SHUTOFF` and others.
    pub status: String,
    /// The project.
    #[serde(default, rename = "tenant_id")]
    pub project: Option<String>,
    /// Addresses, by network.
    #[serde(default, deserialize_with = "nullable")]
    pub addresses: BTreeMap<String, Vec<Address>>,
    /// The compute host; `None` without the rights of an admin.
    #[serde(default, rename = "OS-EXT-SRV-ATTR:host")]
    pub host: Option<String>,
    /// The availability zone.
    #[serde(default, rename = "OS-EXT-AZ:availability_zone")]
    pub zone: Option<String>,
    /// 1 is running, 4 is shut down.
    #[serde(default, rename = "OS-EXT-STS:power_state")]
    pub power_state: Option<i64>,
    /// The task under way.
    #[serde(default, rename = "OS-EXT-STS:task_state")]
    pub task_state: Option<String>,
    /// Its volumes.
    #[serde(default, rename = "os-extended-volumes:volumes_attached", deserialize_with = "nullable")]
    pub volumes: Vec<AttachedVolume>,
    /// The device that it boots from.
    #[serde(default, rename = "OS-EXT-SRV-ATTR:root_device_name")]
    pub root_device: Option<String>,
    /// Whether it was made from an image, so that its root disk lies on its compute host; without one it boots from a volume.
    #[serde(default, rename = "image", deserialize_with = "is_object")]
    pub has_image: bool,
    /// Its further disks on the compute host.
    #[serde(default, deserialize_with = "flavor")]
    pub flavor: FlavorDisks,
}

/// Disks that a flavor makes on the compute host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlavorDisks {
    /// Whether it has an ephemeral disk.
    pub ephemeral: bool,
    /// Whether it has swap.
    pub swap: bool,
}

/// Nova writes `""` for no swap in some versions.
fn flavor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FlavorDisks, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let has = |key: &str| value.get(key).and_then(serde_json::Value::as_u64).is_some_and(|size| size > 0);
    let (ephemeral, swap) = (has("ephemeral") || has("OS-FLV-EXT-DATA:ephemeral"), has("swap"));
    Ok(FlavorDisks { ephemeral, swap })
}

/// Whether there is an object. Nova writes `""` for none.
fn is_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)?.is_object())
}

/// A past action on an instance through the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct InstanceAction {
    /// `reboot`, `attach_volume`, `evacuate` and others.
    pub action: String,
    /// The request: it tells one action from another.
    pub request_id: String,
    /// When it began, by Nova's clock, in UTC without a zone.
    #[serde(default)]
    pub start_time: Option<String>,
    /// `Error` if it failed.
    #[serde(default)]
    pub message: Option<String>,
}

/// An address of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// The address.
    pub addr: String,
}

/// A volume in the list of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AttachedVolume {
    /// The volume.
    pub id: String,
}

/// A volume of an instance, as Nova maps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NovaAttachment {
    /// The volume.
    #[serde(rename = "volumeId")]
    pub volume: String,
    /// The attachment, from microversion 2.89 on.
    #[serde(default)]
    pub attachment_id: Option<String>,
    /// The device.
    #[serde(default)]
    pub device: Option<String>,
    /// Nova's own number of the mapping, from microversion 2.89 on.
    #[serde(default)]
    pub bdm_uuid: Option<String>,
}

/// An attachment, as Cinder keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// Its UUID.
    pub id: String,
    /// The volume.
    pub volume_id: String,
    /// The instance.
    #[serde(default)]
    pub instance: Option<String>,
    /// `attached`, `reserved`, `detaching` and others.
    #[serde(default)]
    pub status: Option<String>,
    /// How the compute host reaches it.
    #[serde(default, deserialize_with = "connection")]
    pub connection_info: ConnectionFacts,
}

/// How a compute host reaches a volume: of all that Cinder says, only what is no secret. CHAP passwords stay in the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFacts {
    /// The iSCSI name of the target.
    #[serde(default, deserialize_with = "nullable")]
    pub target_iqn: Option<String>,
    /// Its address and port.
    #[serde(default, deserialize_with = "nullable")]
    pub target_portal: Option<String>,
}

/// The facts stand in the object itself, or in its `data`. An object of another form has none.
fn connection<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ConnectionFacts, D::Error> {
    #[derive(Deserialize, Default)]
    struct Nested {
        #[serde(flatten)]
        own: ConnectionFacts,
        #[serde(default)]
        data: Option<ConnectionFacts>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Facts(Nested),
        Other(IgnoredAny),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::Facts(Nested { own, data }) if own.target_iqn.is_none() => data.unwrap_or(own),
        Given::Facts(Nested { own, .. }) => own,
        Given::Other(_) => ConnectionFacts::default(),
    })
}

/// A service of Cinder or Nova.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// The program, as `cinder-volume`.
    pub binary: String,
    /// Its host.
    pub host: String,
    /// `up` or `down`.
    #[serde(default)]
    pub state: Option<String>,
    /// `enabled` or `disabled`.
    #[serde(default)]
    pub status: Option<String>,
    /// Nova's number of it, a UUID from microversion 2.53 on.
    #[serde(default)]
    pub id: Option<serde_json::Value>,
    /// Whether an administrator said that it is down.
    #[serde(default, deserialize_with = "nullable")]
    pub forced_down: bool,
}

/// A project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
}

/// Keystone's answer with a token.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    pub(super) token: TokenBody,
}

#[derive(Deserialize)]
pub(super) struct TokenBody {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) catalog: Vec<CatalogService>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) roles: Vec<Role>,
    #[serde(default)]
    pub(super) project: Option<Project>,
}

#[derive(Deserialize)]
pub(super) struct Role {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) name: String,
}

#[derive(Clone, Deserialize)]
pub(super) struct CatalogService {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) endpoints: Vec<CatalogEndpoint>,
}

#[derive(Clone, Deserialize)]
pub(super) struct CatalogEndpoint {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) interface: String,
    #[serde(default)]
    pub(super) region: Option<String>,
    #[serde(default)]
    pub(super) region_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) url: String,
}

/// A link in the links of a list.
#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) rel: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) href: String,
}
