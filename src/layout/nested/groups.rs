//! Volume groups whose physical volumes are on the source: their logical volumes become regions.

use std::collections::{HashMap, HashSet};

use super::{Look, NAME_BYTES_MAX};
use crate::events::{Problem, Severity};
use crate::layout::lvm2::{LogicalVolume, Metadata, PhysicalVolume, SegmentKind, VolumeGroup, extents_of, place};
use crate::layout::probe::Content;
use crate::layout::text::{for_terminal, path_safe};
use crate::layout::{Extent, Handling, NestedLv};

/// A physical volume in more pieces than this is not taken apart: each logical volume would be in more still.
const PV_PIECES_MAX: usize = 256;
/// The most text metadata that the manifest keeps of one group.
const METADATA_BYTES_MAX: u64 = 1 << 20;

impl Look<'_> {
    /// Takes volume groups apart. Groups whose parts lie on several physical volumes of this level are put together.
    pub(super) fn open_groups(&mut self, level: &[usize]) {
        let mut volumes: Vec<(usize, PhysicalVolume)> = Vec::new();
        for index in level {
            if let Some(Content::PhysicalVolume(volume)) = &self.drafts[*index].content {
                volumes.push((*index, volume.as_ref().clone()));
            }
        }
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for (_, volume) in &volumes {
            *copies.entry(&volume.uuid).or_default() += 1;
        }
        let mut done: HashSet<usize> = HashSet::new();
        for (index, volume) in &volumes {
            if done.contains(index) {
                continue;
            }
            let members: Vec<(usize, &PhysicalVolume)> = if copies.get(volume.uuid.as_str()) == Some(&1) {
                let group = newest(&volumes, volume);
                let belongs = |other: &PhysicalVolume| {
                    copies.get(other.uuid.as_str()) == Some(&1)
                        && group.is_some_and(|group| group.physical_volumes.iter().any(|pv| pv.id == other.uuid))
                };
                let among = |(at, other): &&(usize, PhysicalVolume)| *at == *index || belongs(other);
                volumes.iter().filter(among).map(|(at, other)| (*at, other)).collect()
            } else {
                // A copy beside its original: each is taken for itself, so that they do not disturb each other.
                self.say(Severity::Warning, *index, "another physical volume here has the same UUID");
                vec![(*index, volume)]
            };
            done.extend(members.iter().map(|(at, _)| *at));
            self.open_group(&members);
        }
    }

    fn open_group(&mut self, members: &[(usize, &PhysicalVolume)]) {
        let best = members
            .iter()
            .filter_map(|(index, volume)| match &volume.metadata {
                Metadata::Group(group, text) => Some((*index, group.as_ref(), text)),
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
        let mut whole: HashMap<usize, bool> = HashMap::new();
        for (index, volume) in members {
            let is_listed = group.physical_volumes.iter().any(|pv| pv.id == volume.uuid);
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
        let areas: Vec<(&str, usize, Vec<Extent>)> = members
            .iter()
            .map(|(index, volume)| (volume.uuid.as_str(), *index, self.drafts[*index].region.extents.clone()))
            .filter(|(_, _, extents)| extents.len() <= PV_PIECES_MAX)
            .collect();
        let area = |uuid: &str| areas.iter().find(|(id, ..)| *id == uuid);
        let placed = place(group, |uuid| area(uuid).map(|(_, _, extents)| extents.as_slice()));
        let cow_stores: HashSet<&str> = group.cow_stores().collect();
        let indexes: HashMap<&str, usize> =
            group.physical_volumes.iter().filter_map(|pv| Some((pv.name.as_str(), area(&pv.id)?.1))).collect();

        for volume in &group.logical_volumes {
            let touched: Vec<usize> = touched(volume, &indexes);
            let mapped = if cow_stores.contains(volume.name.as_str()) {
                Err("it holds a snapshot's exceptions".to_owned())
            } else {
                extents_of(group, volume, &placed)
            };
            // A snapshot's own name is that of its exceptions; what has the segment is called snapshot0.
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
                    if self.add_child(parent, &name, Some(lv), extents) {
                        continue;
                    }
                    None
                }
                // A hidden volume is a part of a visible one, which is reported.
                Ok(_) => None,
                Err(_) if !volume.is_visible => None,
                Err(why) => Some(why),
            };
            for index in &touched {
                whole.insert(*index, false);
            }
            if let Some(why) = why {
                // One that has no byte of its own here still says that its bytes are in the raw image.
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
            if whole.get(index) == Some(&true) {
                self.drafts[*index].region.handling = Handling::Container;
            }
        }
        let mut left = METADATA_BYTES_MAX;
        for range in text {
            if range.len > left {
                break;
            }
            left -= range.len;
            let what = format!("LVM2 metadata of {}", self.drafts[metadata_at].region.name);
            self.preserve(metadata_at, &what, *range);
        }
    }
}

/// The newest metadata that names this physical volume, its own or another's.
fn newest<'a>(volumes: &'a [(usize, PhysicalVolume)], volume: &PhysicalVolume) -> Option<&'a VolumeGroup> {
    volumes
        .iter()
        .filter_map(|(_, other)| match &other.metadata {
            Metadata::Group(group, _) if group.physical_volumes.iter().any(|pv| pv.id == volume.uuid) => Some(group),
            _ => None,
        })
        .max_by_key(|group| group.seqno)
        .map(AsRef::as_ref)
}

/// The physical volumes here that a logical volume has bytes on, in the order of its segments.
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
    for_terminal(name)
}
