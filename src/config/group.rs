//! Volumes that belong together: the tables `[group."NAME"]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kinds::{commands, seconds};
use super::options::FREEZE_LIMIT;
use super::reading::Reading;
use super::section::Section;
use super::written::Value;
use crate::shown;

/// A `[group."NAME"]`: volumes whose snapshots are taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// Its members, `LV` or `VG/LV`.
    pub volumes: Vec<String>,
    /// Run once before the first snapshot. With one of the two, the members' own hooks are not run.
    pub before_snapshot: Vec<Vec<String>>,
    /// Run once after the last snapshot, whatever happened.
    pub after_snapshot: Vec<Vec<String>>,
    /// The time limit of each of these commands.
    pub hook_timeout: Option<Duration>,
    /// The commands after the snapshots run at the latest so long after those before them.
    pub freeze_limit: Duration,
    /// The instance that is quiesced around the snapshots; these are its volumes.
    pub instance: Option<InstanceToFreeze>,
}

/// An instance that is quiesced by its guest agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceToFreeze {
    /// Its UUID.
    pub id: String,
    /// The compute host on which Nova has it.
    pub host: Option<String>,
    /// Cinder's UUIDs of the group's volumes.
    pub volumes: Vec<String>,
}

impl VolumeGroup {
    /// The volumes of an instance, without commands.
    pub(crate) fn of_instance(name: String, volumes: Vec<String>, instance: Option<InstanceToFreeze>) -> Self {
        Self {
            name,
            volumes,
            before_snapshot: Vec::new(),
            after_snapshot: Vec::new(),
            hook_timeout: None,
            freeze_limit: FREEZE_LIMIT,
            instance,
        }
    }

    /// Whether the volume is a member.
    pub fn has(&self, vg: &str, lv: &str) -> bool {
        self.volumes.iter().any(|name| is_named(name, vg, lv))
    }

    /// Whether a volume of this name is a member, in any volume group.
    pub(crate) fn has_named(&self, lv: &str) -> bool {
        self.volumes.iter().any(|name| name.rsplit('/').next() == Some(lv))
    }
}

/// Whether `LV` or `VG/LV` names this volume.
fn is_named(name: &str, vg: &str, lv: &str) -> bool {
    name.split_once('/').map_or(name == lv, |whole| whole == (vg, lv))
}

/// Reads all tables `[group."NAME"]`.
pub(super) fn read(reading: &Reading, top: &Section<'_>) -> Vec<VolumeGroup> {
    let mut groups: Vec<VolumeGroup> = Vec::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for table in top.table("group") {
        let shown_name = shown::text(&table.key);
        let Value::Table(entries) = table.item.value else {
            let what = format!("[group] has a key `{shown_name}` outside a group's table");
            reading.mistake(&table.key_place, what, "write it under a line like [group.\"db\"]");
            continue;
        };
        let section = Section::new(reading, "group.NAME", entries, false);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if table.key.is_empty() || !table.key.chars().all(is_name) || table.key.starts_with(['.', '-']) {
            let what = format!("[group.\"{shown_name}\"] is no name for a group");
            reading.mistake(&table.key_place, what, "it has letters, digits and _ . - and begins with none of . and -");
        }
        let volumes = section.list("volumes", |text| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "+_.-/".contains(c);
            let right = "name each member as VOLUME or GROUP/VOLUME; a pattern could not tell that a member is missing";
            let is_name = text.chars().all(allowed) && text.split('/').all(|part| !part.is_empty());
            if is_name && text.matches('/').count() <= 1 { Ok(text.to_owned()) } else { Err(right) }
        });
        let volumes = volumes.unwrap_or_default();
        if volumes.len() < 2 {
            let place = if section.has("volumes") { section.place("volumes") } else { table.key_place.clone() };
            let what = format!("[group.\"{shown_name}\"] has fewer than two volumes");
            reading.mistake(&place, what, "write volumes = [\"volume-1\", \"volume-2\"]");
        }
        for volume in &volumes {
            let lv = volume.rsplit('/').next().unwrap_or(volume);
            if lv == table.key {
                let what = format!("[group.\"{shown_name}\"] has the name of one of its volumes");
                reading.mistake(&table.key_place, what, "give the group another name: backups are named by either");
            }
            // Backups of two volumes of one name would share a directory, so the name alone counts.
            if let Some(other) = owners.insert(lv.to_owned(), table.key.clone()) {
                let what = format!("`{}` is in [group.\"{}\"] already", shown::text(volume), shown::text(&other));
                reading.mistake(&section.place("volumes"), what, "a volume is in one group, once");
            }
        }
        groups.push(VolumeGroup {
            name: table.key,
            volumes,
            before_snapshot: commands(&section, "before_snapshot").unwrap_or_default(),
            after_snapshot: commands(&section, "after_snapshot").unwrap_or_default(),
            hook_timeout: seconds(&section, "hook_timeout_seconds", 86_400),
            freeze_limit: seconds(&section, "freeze_limit_seconds", 3600).unwrap_or(FREEZE_LIMIT),
            instance: None,
        });
    }
    groups
}
