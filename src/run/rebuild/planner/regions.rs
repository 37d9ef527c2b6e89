//! Plans each region: a raw image, a container, or a filesystem that is made again.

use super::state::{Planner, shown};
use crate::layout::lvm2::compose;
use crate::layout::{Handling, HoldsKind, Region, TableKind};
use crate::run::rebuild::md::alone;
use crate::run::rebuild::plan::Step;
use crate::run::restore::part_of_region::part_of_record;
use crate::units::{ByteRange, Extent};

impl Planner<'_> {
    pub(super) fn plan_region(&mut self, region: &Region) {
        let name = shown(&region.name);
        let place = self.moved(&region.extents);
        match self.handling(region) {
            Handling::Container => self.container(region),
            Handling::RawImage => self.raw_image(region, place),
            Handling::MetadataOnly if region.holds.kind == HoldsKind::Swap => self.make(region, &place, None),
            // Everything not written is zeroed.
            Handling::MetadataOnly => {}
            Handling::Files => {
                let record = self.records.get(region.name.as_str()).copied();
                match record.and_then(|record| part_of_record(self.manifest, record)) {
                    Some(part) => self.make(region, &place, Some(part)),
                    None => self.refuse(format!("{name}: the manifest does not say where its files are")),
                }
            }
        }
    }

    fn container(&mut self, region: &Region) {
        if region.holds.kind != HoldsKind::Mdraid {
            return;
        }
        let name = shown(&region.name);
        if self.wish.plain_md && !self.plain_members().any(|(member, _)| member.name == region.name) {
            return self.refuse(format!("{name}: its RAID1 lies in pieces, so it cannot become what the array held"));
        }
        if self.wish.plain_md {
            let what = "is not a member of a RAID1 any more but what the array held; what names the array (fstab, \
                        mdadm.conf, the partition's type) has to be changed";
            return self.remarks.push(format!("{name}: {what}"));
        }
        let md = region.holds.made_with.as_ref().and_then(|made| made.md.as_deref());
        let what = format!("md superblock of {}", region.name);
        let kept = self.kept.iter().find(|bytes| bytes.what == what).and_then(|bytes| alone(&bytes.bytes));
        let (Some(md), Some(superblock)) = (md, kept) else {
            return self.refuse(format!(
                "{name}: the superblock of its RAID1 is not in the manifest, or cannot be used; --plain-md restores what \
                 the array held, without the array"
            ));
        };
        let version = region.holds.version.as_deref().unwrap_or_default();
        let is_at_end = version.starts_with("1.0") || version.starts_with("0.90");
        let is_whole = region.parent.is_none() && self.manifest.layout.table.kind == TableKind::None;
        if is_at_end && is_whole && self.is_resized() {
            return self.refuse(format!(
                "{name}: its array is found by the end of the disk: restore to one of the same size, or with --plain-md"
            ));
        }
        let at = ByteRange::new(md.superblock_at, superblock.len() as u64);
        let Some(pieces) = compose(&self.moved(&region.extents), at) else {
            return self.refuse(format!("{name}: the superblock of its RAID1 is outside of it"));
        };
        let mut rest = superblock.as_slice();
        for piece in pieces {
            let (now, later) = rest.split_at(usize::try_from(piece.length).unwrap_or(rest.len()).min(rest.len()));
            rest = later;
            self.write(&what, piece.source_offset, now.to_vec());
        }
        if md.devices > 1 {
            self.remarks.push(format!(
                "{name}: its RAID1 of {} devices has this member alone; never attach an old member beside it before \
                 mdadm --zero-superblock was run on that; mdadm --add brings new ones in",
                md.devices
            ));
        }
    }

    fn raw_image(&mut self, region: &Region, place: Vec<Extent>) {
        let name = shown(&region.name);
        let Some(archive_path) = self.records.get(region.name.as_str()).and_then(|record| record.archive_path.clone())
        else {
            return self.refuse(format!("{name}: the manifest does not say where its image is"));
        };
        let is_moved = place != region.extents;
        if is_moved && region.number == 0 && region.parent.is_none() {
            let what = "what lies between partitions is left out, since those are moved";
            self.remarks.push(format!("{name}: {what}"));
            return;
        }
        if is_moved && !region.type_id.is_empty() {
            self.remarks.push(format!("{name}: is moved; boot code that knows its old place has to be installed anew"));
        }
        self.claim(&place, &region.name, true);
        self.steps.push(Step::RawImage { region: region.name.clone(), archive_path, extents: place });
    }
}
