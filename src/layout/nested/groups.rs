//! Volume groups on the source: their logical volumes become regions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::events::{Problem, Severity};
use crate::layout::lvm2::{
    LogicalVolume, MapError, Metadata, PhysicalVolume, SegmentKind, VolumeGroup, extents_of, place,
};
use crate::layout::nested::look::{Look, NAME_BYTES_MAX};
use crate::layout::probe::Content;
use crate::layout::text::path_safe;
use crate::layout::{Handling, NestedLv};
use crate::shown;
use crate::units::ByteLen;
use crate::units::Extent;

/// A physical volume with more extents is not split: each logical volume would have even more.
const PV_PIECES_MAX: usize = 256;
/// The maximum length of a group's text metadata in the manifest.
const METADATA_BYTES_MAX: u64 = 1 << 20;

impl Look<'_> {
    /// Splits volume groups into logical volumes. A group may span several physical volumes of this level.
    pub(super) fn open_groups(&mut self, level: &[usize]) {
        let mut volumes: Vec<(usize, PhysicalVolume)> = Vec::new();
        for index in level {
            if let Some(Content::PhysicalVolume(volume)) = &self.drafts[*index].content {
                volumes.push((*index, volume.as_ref().clone()));
            }
        }
        let known = KnownGroups::new(&volumes);
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for (_, volume) in &volumes {
            *copies.entry(&volume.uuid).or_default() += 1;
        }
        let is_alone = |uuid: &str| copies.get(uuid) == Some(&1);
        let mut done: HashSet<usize> = HashSet::new();
        for (index, volume) in &volumes {
            if done.contains(index) {
                continue;
            }
            let members: Vec<(usize, &PhysicalVolume)> = if is_alone(&volume.uuid) {
                let listed = known.newest.get(volume.uuid.as_str()).and_then(|group| known.listed(group));
                let belongs = |uuid: &str| is_alone(uuid) && listed.is_some_and(|listed| listed.contains(uuid));
                let among = |(at, other): &&(usize, PhysicalVolume)| *at == *index || belongs(&other.uuid);
                volumes.iter().filter(among).map(|(at, other)| (*at, other)).collect()
            } else {
                // Original and copy are handled separately, so that neither disturbs the other.
                self.say(Severity::Warning, *index, "another physical volume here has the same UUID");
                vec![(*index, volume)]
            };
            done.extend(members.iter().map(|(at, _)| *at));
            self.open_group(&members, &known);
        }
    }

    fn open_group(&mut self, members: &[(usize, &PhysicalVolume)], known: &KnownGroups<'_>) {
        let best = members
            .iter()
            .filter_map(|(index, volume)| match &volume.metadata {
                Metadata::Group(group, text) => Some((*index, group, text)),
                _ => None,
            })
            .max_by_key(|(_, group, _)| group.seqno);
        let Some((metadata_at, group, text)) = best else {
            for (index, volume) in members {
                if volume.metadata == Metadata::Elsewhere {
                    let what = "its volume group's metadata are not on this source; it is kept as a raw image";
                    self.say(Severity::Warning, *index, what);
                }
            }
            return;
        };
        if !self.budget.go_through(group.parts()) {
            let what = "volume groups here have too many parts: it is not taken apart and is kept as a raw image";
            for (index, _) in members {
                self.say(Severity::Warning, *index, what);
            }
            return;
        }
        let listed = known.listed(group);
        let mut whole: HashMap<usize, bool> = HashMap::new();
        for (index, volume) in members {
            let is_listed = listed.is_some_and(|listed| listed.contains(volume.uuid.as_str()));
            if !is_listed {
                let what =
                    format!("it is no part of the volume group {} that its metadata describe", shown(&group.name));
                self.say(Severity::Warning, *index, what);
            }
            if volume.device_size_bytes > self.drafts[*index].region.size_bytes {
                let what = "the physical volume is longer than its region: it was cut off";
                self.say(Severity::Error, *index, what);
            }
            whole.insert(*index, is_listed && !self.drafts[*index].keep_raw);
        }
        let areas: HashMap<&str, (usize, Vec<Extent>)> = members
            .iter()
            .map(|(index, volume)| (volume.uuid.as_str(), (*index, &self.drafts[*index].region.extents)))
            .filter(|(_, (_, extents))| extents.len() <= PV_PIECES_MAX)
            .map(|(uuid, (index, extents))| (uuid, (index, extents.clone())))
            .collect();
        let placed = place(group, |uuid| areas.get(uuid).map(|(_, extents)| extents.as_slice()));
        let cow_stores: HashSet<&str> = group.cow_stores().collect();
        let origins: HashSet<&str> = group.origins().collect();
        let indexes: HashMap<&str, usize> = group
            .physical_volumes
            .iter()
            .filter_map(|pv| Some((pv.name.as_str(), areas.get(pv.id.as_str())?.0)))
            .collect();

        for volume in &group.logical_volumes {
            let touched: Vec<usize> = touched(volume, &indexes);
            let mapped = if cow_stores.contains(volume.name.as_str()) {
                Err(MapError::CowStore)
            } else {
                extents_of(group, volume, &placed, self.budget)
            };
            // A snapshot's own name belongs to the volume with its exceptions; the volume with the segment is
            // called snapshot0.
            let own_name = volume.segments.iter().find_map(|segment| match &segment.kind {
                SegmentKind::Other { cow_store, .. } => cow_store.as_deref(),
                SegmentKind::Striped { .. } => None,
            });
            let name = format!("{}-{}", group.name, own_name.unwrap_or(&volume.name));
            let parent = touched.first().copied().unwrap_or(metadata_at);
            let why = match mapped {
                Ok(extents) if volume.is_visible => {
                    let name = format!("{}.{name}", self.drafts[parent].region.name);
                    let lv = NestedLv { vg: group.name.clone(), lv: volume.name.clone() };
                    let is_added = self.add_child(parent, &name, Some(lv), extents);
                    if is_added && !origins.contains(volume.name.as_str()) {
                        continue;
                    }
                    is_added.then_some(MapError::Origin)
                }
                // A hidden volume is part of a visible one, which is reported.
                Ok(_) => None,
                Err(_) if !volume.is_visible => None,
                Err(why) => Some(why),
            };
            for index in &touched {
                whole.insert(*index, false);
            }
            if let Some(why) = why {
                // A volume without bytes here still gets a message that its bytes are in the raw image.
                if touched.is_empty() {
                    whole.insert(metadata_at, false);
                }
                let place = format!("{}.{}", self.drafts[parent].region.name, path_safe(&name, NAME_BYTES_MAX));
                let what =
                    format!("logical volume {}: {why}; its physical volume is kept as a raw image", shown(&name));
                self.problems.push(Problem::new(Severity::Warning, place, what));
            }
        }
        for (index, _) in members {
            if whole.get(index) == Some(&true) && self.keep_tail(*index, "the physical volume") {
                self.drafts[*index].region.handling = Handling::Container;
            }
        }
        let what = format!("LVM2 metadata of {}", self.drafts[metadata_at].region.name);
        let len = text.iter().fold(0, |sum: u64, range| sum.saturating_add(range.len));
        if len > METADATA_BYTES_MAX {
            let what = format!("{what}, {} long, are too long for the manifest", ByteLen(len));
            self.say(Severity::Warning, metadata_at, what);
            return;
        }
        for range in text {
            self.preserve(metadata_at, &what, *range);
        }
    }
}

