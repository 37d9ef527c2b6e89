//! The volumes of one instance as a group, without a table in the config.

use std::collections::{BTreeMap, BTreeSet};

use super::choice::DecidingMap;
use crate::cloud::shown_names;
use crate::config::{InstanceToFreeze, OpenStackOptions, VolumeGroup};
use crate::shown;
use crate::source::NovaDisk;

/// Characters of an instance's name that a group's name takes over.
const MOST_CHARACTERS: usize = 40;
/// Characters of an instance's UUID in its group's name: tenants choose names, and two may choose the same.
pub(crate) const ID_CHARACTERS: usize = 8;

/// The groups of a night, and what is to be said about them.
#[derive(Debug, Default)]
pub(crate) struct InstanceGroups {
    pub(crate) groups: Vec<VolumeGroup>,
    pub(crate) said: Vec<String>,
}

/// The groups of the instances that have at least two of these volumes, or one where instances are frozen. A volume that is in
/// a group of the config, or that several instances share, is in none.
pub(crate) fn groups_by_instance<'v>(
    deciding: &DecidingMap,
    options: &OpenStackOptions,
    volumes: impl Iterator<Item = &'v str>,
    of_config: &[VolumeGroup],
) -> InstanceGroups {
    let mut found = InstanceGroups::default();
    if !options.groups_instances() {
        return found;
    }
    let Some(map) = deciding.map() else {
        found.said.push(format!("no volumes are grouped by instance, by {}", deciding.said()));
        return found;
    };
    let chosen: BTreeSet<&str> = volumes.collect();
    let is_in_config = |lv: &str| of_config.iter().any(|group| group.has_named(lv));
    let mut of_instance: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut shared: Vec<String> = Vec::new();
    for volume in &map.volumes {
        let instances: BTreeSet<&str> = volume.attachments.iter().filter_map(|one| one.instance.as_deref()).collect();
        let is_here = chosen.contains(volume.lv.as_str());
        match (instances.len(), instances.first()) {
            (1, Some(instance)) if !is_in_config(&volume.lv) => {
                of_instance.entry(instance).or_default().push(&volume.lv);
            }
            (2.., _) if is_here && !is_in_config(&volume.lv) => {
                shared.push(format!("{} {}", shown::text(&volume.lv), shown_names(volume)).trim_end().to_owned());
            }
            _ => {}
        }
    }
    for lv in chosen.iter().filter(|lv| !is_in_config(lv)) {
        if let Some(disk) = NovaDisk::of_lv(lv)
            && map.instances.iter().any(|instance| instance.id == disk.instance)
        {
            of_instance.entry(disk.instance).or_default().push(lv);
        }
    }
    let at_least = if options.freezes_instances { 1 } else { 2 };
    for (id, volumes) in of_instance {
        let (here, elsewhere): (Vec<&str>, Vec<_>) = volumes.into_iter().partition(|lv| chosen.contains(lv));
        if here.len() < at_least {
            continue;
        }
        let instance = map.instances.iter().find(|instance| instance.id == id);
        let name = group_name(instance.map_or("", |instance| &instance.name), id);
        if !elsewhere.is_empty() {
            let names: Vec<String> = elsewhere.iter().map(|lv| shown::text(lv)).collect();
            found.said.push(format!("the set of {name} has no {}: not backed up on this host", names.join(", ")));
        }
        let ids =
            map.volumes.iter().filter(|volume| here.contains(&volume.lv.as_str())).map(|volume| volume.id.clone());
        let frozen = options.freezes_instances.then(|| InstanceToFreeze {
            id: id.to_owned(),
            host: instance.and_then(|instance| instance.host.clone()),
            volumes: ids.collect(),
        });
        let volumes = here.into_iter().map(str::to_owned).collect();
        found.groups.push(VolumeGroup::of_instance(name, volumes, frozen));
    }
    if !shared.is_empty() {
        found.said.push(format!("volumes that several instances share are in no set: {}", shared.join("; ")));
    }
    found
}

/// `NAME-12345678`: the instance's name as far as a group's name may have it, and the beginning of its UUID.
fn group_name(name: &str, id: &str) -> String {
    let is_right = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let shortened: String = name.chars().take(MOST_CHARACTERS).map(|c| if is_right(c) { c } else { '_' }).collect();
    let name = shortened.trim_start_matches(['.', '-']);
    let name = if name.is_empty() { "instance" } else { name };
    let id: String = id.chars().filter(char::is_ascii_hexdigit).take(ID_CHARACTERS).collect();
    format!("{name}-{id}")
}

#[cfg(test)]
mod tests {
    use super::group_name;

    #[test]
    fn a_group_of_an_instance_has_a_name_that_can_be_typed_and_that_is_its_own() {
        let id = "58f83399-bf84-4ced-bad2-2736d9a75d2f";
        assert_eq!(group_name("web-1", id), "web-1-58f83399");
        assert_eq!(group_name("", id), "instance-58f83399");
        assert_eq!(group_name("../../etc", id), "_.._etc-58f83399");
        assert_eq!(group_name("Datenbank \u{e4}\n@x", id), "Datenbank____x-58f83399");
        assert_eq!(group_name(&"a".repeat(300), id).len(), 49);
    }
}
