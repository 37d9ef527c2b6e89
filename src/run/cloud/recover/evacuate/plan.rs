//! The plan of an evacuation, as a pure function of what was seen.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::cloud::Instance;
use crate::run::cloud::recover::plan::Named;
use crate::run::cloud::recover::seen::{Asked, COMPUTE_BINARY, EVACUATE, Seen, SeenService, named_instance, task};
use crate::shown;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuationPlan {
    /// The version of the format.
    pub format: u32,
    /// The cloud.
    pub cloud: String,
    /// The lost host.
    pub host: String,
    /// The host that gets the instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why nothing can be done.
    pub stops: Vec<String>,
    /// Whether the host's service is still to be forced down.
    pub force_down: bool,
    /// The instances that are evacuated, in this order.
    pub instances: Vec<Named>,
    /// The instances that are not.
    pub kept: Vec<Kept>,
}

/// An instance that is not evacuated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The instance.
    pub instance: Named,
    /// Why, and what to do next.
    pub why: String,
    /// Its volumes.
    pub volumes: Vec<VolumeBackup>,
}

/// A volume, and the backup from which it comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeBackup {
    /// The volume.
    pub volume: Named,
    /// Its newest complete backup here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// Makes the plan. `backup` names the newest backup of a logical volume.
pub(super) fn decide(
    seen: &Seen,
    host: &str,
    to: Option<&str>,
    shared_disks: bool,
    asked: &Asked,
    backup: &dyn Fn(&str) -> Option<String>,
) -> EvacuationPlan {
    let own = seen.services.iter().find(|one| one.binary == COMPUTE_BINARY && one.host == host);
    let mut plan = EvacuationPlan {
        format: 1,
        cloud: seen.map.cloud.clone(),
        host: host.to_owned(),
        to: to.map(str::to_owned),
        stops: stops(seen, host, to),
        force_down: own.is_some_and(|service| !service.is_forced_down),
        instances: Vec::new(),
        kept: Vec::new(),
    };
    let mut here: Vec<&Instance> = seen.map.instances.iter().filter(|one| one.host.as_deref() == Some(host)).collect();
    here.sort_by(|one, other| one.id.cmp(&other.id));
    for instance in here {
        match refusal(seen, instance, shared_disks, asked) {
            None => plan.instances.push(named_instance(instance)),
            Some(why) => {
                let has = |volume: &&crate::cloud::CloudVolume| {
                    volume.attachments.iter().any(|one| one.instance.as_ref() == Some(&instance.id))
                };
                let volumes = seen.map.volumes.iter().filter(has).map(|volume| VolumeBackup {
                    volume: Named { id: volume.id.clone(), name: volume.name.clone() },
                    backup: backup(&volume.lv),
                });
                plan.kept.push(Kept { instance: named_instance(instance), why, volumes: volumes.collect() });
            }
        }
    }
    plan
}

fn stops(seen: &Seen, host: &str, to: Option<&str>) -> Vec<String> {
    let computes = || seen.services.iter().filter(|one| one.binary == COMPUTE_BINARY);
    let mut stops = Vec::new();
    match computes().find(|one| one.host == host) {
        None => {
            let hosts: Vec<&str> = computes().map(|one| one.host.as_str()).collect();
            stops.push(format!("Nova has no compute host {host}; it has: {}", hosts.join(", ")));
        }
        Some(own) if own.is_up => stops.push(format!(
            "nova-compute on {host} is up: its instances may run, and two of one would write to the same volume. Switch the \
             host off, and wait until Nova says that it is down"
        )),
        Some(_) => {}
    }
    let is_free = |one: &&SeenService| one.host != host && one.is_up && one.is_enabled;
    match to {
        Some(to) if !computes().any(|one| one.host == to && is_free(&one)) => {
            stops.push(format!(
                "the host {to} cannot take instances: Nova has no compute service there that is up and enabled"
            ));
        }
        None if !computes().any(|one| is_free(&one)) => {
            stops.push("no other compute host is up and enabled".to_owned());
        }
        _ => {}
    }
    for service in seen.services.iter().filter(|one| one.binary != COMPUTE_BINARY && one.is_enabled && !one.is_up) {
        stops
            .push(format!("{}'s service {} on {} is not up: start it first", service.of, service.binary, service.host));
    }
    stops.sort();
    stops
}