/// The groups found on physical volumes. Several may show the same metadata; each group is processed once.
struct KnownGroups<'a> {
    /// The UUIDs listed in each group, by the group's address.
    listed: HashMap<*const VolumeGroup, HashSet<&'a str>>,
    /// The newest group that lists each physical volume, by UUID.
    newest: HashMap<&'a str, &'a Arc<VolumeGroup>>,
}

impl<'a> KnownGroups<'a> {
    fn new(volumes: &'a [(usize, PhysicalVolume)]) -> Self {
        let mut known = Self { listed: HashMap::new(), newest: HashMap::new() };
        for (_, volume) in volumes {
            let Metadata::Group(group, _) = &volume.metadata else { continue };
            if known.listed(group).is_some() {
                continue;
            }
            let uuids: HashSet<&str> = group.physical_volumes.iter().map(|pv| pv.id.as_str()).collect();
            for uuid in &uuids {
                let newest = known.newest.entry(uuid).or_insert(group);
                if newest.seqno <= group.seqno {
                    *newest = group;
                }
            }
            known.listed.insert(Arc::as_ptr(group), uuids);
        }
        known
    }

    fn listed(&self, group: &Arc<VolumeGroup>) -> Option<&HashSet<&'a str>> {
        self.listed.get(&Arc::as_ptr(group))
    }
}

/// The physical volumes of this level that hold extents of a logical volume, in segment order.
fn touched(volume: &LogicalVolume, indexes: &HashMap<&str, usize>) -> Vec<usize> {
    let mut seen = Vec::new();
    for segment in &volume.segments {
        let names: Vec<&str> = match &segment.kind {
            SegmentKind::Striped { stripes, .. } => stripes.iter().map(|(name, _)| name.as_str()).collect(),
            SegmentKind::Other { names, .. } => names.iter().map(String::as_str).collect(),
        };
        for index in names.iter().filter_map(|name| indexes.get(name)) {
            if !seen.contains(index) {
                seen.push(*index);
            }
        }
    }
    seen
}

/// A tenant's name in a message.
fn shown(name: &str) -> String {
    shown::text(name)
}
