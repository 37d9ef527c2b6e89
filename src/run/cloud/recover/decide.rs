//! The plan, as a pure function of what was seen. Rows that the documented table does not have become findings, never steps.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::plan::{Action, FORMAT, Finding, Named, Plan, Step};
use super::restarts::{inside, restarts};
use super::seen::{COMPUTE_BINARY, DETACH, Pair, Seen, Wish, named_instance, named_volume, task};
use crate::cloud::{Attached, CloudVolume};

/// Makes the plan.
pub(crate) fn decide(seen: &Seen, wish: &Wish<'_>) -> Plan {
    let instances = seen.map.instances.iter().map(|instance| (instance.id.as_str(), instance)).collect();
    let mut draft = Draft {
        seen,
        wish,
        instances,
        steps: Vec::new(),
        unclear: Vec::new(),
        notes: Vec::new(),
        volumes_right: Vec::new(),
        instances_right: Vec::new(),
        held_back: BTreeSet::new(),
    };
    let stops = stops(&draft);
    let wanted = draft.wanted();
    for volume in &seen.map.volumes {
        draft.volume(volume, &wanted);
    }
    draft.gone_volumes(&wanted);
    restarts(&mut draft);
    if wish.inside {
        inside(&mut draft);
    }
    let Draft { mut steps, mut unclear, mut notes, mut volumes_right, instances_right, .. } = draft;
    steps.sort_by(|one, other| {
        let key = |step: &Step| {
            let by_instance = match &step.action {
                Action::Attach { instance, device, .. } => Some((instance.id.clone(), device.clone())),
                _ => None,
            };
            (step.action.phase(), by_instance)
        };
        key(one).cmp(&key(other)).then_with(|| one.action.cmp(&other.action))
    });
    unclear.sort();
    unclear.dedup();
    notes.sort();
    notes.dedup();
    volumes_right.sort();
    Plan {
        format: FORMAT,
        cloud: seen.map.cloud.clone(),
        instance: wish.instance.map(|id| {
            seen.instance(id).map_or_else(|| Named { id: id.to_owned(), name: String::new() }, named_instance)
        }),
        outage: wish.outage,
        saved_map: wish.saved.map(|map| map.taken_at),
        from_map: wish.from_map,
        stops,
        steps,
        unclear,
        notes,
        volumes_right,
        instances_right,
    }
}

/// What forbids to do anything.
fn stops(draft: &Draft<'_>) -> Vec<String> {
    let mut stops = Vec::new();
    let hosts: BTreeSet<&str> = draft
        .instances
        .values()
        .filter(|instance| draft.is_in_scope(&instance.id))
        .filter_map(|instance| instance.host.as_deref())
        .collect();
    for service in draft.seen.services.iter().filter(|service| !service.is_up) {
        let is_compute = service.binary == COMPUTE_BINARY;
        let is_needed = is_compute && hosts.contains(service.host.as_str());
        // One that an administrator took out of use, and that has none of the instances, is missed by nothing.
        if (!service.is_enabled || service.is_forced_down) && !is_needed {
            continue;
        }
        let next = if is_compute {
            format!("start it; if the host is lost: `volbak cloud evacuate {}`", service.host)
        } else {
            "start it, or disable it if it is not used any more".to_owned()
        };
        stops.push(format!("{}'s service {} on {} is not up: {next}", service.of, service.binary, service.host));
    }
    for of in ["Cinder", "Nova"] {
        if !draft.seen.services.iter().any(|service| service.of == of) {
            stops.push(format!("{of} lists no services: whether it is up is not known"));
        }
    }
    if draft.wish.outage.is_none() {
        let what = "when the outage was is not known, as there is no saved map: name it with --outage, so that no instance is \
                    restarted twice";
        stops.push(what.to_owned());
    }
    if let Some(id) = draft.wish.instance
        && !draft.instances.contains_key(id)
    {
        stops.push(format!("Nova has no instance {id}"));
    }
    stops.sort();
    stops
}

/// Whether Cinder's side is made only in part: the compute host never said that it has the volume.
fn is_half_made(status: Option<&str>) -> bool {
    matches!(status, Some("reserved" | "attaching" | "error_attaching"))
}

