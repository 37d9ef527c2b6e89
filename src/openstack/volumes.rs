//! The changes that a restore into a volume makes in Cinder. Each write is sent once.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::answers::Volume;
use super::catalogue::BLOCK_STORAGE;
use super::error::CloudError;
use super::message::{in_path, understood};
use super::session::Session;

/// A volume to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// The display name.
    pub name: String,
    /// In GiB.
    pub size_gib: u64,
    /// The name of its type; Cinder's default if `None`.
    pub volume_type: Option<String>,
    /// The availability zone; Cinder's choice if `None`.
    pub zone: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Session {
    /// Makes a volume. Cinder answers before it is there.
    pub fn make_volume(&self, new: &NewVolume) -> Result<Volume, CloudError> {
        #[derive(Deserialize)]
        struct Made {
            volume: Volume,
        }
        let mut volume = json!({ "name": new.name, "size": new.size_gib, "metadata": new.metadata });
        if let Some(kind) = &new.volume_type {
            volume["volume_type"] = kind.as_str().into();
        }
        if let Some(zone) = &new.zone {
            volume["availability_zone"] = zone.as_str().into();
        }
        let made = self.write(&Method::POST, BLOCK_STORAGE, "3.27", "/volumes", Some(&json!({ "volume": volume })))?;
        Ok(understood::<Made>("POST /volumes", &made)?.volume)
    }

    /// Deletes a volume. Cinder answers before it is gone.
    pub fn delete_volume(&self, volume: &str) -> Result<(), CloudError> {
        let path = format!("/volumes/{}", in_path(volume)?);
        self.write(&Method::DELETE, BLOCK_STORAGE, "3.27", &path, None).map(drop)
    }

    /// Takes a volume that no instance has out of use: nothing can attach or delete it.
    pub fn begin_maintenance(&self, volume: &str) -> Result<(), CloudError> {
        self.act_on(volume, &json!({ "os-reset_status": { "status": "maintenance" } }))
    }

    /// Brings a volume that was in maintenance back into use. It has no attachment: nothing can attach it there.
    pub fn end_maintenance(&self, volume: &str) -> Result<(), CloudError> {
        self.act_on(volume, &json!({ "os-reset_status": { "status": "available" } }))
    }

    /// Says whether an instance can boot from a volume.
    pub fn set_bootable(&self, volume: &str, bootable: bool) -> Result<(), CloudError> {
        self.act_on(volume, &json!({ "os-set_bootable": { "bootable": bootable } }))
    }

    /// Sets the metadata of a volume's image.
    pub fn set_image_metadata(&self, volume: &str, metadata: &BTreeMap<String, String>) -> Result<(), CloudError> {
        self.act_on(volume, &json!({ "os-set_image_metadata": { "metadata": metadata } }))
    }

    /// Sets one key of a volume's metadata.
    pub fn set_metadata(&self, volume: &str, key: &str, value: &str) -> Result<(), CloudError> {
        let path = format!("/volumes/{}/metadata", in_path(volume)?);
        let body = json!({ "metadata": { key: value } });
        self.write(&Method::POST, BLOCK_STORAGE, "3.27", &path, Some(&body)).map(drop)
    }

    /// Deletes one key of a volume's metadata.
    pub fn delete_metadata(&self, volume: &str, key: &str) -> Result<(), CloudError> {
        let path = format!("/volumes/{}/metadata/{}", in_path(volume)?, in_path(key)?);
        self.write(&Method::DELETE, BLOCK_STORAGE, "3.27", &path, None).map(drop)
    }

    fn act_on(&self, volume: &str, body: &Value) -> Result<(), CloudError> {
        let path = format!("/volumes/{}/action", in_path(volume)?);
        self.write(&Method::POST, BLOCK_STORAGE, "3.27", &path, Some(body)).map(drop)
    }
}
