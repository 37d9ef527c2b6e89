//! What a cloud has: volumes, attachments, instances, services, projects.

use serde::Deserialize;
use ureq::http::Method;

use super::answers::{Attachment, NovaAttachment, Project, Server, Service, Volume};
use super::catalogue::{BLOCK_STORAGE, COMPUTE};
use super::error::CloudError;
use super::message::{in_path, understood};
use super::session::Session;

impl Session {
    /// All volumes of all projects.
    pub fn volumes(&self) -> Result<Vec<Volume>, CloudError> {
        self.list(BLOCK_STORAGE, "3.27", "/volumes/detail?all_tenants=1", "volumes")
    }

    /// All attachments of all projects.
    pub fn attachments(&self) -> Result<Vec<Attachment>, CloudError> {
        self.list(BLOCK_STORAGE, "3.27", "/attachments/detail?all_tenants=1", "attachments")
    }

    /// All instances of all projects.
    pub fn servers(&self) -> Result<Vec<Server>, CloudError> {
        self.list(COMPUTE, "2.79", "/servers/detail?all_tenants=1", "servers")
    }

    /// The volumes of an instance, as Nova maps them. `expected` is how many its list has: Nova cuts a long answer
    /// off without a link to the rest.
    pub fn volumes_of(&self, server: &str, expected: usize) -> Result<Vec<NovaAttachment>, CloudError> {
        let mut rows: Vec<NovaAttachment> = Vec::new();
        loop {
            let path = format!("/servers/{}/os-volume_attachments?offset={}", in_path(server)?, rows.len());
            let found = self.page_of_attachments(&path)?;
            let before = rows.len();
            for row in found {
                if !rows.iter().any(|other| other.volume == row.volume) {
                    rows.push(row);
                }
            }
            // Without further rows the list has grown shorter meanwhile, or the offset is not heeded.
            if rows.len() >= expected || rows.len() == before {
                return Ok(rows);
            }
        }
    }

    fn page_of_attachments(&self, path: &str) -> Result<Vec<NovaAttachment>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            #[serde(rename = "volumeAttachments")]
            rows: Vec<NovaAttachment>,
        }
        if !self.old_compute.get() {
            match self.read::<Rows>(COMPUTE, "2.89", path) {
                Err(CloudError::Status { status: 406, .. }) => self.old_compute.set(true),
                done => return Ok(done?.rows),
            }
        }
        Ok(self.read::<Rows>(COMPUTE, "2.79", path)?.rows)
    }

    /// Cinder's services.
    pub fn volume_services(&self) -> Result<Vec<Service>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            services: Vec<Service>,
        }
        Ok(self.read::<Rows>(BLOCK_STORAGE, "3.27", "/os-services")?.services)
    }

    /// Nova's services.
    pub fn compute_services(&self) -> Result<Vec<Service>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            services: Vec<Service>,
        }
        Ok(self.read::<Rows>(COMPUTE, "2.79", "/os-services")?.services)
    }

    /// The projects that the user may see.
    pub fn projects(&self) -> Result<Vec<Project>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            projects: Vec<Project>,
        }
        let url = format!("{}/projects", self.settings.auth_url);
        let answer = self.attempt(&Method::GET, &url, None, None)?;
        Ok(understood::<Rows>(&format!("GET {url}"), &answer.body)?.projects)
    }
}
