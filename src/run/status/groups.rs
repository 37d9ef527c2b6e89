//! Sets of volumes that belong together.

use std::collections::BTreeMap;

use chrono::Local;

use super::figures::{Reason, Urgency};
use crate::manifest::Manifest;
use crate::run::prune::Shelf;
use crate::store::retention::Health;

/// A warning if the last set of this group lacks a member.
pub(super) fn about_last_set(shelves: &[Shelf], group: &str) -> Option<Reason> {
    let mut sets: BTreeMap<&str, Vec<(&Manifest, bool)>> = BTreeMap::new();
    for shelf in shelves {
        for manifest in shelf.manifests() {
            if let Some(set) = manifest.set.as_ref().filter(|set| set.group == group) {
                let is_bad = shelf.backups.iter().any(|one| one.id == manifest.stem && one.health == Health::Bad);
                sets.entry(&set.id).or_default().push((manifest, manifest.is_whole() && !is_bad));
            }
        }
    }
    let lacking = |set: &[(&Manifest, bool)]| -> Vec<String> {
        let members = set.first().and_then(|(one, _)| one.set.as_ref()).map_or(&[][..], |record| &record.members);
        let has = |name: &&String| !set.iter().any(|(one, is_good)| *is_good && one.name == **name);
        members.iter().filter(has).map(|name| crate::shown::text(name)).collect()
    };
    let started = |set: &Vec<(&Manifest, bool)>| set.first().map(|(one, _)| one.started_at);
    let last = sets.values().max_by_key(|set| started(set))?;
    let missing = lacking(last);
    if missing.is_empty() {
        return None;
    }
    let whole = sets.values().filter(|set| lacking(set).is_empty()).filter_map(started).max();
    let whole = whole.map_or_else(
        || "there is no whole one".to_owned(),
        |at| format!("the last whole one is of {}", at.with_timezone(&Local).format("%Y-%m-%d %H:%M")),
    );
    let what = format!(
        "the last set of the group {group} is partial: it has no whole backup of {}; {whole}",
        missing.join(", ")
    );
    Some(Reason { level: Urgency::Warning, what })
}