/// Why an instance is not evacuated.
fn refusal(seen: &Seen, instance: &Instance, shared_disks: bool, asked: &Asked) -> Option<String> {
    let was_asked = asked.get(&instance.id).is_some_and(|(known, _)| {
        seen.actions_of(&instance.id).iter().any(|one| one.action == EVACUATE && !known.contains(&one.request))
    });
    if was_asked {
        // Nova is at it, or gave it up. It is waited for; it is not asked again.
        return match (task(instance), instance.status.as_str()) {
            (None, "ERROR" | "ACTIVE" | "SHUTOFF") => Some(format!(
                "Nova was asked for it, and gave it up: `openstack server event list {}`. When the cause is gone, a call with \
                 another journal (--journal) asks again",
                instance.id
            )),
            _ => None,
        };
    }
    if !instance.local_disks.is_empty() && !shared_disks {
        return Some(format!(
            "its {} disk lies on the lost host: Nova would make it anew from the image, empty of what was written. If these \
             disks lie on shared storage: --shared-disks. Else make a new instance with its volumes",
            instance.local_disks.join(" and ")
        ));
    }
    if let Some(task) = task(instance) {
        return Some(format!(
            "Nova was working on it when the host was lost ({task}), and refuses to evacuate it: `openstack server set --state active \
             {}`, and then this again",
            instance.id
        ));
    }
    if !matches!(instance.status.as_str(), "ACTIVE" | "SHUTOFF" | "ERROR") {
        return Some(format!("its status is {}: Nova evacuates what is ACTIVE, SHUTOFF or ERROR", instance.status));
    }
    None
}

impl EvacuationPlan {
    /// The plan for people.
    pub fn text(&self) -> String {
        let to = self.to.as_ref().map_or_else(|| "the scheduler's choice".to_owned(), |to| shown::text(to));
        let mut text = format!(
            "Evacuation of the host {} in the cloud {}\nTo - {to}\n",
            shown::text(&self.host),
            shown::text(&self.cloud)
        );
        // Writing to a String cannot fail.
        for stop in &self.stops {
            let _ = writeln!(text, "\nNothing can be done: {}", shown::text(stop));
        }
        text.push_str(
            "\nThe host has to be off, and stay off: that nova-compute is down does not say that its instances are.\n",
        );
        if self.force_down {
            let _ = writeln!(text, "\nForce the service down: nova-compute on {}", shown::text(&self.host));
        }
        if !self.instances.is_empty() {
            let _ = writeln!(text, "\nEvacuate instances, each once: {}...", self.instances.len());
            for instance in &self.instances {
                let _ = writeln!(text, "  - instance {instance}");
            }
        }
        text.push_str(&kept_lines(&self.kept));
        let _ = writeln!(text, "\nInstances - {} - To look at : {}", self.instances.len(), self.kept.len());
        text
    }
}

/// The instances that are not evacuated, with their backups.
pub(super) fn kept_lines(kept: &[Kept]) -> String {
    let mut text = String::new();
    if !kept.is_empty() {
        let _ = writeln!(text, "\nNot evacuated, and to look at: {}...", kept.len());
    }
    for one in kept {
        let _ = writeln!(text, "  - instance {}: {}", one.instance, shown::text(&one.why));
        for VolumeBackup { volume, backup } in &one.volumes {
            let backup = backup.as_ref().map_or_else(|| "no backup here".to_owned(), |backup| shown::text(backup));
            let _ = writeln!(text, "      volume {volume}: {backup}");
        }
    }
    text
}
