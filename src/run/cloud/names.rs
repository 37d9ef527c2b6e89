//! Names of the cloud in place of `volume-UUID`: a display name or a UUID.

use std::collections::{BTreeMap, BTreeSet};

use super::saved::{When, load};
use crate::cloud::{VOLUME_PREFIX, shown_names};
use crate::store::Destination;
use crate::store::catalog::{BackupState, list_volume};

/// The volumes with backups that are called `name`, and what each is shown as. By the newest saved map and by what each volume's
/// newest manifest says: a volume that is gone is in no map any more. What cannot be read names nothing.
pub(crate) fn backed_up_as(destination: &Destination, name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Ok(folders) = destination.volume_names() else { return found };
    let folders: BTreeSet<String> = folders.into_iter().collect();
    let by_uuid = format!("{VOLUME_PREFIX}{name}");
    if folders.contains(&by_uuid) {
        return BTreeMap::from([(by_uuid, String::new())]);
    }
    if let Ok(map) = load(destination, When::Newest) {
        for volume in map.named(name).filter(|volume| folders.contains(&volume.lv)) {
            found.insert(volume.lv.clone(), shown_names(volume));
        }
    }
    for folder in &folders {
        if found.contains_key(folder) {
            continue;
        }
        let newest = destination.existing_volume_directory(folder).ok().flatten().and_then(|directory| {
            list_volume(&*directory, folder).ok()?.into_iter().rev().find_map(|entry| match entry.state {
                BackupState::Complete { manifest } => Some(manifest),
                _ => None,
            })
        });
        if let Some(volume) = newest.and_then(|manifest| manifest.cloud).map(|cloud| cloud.volume)
            && volume.is_called(name)
        {
            found.insert(folder.clone(), shown_names(&volume));
        }
    }
    found
}

/// The logical volumes that the newest saved map calls `name`, each with what it is shown as.
pub(crate) fn volumes_called(destination: &Destination, name: &str) -> BTreeMap<String, String> {
    let Ok(map) = load(destination, When::Newest) else { return BTreeMap::new() };
    map.named(name).map(|volume| (volume.lv.clone(), shown_names(volume))).collect()
}
