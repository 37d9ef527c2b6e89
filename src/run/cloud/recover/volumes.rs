//! The steps and findings of a volume: of each of its attachments, of its status, and of what is missing.

use std::collections::BTreeMap;

use super::attachments::is_half_made;
use super::draft::Draft;
use super::plan::Action;
use super::seen::{Pair, named_volume};
use crate::cloud::{Attached, CloudVolume};

impl Draft<'_> {
    /// The pairs that the saved map and the journal want attached, with their devices.
    pub(super) fn wanted(&self) -> BTreeMap<Pair, Option<String>> {
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
    pub(super) fn volume(&mut self, volume: &CloudVolume, wanted: &BTreeMap<Pair, Option<String>>) {
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
        let is_made = |one: &&Attached| {
            let cinder = one.cinder.as_ref().filter(|cinder| !is_half_made(cinder.status.as_deref()));
            cinder.is_some() && one.nova.is_some()
        };
        let both = volume.attachments.iter().filter(is_made).count();
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
}