impl Draft<'_> {
    fn step(&mut self, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, why: why.into() });
    }

    fn unclear(&mut self, volume: &CloudVolume, instance: Option<&str>, what: String) {
        let instance = instance.map(|id| self.named(id));
        self.unclear.push(Finding { volume: Some(named_volume(volume)), instance, what });
    }

    /// The pairs that the saved map and the journal want attached, with their devices.
    fn wanted(&self) -> BTreeMap<Pair, Option<String>> {
        let mut wanted = BTreeMap::new();
        for volume in self.wish.saved.iter().flat_map(|map| &map.volumes) {
            for one in &volume.attachments {
                // What the saved map itself had on one side alone says nothing.
                if let (Some(instance), Some(nova), Some(_)) = (&one.instance, &one.nova, &one.cinder) {
                    wanted.insert((volume.id.clone(), instance.clone()), nova.device.clone());
                }
            }
        }
        wanted.extend(self.wish.past.wanted.iter().map(|(pair, device)| (pair.clone(), device.clone())));
        wanted.retain(|(_, instance), _| self.is_in_scope(instance));
        wanted
    }

    /// One volume: each of its attachments, and then what is missing.
    fn volume(&mut self, volume: &CloudVolume, wanted: &BTreeMap<Pair, Option<String>>) {
        let concerns = self.wish.instance.is_none_or(|only| {
            volume.attachments.iter().any(|one| one.instance.as_deref() == Some(only))
                || wanted.contains_key(&(volume.id.clone(), only.to_owned()))
        });
        if !concerns {
            return;
        }
        let (steps, findings) = (self.steps.len(), self.unclear.len());
        let only_nova = volume.attachments.iter().filter(|one| one.cinder.is_none()).count();
        let is_split = only_nova > 0 && volume.attachments.len() > 1;
        if is_split {
            let what = "several attachments, and Nova maps one that Cinder does not have: no documented way leads out of it; \
                        see `volbak cloud map`";
            for one in &volume.attachments {
                self.held_back.extend(one.instance.clone());
            }
            self.unclear(volume, None, what.to_owned());
            return;
        }
        if !matches!(volume.status.as_str(), "available" | "in-use" | "detaching" | "attaching" | "reserved") {
            return self.busy(volume, wanted);
        }
        for one in &volume.attachments {
            if one.instance.as_deref().is_none_or(|instance| self.is_in_scope(instance)) {
                self.attachment(volume, one);
            }
        }
        if self.unclear.len() == findings {
            self.status(volume, steps);
        }
        if self.unclear.len() == findings {
            self.missing(volume, wanted);
        }
        if self.steps.len() == steps && self.unclear.len() == findings && !volume.attachments.is_empty() {
            self.volumes_right.push(volume.id.clone());
        }
    }

    fn attachment(&mut self, volume: &CloudVolume, one: &Attached) {
        let name = named_volume(volume);
        match (&one.cinder, &one.nova) {
            (Some(cinder), Some(nova)) => {
                let Some(instance) = one.instance.clone() else { return };
                let knows_ids = self.seen.map.knows_attachment_ids;
                let is_freeing = self.wish.past.freeing.contains(&(volume.id.clone(), instance.clone()));
                if knows_ids && cinder.attachment != nova.attachment && nova.attachment.is_some() {
                    if is_freeing {
                        let instance = self.named(&instance);
                        self.step(Action::FreeWedge { volume: name, instance }, "an earlier call began it");
                    } else {
                        let what = format!(
                            "Cinder has the attachment {} to the instance {instance}, and Nova means {}: no documented way \
                             leads out of it; never delete Cinder's while Nova maps the volume",
                            cinder.attachment.as_deref().unwrap_or("?"),
                            nova.attachment.as_deref().unwrap_or("?")
                        );
                        self.held_back.insert(instance.clone());
                        self.unclear(volume, Some(&instance), what);
                    }
                } else if is_freeing && knows_ids && nova.attachment.is_none() {
                    let instance = self.named(&instance);
                    self.step(Action::FreeWedge { volume: name, instance }, "an earlier call began it");
                } else if is_half_made(cinder.status.as_deref()) {
                    let why = format!(
                        "its attachment is {}: the compute host never had the volume; Cinder would delete the attachment, and \
                         Nova would still map the volume",
                        cinder.status.as_deref().unwrap_or_default()
                    );
                    let instance = self.named(&instance);
                    self.step(Action::Release { volume: name, instance }, why);
                }
            }
            (Some(cinder), None) => self.only_cinder(volume, one.instance.as_deref(), cinder.attachment.as_deref()),
            (None, Some(_)) => self.only_nova(volume, one),
            (None, None) => {}
        }
    }

    /// An attachment that Nova does not map.
    fn only_cinder(&mut self, volume: &CloudVolume, instance: Option<&str>, attachment: Option<&str>) {
        let Some(attachment) = attachment else {
            return self.unclear(volume, instance, "Cinder does not say which attachment it has".to_owned());
        };
        let Some(instance) = instance else {
            let what = format!(
                "the attachment {attachment} names no instance: it may be a host's own. If nothing uses it: `cinder \
                 attachment-delete {attachment}`"
            );
            return self.unclear(volume, None, what);
        };
        if let Some(found) = self.instances.get(instance)
            && (found.status == "BUILD" || matches!(task(found), Some(task) if task != "deleting"))
            && !self.wish.past.wanted.contains_key(&(volume.id.clone(), instance.to_owned()))
        {
            let doing = task(found).unwrap_or("building").to_owned();
            let what = format!(
                "Cinder has the attachment {attachment} to the instance {instance}, which Nova does not map, and Nova is busy \
                 with the instance ({doing}): try again when it is done"
            );
            return self.unclear(volume, Some(instance), what);
        }
        let why = if self.instances.contains_key(instance) {
            format!("Nova does not map it to the instance {}", self.named(instance))
        } else {
            format!("Nova has no instance {instance}")
        };
        let instance = self.instances.contains_key(instance).then(|| self.named(instance));
        let attachment = attachment.to_owned();
        self.step(Action::DeleteAttachment { volume: named_volume(volume), attachment, instance }, why);
    }

    /// Nova maps it, and Cinder has no attachment: the wedge.
    fn only_nova(&mut self, volume: &CloudVolume, one: &Attached) {
        let Some(id) = one.instance.as_deref() else { return };
        let instance = self.named(id);
        if volume.status != "available" {
            let what = format!(
                "Nova maps it to the instance {instance}, Cinder has no attachment, and its status is {}: no documented way \
                 leads out of it",
                volume.status
            );
            self.held_back.insert(id.to_owned());
            return self.unclear(volume, Some(id), what);
        }
        let device = one.nova.as_ref().and_then(|nova| nova.device.as_deref());
        let root = self.instances.get(id).and_then(|instance| instance.root_device.as_deref());
        let is_root = match (root, device) {
            (Some(root), Some(device)) => root == device,
            // Not known: a bootable volume may be the root.
            _ => volume.bootable,
        };
        if is_root {
            self.held_back.insert(id.to_owned());
            let what = format!(
                "the wedge on a root volume: Nova maps it to the instance {instance}, and Cinder has no attachment. Nova cannot \
                 detach a root volume. On a controller: `openstack server stop {id}`, then `nova-manage volume_attachment \
                 refresh {id} {} CONNECTOR.json`, with what `nova-manage volume_attachment get_connector --json` prints on {} in \
                 CONNECTOR.json",
                volume.id,
                self.instances.get(id).and_then(|instance| instance.host.as_deref()).unwrap_or("the compute host")
            );
            return self.unclear(volume, Some(id), what);
        }
        let why = format!(
            "the wedge: Nova maps it to the instance {instance}, Cinder says available and has no attachment; attaching and \
             detaching fail"
        );
        self.step(Action::FreeWedge { volume: named_volume(volume), instance }, why);
    }

    /// A volume that is at something else (a backup, a migration), or in error. Its attachments are left alone.
    fn busy(&mut self, volume: &CloudVolume, wanted: &BTreeMap<Pair, Option<String>>) {
        let is_whole = |one: &Attached| match (&one.cinder, &one.nova) {
            (Some(cinder), Some(nova)) => {
                !is_half_made(cinder.status.as_deref())
                    && (nova.attachment.is_none() || cinder.attachment == nova.attachment)
            }
            _ => false,
        };
        let is_there = |instance: &String| volume.attachments.iter().any(|one| one.instance.as_ref() == Some(instance));
        let lacks = wanted.keys().any(|(id, instance)| *id == volume.id && !is_there(instance));
        if volume.attachments.iter().all(is_whole) && !lacks {
            if volume.status != "error" && !volume.attachments.is_empty() {
                self.volumes_right.push(volume.id.clone());
            }
            if volume.status != "error" || volume.attachments.is_empty() {
                return;
            }
        }
        let status = &volume.status;
        let what = if status.starts_with("error") {
            format!(
                "its status is {status}: look in Cinder's log. If the volume is sound and attached: `openstack volume set --state \
                 in-use {}`, and then this again",
                volume.id
            )
        } else {
            format!("its status is {status}: its attachments are not touched; try again when that is over")
        };
        self.held_back
            .extend(volume.attachments.iter().filter(|one| one.nova.is_some()).filter_map(|one| one.instance.clone()));
        self.unclear(volume, None, what);
    }

    /// The status, where it does not fit the attachments.
    fn status(&mut self, volume: &CloudVolume, before: usize) {
        let both = volume.attachments.iter().filter(|one| one.cinder.is_some() && one.nova.is_some()).count();
        let is_handled = self.steps.len() > before;
        match volume.status.as_str() {
            "in-use" if volume.attachments.is_empty() => {
                let what = format!(
                    "its status is in-use, and neither Cinder nor Nova has an attachment. As Nova does not map it: `openstack \
                     volume set --state available --detached {}`",
                    volume.id
                );
                self.unclear(volume, None, what);
            }
            // A step that is planned for it sets the status, too. Another instance's attachment may be in the making.
            "detaching" | "available" | "reserved" | "attaching" if both > 0 && !is_handled => {
                if both < volume.attachments.len() {
                    return;
                }
                let why = format!("its status is {}, and its attachment is there on both sides", volume.status);
                self.step(Action::KeepAttached { volume: named_volume(volume) }, why);
            }
            "detaching" | "reserved" | "attaching" if volume.attachments.is_empty() => {
                let what = format!(
                    "its status is {}, and neither Cinder nor Nova has an attachment. As Nova does not map it: `openstack \
                     volume set --state available --detached {}`",
                    volume.status, volume.id
                );
                self.unclear(volume, None, what);
            }
            _ => {}
        }
    }

    /// What is wanted, and is not there.
    fn missing(&mut self, volume: &CloudVolume, wanted: &BTreeMap<Pair, Option<String>>) {
        // What Nova maps of a wedge belongs there, whatever the saved map says.
        let freed: Vec<(String, Option<String>)> = volume
            .attachments
            .iter()
            .filter(|one| one.cinder.is_none() || self.is_being_freed(volume, one))
            .filter_map(|one| Some((one.instance.clone()?, one.nova.as_ref().and_then(|nova| nova.device.clone()))))
            .filter(|(instance, _)| self.is_in_scope(instance))
            .collect();
        let mut due: BTreeMap<String, Option<String>> = freed.into_iter().collect();
        let from = (volume.id.clone(), String::new());
        for ((_, instance), device) in wanted.range(from..).take_while(|((id, _), _)| *id == volume.id) {
            due.entry(instance.clone()).or_insert_with(|| device.clone());
        }
        for (instance, device) in due {
            self.due(volume, &instance, device);
        }
        for one in &volume.attachments {
            let (Some(cinder), Some(_)) = (&one.cinder, &one.nova) else { continue };
            let Some(instance) = &one.instance else { continue };
            let is_wanted = wanted.contains_key(&(volume.id.clone(), instance.clone()));
            if is_half_made(cinder.status.as_deref()) && !is_wanted && self.is_in_scope(instance) {
                let instance = Some(self.named(instance));
                let what = "was being attached when the power went, and the saved map does not have it there: it is left \
                            available; attach it again if it is wanted";
                self.notes.push(Finding { volume: Some(named_volume(volume)), instance, what: what.to_owned() });
            }
        }
    }

    fn is_being_freed(&self, volume: &CloudVolume, one: &Attached) -> bool {
        one.instance
            .as_ref()
            .is_some_and(|id| self.wish.past.freeing.contains(&(volume.id.clone(), id.clone())) && one.nova.is_some())
            && self
                .steps
                .iter()
                .any(|step| matches!(&step.action, Action::FreeWedge { volume: other, .. } if other.id == volume.id))
    }

    /// Attaches a volume where it belongs, unless it is there.
    fn due(&mut self, volume: &CloudVolume, instance: &str, device: Option<String>) {
        let own = volume.attachments.iter().find(|one| one.instance.as_deref() == Some(instance));
        let is_there = own.is_some_and(|one| {
            one.nova.is_some()
                && one.cinder.as_ref().is_some_and(|cinder| !is_half_made(cinder.status.as_deref()))
                && !self.is_being_freed(volume, one)
        });
        if is_there {
            return;
        }
        let pair = (volume.id.clone(), instance.to_owned());
        let Some(now) = self.instances.get(instance) else {
            let what = format!(
                "belongs to the instance {}, which Nova does not have: make the instance anew, and attach the volume",
                self.named(instance)
            );
            return self.unclear(volume, Some(instance), what);
        };
        if now.status == "DELETED" || now.status == "SOFT_DELETED" {
            return;
        }
        let planned = self.steps.iter().filter_map(|step| match &step.action {
            Action::Attach { volume: other, instance, .. } if other.id == volume.id => Some(instance.id.clone()),
            _ => None,
        });
        let elsewhere =
            volume.attachments.iter().filter(|one| one.nova.is_some()).filter_map(|one| one.instance.clone());
        let other = elsewhere.chain(planned).find(|other| other != instance);
        if let Some(other) = other.filter(|_| !volume.multiattach) {
            let what = format!(
                "belongs to the instance {}, and also to the instance {}, where it stays: it cannot be attached to both",
                self.named(instance),
                self.named(&other)
            );
            let finding = Finding { volume: Some(named_volume(volume)), instance: Some(self.named(instance)), what };
            if self.wish.from_map {
                self.unclear.push(finding);
            } else {
                self.notes.push(finding);
            }
            return;
        }
        if own.is_none() && !matches!(volume.status.as_str(), "available" | "in-use") {
            let what = format!("belongs to the instance {}, and its status is {}", self.named(instance), volume.status);
            return self.unclear(volume, Some(instance), what);
        }
        let is_certain = self.wish.from_map || own.is_some() || self.wish.past.wanted.contains_key(&pair);
        if let Some(saved) = self.wish.saved.filter(|_| !is_certain)
            && let Some(at) = self.seen.since(instance, DETACH, saved.taken_at)
        {
            let what = format!(
                "the saved map has it attached to the instance {}, from which a volume was detached through the API at {} UTC: \
                 it stays detached. If it belongs there: --from-map {}",
                self.named(instance),
                at.format("%Y-%m-%d %H:%M:%S"),
                saved.taken_at.with_timezone(&chrono::Local).format("%Y-%m-%d")
            );
            self.notes.push(Finding { volume: Some(named_volume(volume)), instance: Some(self.named(instance)), what });
            return;
        }
        let why = match own {
            Some(one) if one.cinder.is_none() => "Nova maps it there",
            _ if self.wish.past.wanted.contains_key(&pair) => {
                "an earlier call of this recovery detached it, or found it so"
            }
            _ => "the saved map has it there",
        };
        let instance = self.named(instance);
        self.step(Action::Attach { volume: named_volume(volume), instance, device }, why);
    }

    /// What the saved map has, and Cinder does not have any more.
    fn gone_volumes(&mut self, wanted: &BTreeMap<Pair, Option<String>>) {
        let there: BTreeSet<&str> = self.seen.map.volumes.iter().map(|volume| volume.id.as_str()).collect();
        let saved = self.wish.saved;
        for (volume, instance) in wanted.keys().filter(|(volume, _)| !there.contains(volume.as_str())) {
            let known = saved.and_then(|map| map.volumes.iter().find(|one| one.id == *volume));
            let lv = known.map_or_else(|| format!("volume-{volume}"), |one| one.lv.clone());
            let name = known.map(|one| one.name.clone()).unwrap_or_default();
            let what = format!(
                "belonged to the instance {}, and Cinder does not have it any more. If it was not deleted on purpose, its \
                 backups are: `volbak list {lv}`",
                self.named(instance)
            );
            let finding = Finding {
                volume: Some(Named { id: volume.clone(), name }),
                instance: Some(self.named(instance)),
                what,
            };
            if self.wish.from_map {
                self.unclear.push(finding);
            } else {
                self.notes.push(finding);
            }
        }
    }
}
