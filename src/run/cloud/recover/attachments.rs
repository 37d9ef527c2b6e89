//! The steps and findings of one attachment: both sides have it, or one of them.

use super::draft::Draft;
use super::plan::Action;
use super::seen::named_volume;
use crate::cloud::{Attached, CloudVolume};

/// Nova's status of an instance whose cell is down. Nova lists it, without its volumes.
const UNKNOWN: &str = "UNKNOWN";

/// Whether Cinder's side is made only in part: the compute host never said that it has the volume.
pub(super) fn is_half_made(status: Option<&str>) -> bool {
    matches!(status, Some("reserved" | "attaching" | "error_attaching"))
}

impl Draft<'_> {
    pub(super) fn attachment(&mut self, volume: &CloudVolume, one: &Attached) {
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
                } else if let Some(status) = cinder.status.as_deref().filter(|status| is_half_made(Some(status))) {
                    self.half_made(volume, one, &instance, status);
                }
            }
            (Some(cinder), None) => self.only_cinder(volume, one.instance.as_deref(), cinder.attachment.as_deref()),
            (None, Some(_)) => self.only_nova(volume, one),
            (None, None) => {}
        }
    }

    /// An attachment that both sides have, and of which the compute host never said that it has the volume.
    fn half_made(&mut self, volume: &CloudVolume, one: &Attached, instance: &str, status: &str) {
        if self.is_on_no_host(instance) {
            return;
        }
        let named = self.named(instance);
        if let Some(doing) = self.work_under_way(volume, instance) {
            let what = format!(
                "its attachment to the instance {named} is {status}, and Nova is busy with the instance ({doing}): try again when it \
                 is done"
            );
            self.held_back.insert(instance.to_owned());
            return self.unclear(volume, Some(instance), what);
        }
        if self.is_root(volume, one, instance) {
            let what = format!(
                "its attachment to the instance {named} is {status}: the compute host never had the volume, which is the root volume. {}",
                self.refresh(volume, instance)
            );
            self.held_back.insert(instance.to_owned());
            return self.unclear(volume, Some(instance), what);
        }
        let why = format!(
            "its attachment is {status}: the compute host never had the volume; Cinder would delete the attachment, and Nova would \
             still map the volume"
        );
        self.step(Action::Release { volume: named_volume(volume), instance: named }, why);
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
        if self.instances.get(instance).is_some_and(|found| found.status == UNKNOWN) {
            let what = format!(
                "Cinder has the attachment {attachment} to the instance {instance}, and Nova does not know that instance's volumes \
                 now (status {UNKNOWN}: the database of its cell does not answer): try again when Nova knows them"
            );
            return self.unclear(volume, Some(instance), what);
        }
        if let Some(doing) = self.work_under_way(volume, instance) {
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
        if self.is_on_no_host(id) {
            let what = format!(
                "Nova maps it to the instance {instance}, which is on no compute host, and Cinder has no attachment: no documented \
                 way leads out of it"
            );
            return self.unclear(volume, Some(id), what);
        }
        if self.is_root(volume, one, id) {
            self.held_back.insert(id.to_owned());
            let what = format!(
                "the wedge on a root volume: Nova maps it to the instance {instance}, and Cinder has no attachment. {}",
                self.refresh(volume, id)
            );
            return self.unclear(volume, Some(id), what);
        }
        let why = format!(
            "the wedge: Nova maps it to the instance {instance}, Cinder says available and has no attachment; attaching and \
             detaching fail"
        );
        self.step(Action::FreeWedge { volume: named_volume(volume), instance }, why);
    }

    /// Whether Nova maps it as the root volume of the instance.
    fn is_root(&self, volume: &CloudVolume, one: &Attached, instance: &str) -> bool {
        let device = one.nova.as_ref().and_then(|nova| nova.device.as_deref());
        let root = self.instances.get(instance).and_then(|instance| instance.root_device.as_deref());
        match (root, device) {
            (Some(root), Some(device)) => root == device,
            // Not known: a bootable volume may be the root.
            _ => volume.bootable,
        }
    }

    /// The commands that give a root volume a new attachment.
    fn refresh(&self, volume: &CloudVolume, instance: &str) -> String {
        format!(
            "Nova cannot detach a root volume. On a controller: `openstack server stop {instance}`, then `nova-manage \
             volume_attachment refresh {instance} {} CONNECTOR.json`, with what `nova-manage volume_attachment get_connector --json` \
             prints on {} in CONNECTOR.json",
            volume.id,
            self.instances.get(instance).and_then(|instance| instance.host.as_deref()).unwrap_or("the compute host")
        )
    }
}
