//! The changes that a recovery makes, and reads of single objects. A write is sent once; the caller reads the result
//! afterwards. Microversions are those that the calls were seen to work with.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use super::answers::{Attachment, InstanceAction, Server, Volume};
use super::catalogue::{BLOCK_STORAGE, COMPUTE};
use super::error::CloudError;
use super::message::{in_path, understood};
use super::session::Session;

/// Actions of an instance that are read at most.
const MOST_ACTIONS: usize = 10_000;

/// The host of an attachment, as Cinder's API wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Connector {
    /// The compute host.
    pub host: String,
    /// Its iSCSI name.
    pub initiator: String,
    /// Its address.
    pub ip: String,
}

impl Session {
    /// One volume.
    pub fn volume(&self, id: &str) -> Result<Volume, CloudError> {
        #[derive(Deserialize)]
        struct One {
            volume: Volume,
        }
        Ok(self.read::<One>(BLOCK_STORAGE, "3.27", &format!("/volumes/{}", in_path(id)?))?.volume)
    }

    /// The attachments of one volume.
    pub fn attachments_of(&self, volume: &str) -> Result<Vec<Attachment>, CloudError> {
        let path = format!("/attachments/detail?all_tenants=1&volume_id={}", in_path(volume)?);
        let mut found: Vec<Attachment> = self.list(BLOCK_STORAGE, "3.27", &path, "attachments")?;
        // A server that does not know the filter answers with all.
        found.retain(|one| one.volume_id == volume);
        Ok(found)
    }

    /// One instance.
    pub fn server(&self, id: &str) -> Result<Server, CloudError> {
        #[derive(Deserialize)]
        struct One {
            server: Server,
        }
        Ok(self.read::<One>(COMPUTE, "2.79", &format!("/servers/{}", in_path(id)?))?.server)
    }

    /// What was done to an instance through the API, the newest first.
    pub fn instance_actions(&self, server: &str) -> Result<Vec<InstanceAction>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            #[serde(rename = "instanceActions")]
            rows: Vec<InstanceAction>,
        }
        let path = format!("/servers/{}/os-instance-actions", in_path(server)?);
        let mut rows: Vec<InstanceAction> = Vec::new();
        loop {
            // From 2.58 on an answer may be cut off; the marker is the last one's request.
            let query = match rows.last() {
                Some(last) => format!("?marker={}", in_path(&last.request_id)?),
                None => String::new(),
            };
            let found = self.read::<Rows>(COMPUTE, "2.79", &format!("{path}{query}"))?.rows;
            let before = rows.len();
            for row in found {
                if !rows.iter().any(|other| other.request_id == row.request_id) {
                    rows.push(row);
                }
            }
            if rows.len() == before {
                return Ok(rows);
            }
            if rows.len() > MOST_ACTIONS {
                let what = format!("GET {path}");
                return Err(CloudError::Endless { what, why: format!("it has more than {MOST_ACTIONS} rows") });
            }
        }
    }

    /// Says that a volume is in use and attached, as its attachments say. Never set `available` while Nova
    /// maps a volume: Cinder then deletes its attachments, and only [`Self::make_attachment`] repairs that.
    pub fn keep_attached(&self, volume: &str) -> Result<(), CloudError> {
        let body = json!({ "os-reset_status": { "status": "in-use", "attach_status": "attached" } });
        let path = format!("/volumes/{}/action", in_path(volume)?);
        self.write(&Method::POST, BLOCK_STORAGE, "3.27", &path, Some(&body)).map(drop)
    }

    /// Deletes an attachment. Cinder refuses with 409 if Nova uses it.
    pub fn delete_attachment(&self, attachment: &str) -> Result<(), CloudError> {
        let path = format!("/attachments/{}", in_path(attachment)?);
        self.write(&Method::DELETE, BLOCK_STORAGE, "3.27", &path, None).map(drop)
    }

    /// Makes an attachment of an available volume to an instance; returns its id.
    pub fn make_attachment(&self, volume: &str, server: &str, connector: &Connector) -> Result<String, CloudError> {
        #[derive(Deserialize)]
        struct Made {
            attachment: Id,
        }
        #[derive(Deserialize)]
        struct Id {
            id: String,
        }
        let body = json!({ "attachment": {
            "volume_uuid": in_path(volume)?, "instance_uuid": in_path(server)?, "connector": connector, "mode": "rw",
        } });
        let made = self.write(&Method::POST, BLOCK_STORAGE, "3.54", "/attachments", Some(&body))?;
        Ok(understood::<Made>("POST /attachments", &made)?.attachment.id)
    }

    /// Completes an attachment: the volume is then in use.
    pub fn complete_attachment(&self, attachment: &str) -> Result<(), CloudError> {
        let path = format!("/attachments/{}/action", in_path(attachment)?);
        self.write(&Method::POST, BLOCK_STORAGE, "3.44", &path, Some(&json!({ "os-complete": {} }))).map(drop)
    }

    /// Has Nova detach a volume. It answers before it is done.
    pub fn detach(&self, server: &str, volume: &str) -> Result<(), CloudError> {
        let path = format!("/servers/{}/os-volume_attachments/{}", in_path(server)?, in_path(volume)?);
        self.write(&Method::DELETE, COMPUTE, "2.79", &path, None).map(drop)
    }

    /// Has Nova attach an available volume. It answers before it is done. The device is Nova's choice: no hypervisor that is
    /// still there heeds a name.
    pub fn attach(&self, server: &str, volume: &str) -> Result<(), CloudError> {
        let path = format!("/servers/{}/os-volume_attachments", in_path(server)?);
        let body = json!({ "volumeAttachment": { "volumeId": in_path(volume)? } });
        self.write(&Method::POST, COMPUTE, "2.79", &path, Some(&body)).map(drop)
    }

    /// Switches an instance off and on. It answers before it is done, and two requests are two reboots.
    pub fn reboot_hard(&self, server: &str) -> Result<(), CloudError> {
        self.act(server, &json!({ "reboot": { "type": "HARD" } }))
    }

    /// Recreates an instance of a lost host on another one, with its volumes. Nova answers before it is done.
    pub fn evacuate(&self, server: &str, to: Option<&str>) -> Result<(), CloudError> {
        let target = to.map_or_else(|| json!({}), |host| json!({ "host": host }));
        self.act(server, &json!({ "evacuate": target }))
    }

    /// Forces a compute service down, by its UUID: Nova then no longer waits for it.
    pub fn force_down(&self, service: &str) -> Result<(), CloudError> {
        let path = format!("/os-services/{}", in_path(service)?);
        self.write(&Method::PUT, COMPUTE, "2.79", &path, Some(&json!({ "forced_down": true }))).map(drop)
    }

    fn act(&self, server: &str, body: &Value) -> Result<(), CloudError> {
        let path = format!("/servers/{}/action", in_path(server)?);
        self.write(&Method::POST, COMPUTE, "2.79", &path, Some(body)).map(drop)
    }
}
