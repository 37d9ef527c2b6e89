//! Plans the physical volumes of LVM's volume groups.

use std::collections::BTreeMap;

use super::state::{Planner, shown};
use crate::layout::lvm2::compose;
use crate::layout::{Handling, HoldsKind, Region};
use crate::run::rebuild::volumes::{Groups, shown_group};
use crate::units::ByteRange;

impl Planner<'_> {
    /// Plans labels and metadata of physical volumes; returns the groups' new names.
    pub(super) fn physical_volumes(&mut self, leaves: &[&Region]) -> BTreeMap<String, String> {
        let is_volume =
            |region: &&&Region| region.holds.kind == HoldsKind::Lvm2Pv && self.handling(region) == Handling::Container;
        let volumes: Vec<&Region> = leaves.iter().filter(is_volume).copied().collect();
        let mut groups = Groups::of(&self.kept, &volumes);
        let mut renamed = BTreeMap::new();
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        for region in volumes {
            let name = shown(&region.name);
            let Some(group) = groups.of_volume(region) else {
                self.refuse(format!("{name}: the metadata of its volume group are not in the manifest"));
                continue;
            };
            let new = self.wish.group_names.get(&group.name);
            if new.is_none() && self.wish.active_groups.contains(&group.name) {
                let group = shown_group(&group.name);
                self.refuse(format!(
                    "{name}: a volume group {group} is active on this machine; give the restored one another name with \
                     --vg-name {group}=NEW, or leave it as it is with --vg-name {group}={group}: it is not activated here"
                ));
            }
            if let Some(new) = new.filter(|new| **new != group.name) {
                if self.wish.active_groups.contains(new) {
                    self.refuse(format!("{name}: a volume group {new} is active on this machine; choose another name"));
                }
                let what = "what names its volumes by the old one (fstab, boot loader) has to be changed; its UUID and \
                            those of its physical volumes stay";
                self.remarks.push(format!("{name}: its volume group gets the name {new}; {what}"));
                renamed.insert(group.name.clone(), new.clone());
            }
            let final_name = new.unwrap_or(&group.name).clone();
            if let Some(other) = named.insert(final_name.clone(), group.name.clone()).filter(|old| *old != group.name) {
                let (one, other) = (shown_group(&group.name), shown_group(&other));
                self.refuse(format!("{name}: the volume groups {one} and {other} would both be called {final_name}"));
            }
            let place = self.moved(&region.extents);
            let head = match group.head(region, new.map(String::as_str)) {
                Ok(head) => head,
                Err(why) => {
                    self.refuse(format!("{name}: {why}"));
                    continue;
                }
            };
            let Some(pieces) = compose(&place, ByteRange::new(0, head.len() as u64)) else {
                self.refuse(format!("{name}: it is too small for its own metadata"));
                continue;
            };
            let mut rest = head.as_slice();
            for piece in pieces {
                // The extents together are as long as the head.
                let (now, later) = rest.split_at(usize::try_from(piece.length).unwrap_or(rest.len()).min(rest.len()));
                rest = later;
                self.write(&format!("LVM2 label and metadata of {}", region.name), piece.source_offset, now.to_vec());
            }
        }
        let unknown = self.wish.group_names.keys().filter(|old| !named.values().any(|name| name == *old));
        let unknown: Vec<String> = unknown.map(|old| shown_group(old)).collect();
        for old in unknown {
            self.refuse(format!("--vg-name {old}=…: the disk has no volume group {old}"));
        }
        renamed
    }
}
