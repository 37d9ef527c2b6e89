//! A fresh look at the one volume or instance that a step is about, right before it, and the waiting after it.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::error::RecoverError;
use super::observe::{seen_action, services};
use super::plan::Action;
use super::seen::{REBOOT, Seen, SeenAction, task};
use crate::cloud::{Attached, CloudMap, CloudVolume, Instance};
use crate::openstack::{CloudError, Session};
use crate::outside::Cancel;
use crate::run::cloud::collect::{instance, one_volume};

/// The pause between two looks.
const POLL: Duration = Duration::from_millis(700);

/// Looks at the cloud while steps are carried out.
pub(super) struct Looker<'a> {
    pub(super) session: &'a Session,
    pub(super) cancel: &'a Cancel,
    /// How long one step may take.
    pub(super) patience: Duration,
    /// The map of the plan: which instances may map a volume.
    pub(super) map: &'a CloudMap,
}

impl Looker<'_> {
    /// What a step is about, as it is now; with the services.
    pub(super) fn at(&self, action: &Action, now: DateTime<Utc>) -> Result<Seen, RecoverError> {
        self.session.renew_deadline();
        let services = services(self.session)?;
        let (mut volumes, mut instances, mut actions) = (Vec::new(), Vec::new(), BTreeMap::new());
        match (action.volume(), action.instance()) {
            (Some(volume), other) => {
                match self.volume(&volume.id, other.map(|instance| instance.id.as_str())) {
                    Ok((found, of)) => {
                        for one in &of {
                            match self.session.instance_actions(&one.id) {
                                Ok(done) => {
                                    let done = done.into_iter().map(seen_action).collect();
                                    actions.insert(one.id.clone(), done);
                                }
                                Err(error) if error.status() == Some(404) => {}
                                Err(error) => return Err(error.into()),
                            }
                        }
                        volumes.push(found);
                        instances = of;
                    }
                    // Deleted since.
                    Err(error) if error.status() == Some(404) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            (None, Some(other)) => match self.instance(&other.id) {
                Ok((found, of)) => {
                    actions.insert(other.id.clone(), of);
                    instances.push(found);
                }
                Err(error) if error.status() == Some(404) => {}
                Err(error) => return Err(error.into()),
            },
            (None, None) => {}
        }
        let map = CloudMap {
            taken_at: now,
            volumes,
            instances,
            doubts: Vec::new(),
            knows_attachment_ids: self.session.knows_attachment_ids(),
            ..empty(self.map)
        };
        Ok(Seen { map, services, actions })
    }

    /// A volume, with both sides of its attachments.
    pub(super) fn volume(&self, id: &str, also: Option<&str>) -> Result<(CloudVolume, Vec<Instance>), CloudError> {
        let known = self.map.volumes.iter().find(|volume| volume.id == id);
        let known = known.into_iter().flat_map(|volume| &volume.attachments).filter_map(|one| one.instance.clone());
        let instances: BTreeSet<String> = known.chain(also.map(str::to_owned)).collect();
        one_volume(self.session, id, &instances)
    }

    /// The attachment of a volume to an instance, and the volume's status.
    pub(super) fn pair(&self, volume: &str, of: &str) -> Result<(String, Option<Attached>), CloudError> {
        let (volume, _) = self.volume(volume, Some(of))?;
        let found = volume.attachments.into_iter().find(|one| one.instance.as_deref() == Some(of));
        Ok((volume.status, found))
    }

    /// An instance, and what was done to it.
    pub(super) fn instance(&self, id: &str) -> Result<(Instance, Vec<SeenAction>), CloudError> {
        let found = instance(self.session.server(id)?);
        let actions = self.session.instance_actions(id)?;
        Ok((found, actions.into_iter().map(seen_action).collect()))
    }

    /// The reboots of an instance that Nova knows.
    pub(super) fn reboots(&self, id: &str) -> Result<BTreeSet<String>, CloudError> {
        let actions = self.session.instance_actions(id)?;
        Ok(actions.into_iter().filter(|one| one.action == REBOOT).map(|one| one.request_id).collect())
    }

    /// Looks until it is so; `false` if the patience is over before.
    pub(super) fn until(
        &self,
        patience: Duration,
        mut is_so: impl FnMut() -> Result<bool, RecoverError>,
    ) -> Result<bool, RecoverError> {
        let began = Instant::now();
        loop {
            self.session.renew_deadline();
            if is_so()? {
                return Ok(true);
            }
            if self.cancel.is_cancelled() {
                return Err(RecoverError::Cancelled);
            }
            if began.elapsed() >= patience {
                return Ok(false);
            }
            sleep(POLL);
        }
    }

    /// Waits while something moves that should pass by itself, until it has not moved for `settle`: it is stale then.
    pub(super) fn settle(&self, settle: Duration) -> Result<(), RecoverError> {
        let (mut before, mut since) = (None, Instant::now());
        self.until(self.patience, || {
            let mut moving: Vec<(String, String)> = Vec::new();
            for volume in self.session.volumes()? {
                if matches!(volume.status.as_str(), "attaching" | "detaching" | "reserved") {
                    moving.push((volume.id, volume.status));
                }
            }
            for server in self.session.servers()? {
                if let Some(task) = server.task_state.filter(|task| !task.is_empty()) {
                    moving.push((server.id, task));
                }
            }
            if before.as_ref() != Some(&moving) {
                since = Instant::now();
                before = Some(moving);
            }
            Ok(before.as_ref().is_some_and(Vec::is_empty) || since.elapsed() >= settle)
        })?;
        Ok(())
    }

    /// Waits until nothing is done to an instance.
    pub(super) fn idle(&self, id: &str) -> Result<bool, RecoverError> {
        self.until(self.patience, || Ok(task(&instance(self.session.server(id)?)).is_none()))
    }
}

fn empty(map: &CloudMap) -> CloudMap {
    CloudMap {
        format: map.format,
        taken_at: map.taken_at,
        cloud: map.cloud.clone(),
        region: map.region.clone(),
        knows_attachment_ids: map.knows_attachment_ids,
        volumes: Vec::new(),
        instances: Vec::new(),
        doubts: Vec::new(),
    }
}
