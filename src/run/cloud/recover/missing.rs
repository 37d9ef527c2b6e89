//! Attachments that belong to a volume and are not there, and volumes that are gone.

use std::collections::{BTreeMap, BTreeSet};

use super::attachments::is_half_made;
use super::draft::Draft;
use super::plan::{Action, Finding, Named};
use super::seen::{DETACH, Pair, named_volume};
use crate::cloud::{Attached, CloudVolume};

impl Draft<'_> {
    /// Plans the attachments that are wanted and missing.
    pub(super) fn missing(&mut self, volume: &CloudVolume, wanted: &BTreeMap<Pair, Option<String>>) {
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
            let is_released = self
                .steps
                .iter()
                .any(|step| matches!(&step.action, Action::Release { volume: other, .. } if other.id == volume.id));
            if is_half_made(cinder.status.as_deref()) && is_released && !is_wanted && self.is_in_scope(instance) {
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
        let is_on_no_host = self.is_on_no_host(instance);
        let is_there = own.is_some_and(|one| {
            let is_made = |status| is_on_no_host || !is_half_made(status);
            one.nova.is_some()
                && one.cinder.as_ref().is_some_and(|cinder| is_made(cinder.status.as_deref()))
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
        if is_on_no_host {
            let what = format!(
                "belongs to the instance {}, which is on no compute host ({}): attach it when the instance is back",
                self.named(instance),
                now.status
            );
            return self.unclear(volume, Some(instance), what);
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
            && let Some(at) = self.seen.since(instance, &[DETACH], saved.taken_at)
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

    /// Volumes of the saved map that Cinder no longer has.
    pub(super) fn gone_volumes(&mut self, wanted: &BTreeMap<Pair, Option<String>>) {
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
