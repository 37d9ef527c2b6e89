//! The steps of a plan, region by region, then the tables.

use std::collections::BTreeMap;

use super::fat_format::FatFormat;
use super::makefs::{BUILT_IN, Maker, checker, maker, package_of};
use super::md::alone;
use super::plan::{MakeStep, Step};
use super::planner::{Planner, shown};
use super::stored::Room;
use super::subvolumes::Subvolumes;
use super::table::{Kept, resized};
use super::volumes::{Groups, shown_group};
use crate::layout::lvm2::compose;
use crate::layout::{Handling, HoldsKind, Region, TableKind};
use crate::manifest::{Manifest, RegionRecord};
use crate::run::restore::select::Part;
use crate::units::Extent;
use crate::units::{ByteLen, ByteRange};

/// The longest part of a filesystem's start and end in which something else could be recognised.
const SIGNATURES_BYTES: u64 = 1 << 20;

impl Planner<'_> {
    pub(super) fn plan_region(&mut self, region: &Region) {
        let name = shown(&region.name);
        let place = self.moved(&region.extents);
        match self.handling(region) {
            Handling::Container => self.container(region),
            Handling::RawImage => self.raw_image(region, place),
            Handling::MetadataOnly if region.holds.kind == HoldsKind::Swap => self.make(region, &place, None),
            // Zeros are what is written where nothing else is.
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

    fn claim(&mut self, extents: &[Extent], name: &str, is_raw: bool) {
        for extent in extents {
            let range = ByteRange::new(extent.source_offset, extent.length);
            self.claims.add(range, name, is_raw);
            self.keep_zero.push(range);
        }
    }

    /// A filesystem or swap space.
    fn make(&mut self, region: &Region, place: &[Extent], files: Option<Part>) {
        let name = shown(&region.name);
        let whole: u64 = place.iter().map(|extent| extent.length).fold(0, u64::saturating_add);
        let shrunk = whole < region.size_bytes;
        let said = region.holds.size_bytes.filter(|size| *size > 0 && *size <= whole && !shrunk);
        let size_bytes = said.unwrap_or(whole) / 512 * 512;
        let Some(content) = compose(place, ByteRange::new(0, size_bytes)).filter(|content| !content.is_empty()) else {
            return self.refuse(format!("{name}: it has no room for anything"));
        };
        if content.len() > 1 && !(self.wish.has_program)("dmsetup") {
            self.refuse(format!("{name}: it lies in pieces, which dmsetup puts together; install the package dmsetup"));
        }
        let entries = self.manifest.sizes.entries;
        let mut made = match maker(&region.holds, size_bytes, entries, shrunk) {
            Ok(made) => made,
            Err(why) => return self.refuse(format!("{name}: {why}")),
        };
        if let Some(quotas) = self.records.get(region.name.as_str()).and_then(|record| record.quota_limits.as_deref()) {
            made.differs.push(format!(
                "its {} quota limits are not set: the manifest has them under quota_limits, each as the arguments of setquota",
                quotas.count
            ));
        }
        let mut boot_block = self.boot_block(region);
        let subvolumes = self.subvolumes(region, &mut made);
        let has_attributes = self.records.get(region.name.as_str()).is_some_and(|record| record.has_fat_attributes);
        let fat = Self::fat_format(region, has_attributes, place, &mut boot_block, &mut made);
        self.remarks.extend(made.remarks.iter().map(|remark| format!("{name}: {remark}")));
        let makes_it = Some(made.call.program).filter(|_| fat.is_none());
        for program in makes_it.into_iter().chain(made.after.iter().chain(&made.finish).map(|call| call.program)) {
            if (self.wish.has_program)(program) {
                continue;
            }
            let package = package_of(program);
            self.refuse(format!("{name}: {program} is not installed; on Debian it comes with the package {package}"));
        }
        let fs = region.holds.fs.clone().unwrap_or_default();
        if files.is_some() && !(self.wish.can_mount)(&fs) {
            self.refuse(format!("{name}: this machine's kernel does not know {}", fs.escape_debug()));
        }
        let mut check = checker(&region.holds);
        if let Some(call) = check.take_if(|call| !(self.wish.has_program)(call.program)) {
            self.remarks.push(format!("{name}: {} is not installed, so it is not checked afterwards", call.program));
        }
        if shrunk {
            let (was, is) = (ByteLen(region.size_bytes), ByteLen(whole));
            self.remarks.push(format!("{name}: is made smaller, from {was} to {is}"));
        }
        let compress = files.is_some() && self.is_compressed(region, &fs, size_bytes);
        self.claim_made(&content, &region.name);
        self.steps.push(Step::Make(Box::new(MakeStep {
            region: region.name.clone(),
            fs,
            uuid: region.holds.uuid.clone(),
            label: region.holds.label.clone(),
            size_bytes,
            was_bytes: region.holds.size_bytes,
            extents: content,
            make: made.call,
            otherwise: made.otherwise,
            after: made.after,
            finish: made.finish,
            check,
            files,
            differs: made.differs,
            made_with: region.holds.made_with.clone().unwrap_or_default(),
            compress,
            boot_block,
            subvolumes,
            fat,
        })));
    }

    /// Refuses what the files do not fit into, and says whether they have to be compressed.
    fn is_compressed(&mut self, region: &Region, fs: &str, size_bytes: u64) -> bool {
        let used = self.records.get(region.name.as_str()).and_then(|record| record.used_bytes);
        let (Some(stored), Some(used)) = (self.wish.stored.get(&region.name), used) else { return false };
        let name = shown(&region.name);
        match stored.room_on(fs, used, size_bytes) {
            Room::Enough => false,
            Room::Compressed => {
                let (used, data) = (ByteLen(used), ByteLen(stored.data_bytes));
                self.remarks.push(format!(
                    "{name}: its files have {data} and took {used}, compressed or shared: they are written with \
                     compress=zstd"
                ));
                true
            }
            Room::TooLittle(needed, has) => {
                let (used, data) = (ByteLen(used), ByteLen(stored.data_bytes));
                self.refuse(format!(
                    "{name}: too small: its files have {data}, which took {used} there, compressed or shared; here they \
                     need about {}, and there is room for {}",
                    ByteLen(needed),
                    ByteLen(has)
                ));
                false
            }
        }
    }

    /// What is made anew covers its place, but not each byte of it: where something else could be recognised there is
    /// zeroed before.
    fn claim_made(&mut self, content: &[Extent], name: &str) {
        for extent in content {
            self.claims.add(ByteRange::new(extent.source_offset, extent.length), name, false);
            let inner = extent.length.saturating_sub(2 * SIGNATURES_BYTES);
            if inner > 0 {
                self.keep_zero.push(ByteRange::new(extent.source_offset + SIGNATURES_BYTES, inner));
            }
        }
    }

    /// What a btrfs has besides files.
    fn subvolumes(&mut self, region: &Region, made: &mut Maker) -> Subvolumes {
        let record = self.records.get(region.name.as_str()).and_then(|record| record.btrfs.as_deref());
        let Some(record) = record.filter(|_| region.holds.fs.as_deref() == Some("btrfs")) else {
            return Subvolumes::default();
        };
        if record.quotas {
            made.differs.push(
                "its quotas are off: their limits are not in a backup and have to be set again (btrfs quota enable)"
                    .into(),
            );
        }
        let subvolumes = match Subvolumes::new(record) {
            Ok(subvolumes) => subvolumes,
            Err(why) => {
                made.differs.push(format!("its subvolumes come back as directories: {why}"));
                return Subvolumes::default();
            }
        };
        if !subvolumes.keeps_ids() {
            made.differs.push("its subvolumes get other ids: fstab may name one (subvolid=)".to_owned());
        }
        if record.subvolumes.iter().any(|one| one.received_uuid.is_some()) {
            made.remarks.push(
                "its subvolumes get UUIDs of their own: what was received has to be sent whole again (btrfs send)"
                    .into(),
            );
        }
        subvolumes
    }

    /// A FAT is made of the reserved sectors that the manifest keeps; of backups that have the first alone, by mkfs.fat.
    fn fat_format(
        region: &Region,
        has_attributes: bool,
        place: &[Extent],
        boot_block: &mut Option<Vec<u8>>,
        made: &mut Maker,
    ) -> Option<Box<FatFormat>> {
        region.holds.made_with.as_ref()?.fat.as_ref()?;
        if region.holds.fs.as_deref() != Some("vfat") {
            return None;
        }
        let is_at = place.first().map_or(0, |extent| extent.source_offset);
        let kept = boot_block.take().unwrap_or_default();
        match FatFormat::new(&region.holds, &kept, (region.start_bytes, is_at)) {
            Ok(format) => {
                made.call = BUILT_IN;
                made.differs.clear();
                made.remarks.clear();
                if !has_attributes {
                    made.remarks.push(
                        "the attributes hidden, system and archive are not in this backup: its files get those of new files"
                            .into(),
                    );
                }
                if format.knows_blocks {
                    made.differs.push(
                        "its boot code is SYSLINUX', which knows the blocks of ldlinux.sys, and those are others now: \
                         install it anew (syslinux --install)"
                            .to_owned(),
                    );
                }
                Some(Box::new(format))
            }
            Err(why) => {
                made.differs.push(format!("its reserved sectors do not come back: {why}"));
                *boot_block = kept.get(..512).map(<[u8]>::to_vec);
                None
            }
        }
    }

    /// Boot code in front of a filesystem, where that itself keeps nothing.
    fn boot_block(&mut self, region: &Region) -> Option<Vec<u8>> {
        let what = format!("boot block of {}", region.name);
        let longest = match region.holds.fs.as_deref()? {
            "ext2" | "ext3" | "ext4" | "swap" => 1024,
            "btrfs" => 64 << 10,
            // Its reserved sectors.
            "vfat" => usize::MAX,
            _ => return None,
        };
        let fits =
            |bytes: &&Kept| bytes.what == what && bytes.start == region.start_bytes && bytes.bytes.len() <= longest;
        self.kept.iter().find(fits).map(|bytes| bytes.bytes.clone())
    }

    /// The labels and metadata of physical volumes; gives the groups' new names.
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
                // The pieces have the head's length together.
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

    fn write(&mut self, what: &str, start_bytes: u64, bytes: Vec<u8>) {
        let range = ByteRange::new(start_bytes, bytes.len() as u64);
        // Zeroed first all the same: an old table, or half a new one, must not be found before the end.
        self.claims.add(range, what, true);
        let size_bytes = bytes.len() as u64;
        self.steps.push(Step::Write { what: what.to_owned(), start_bytes, size_bytes, bytes });
    }

    /// What lies outside the partitions. The first sector comes last: before that, no disk is there.
    pub(super) fn tables(&mut self, sector: u64) -> Result<(), String> {
        let table = &self.manifest.layout.table;
        let is_table = |bytes: &Kept| {
            bytes.what == "boot sector" || bytes.what.starts_with("GPT ") || bytes.what == "extended boot record"
        };
        if table.kind == TableKind::None {
            return Ok(());
        }
        if self.covered_by_image() {
            // Its first sector is in the image.
            return Ok(());
        }
        let kept = std::mem::take(&mut self.kept);
        let (mut tables, others): (Vec<Kept>, Vec<Kept>) = kept.into_iter().partition(is_table);
        if !tables.iter().any(|bytes| bytes.what == "boot sector" && bytes.start == 0) {
            return Err("the manifest does not hold its first sector".to_owned());
        }
        for gap in others.into_iter().filter(|bytes| bytes.what.starts_with("gap ")) {
            let range = ByteRange::new(gap.start, gap.bytes.len() as u64);
            if self.shift.moved_range(range) == range {
                self.write(&gap.what, gap.start, gap.bytes);
            } else {
                let what = "what lies between partitions is left out, since those are moved";
                self.remarks.push(format!("{range}: {what}"));
            }
        }
        if self.is_resized() {
            tables = resized(&tables, table, sector, &self.shift, self.wish.target_bytes)?;
        }
        // Stable, so the order of the rest stays.
        tables.sort_by_key(|bytes| bytes.start == 0);
        for bytes in tables {
            self.write(&bytes.what, bytes.start, bytes.bytes);
        }
        Ok(())
    }

    /// Whether one raw image is the whole disk.
    pub(super) fn covered_by_image(&self) -> bool {
        let size = self.manifest.layout.source.size_bytes;
        let is_all = |region: &Region| region.size_bytes == size && self.handling(region) == Handling::RawImage;
        self.manifest.layout.regions.iter().any(is_all)
    }

    /// Everything that nothing else is written to, first of all steps.
    pub(super) fn zeros(&mut self) {
        self.refusals.extend(self.claims.conflicts());
        let mut written = std::mem::take(&mut self.keep_zero);
        written.sort_by_key(|range| range.start);
        let mut ranges = Vec::new();
        let mut at = 0;
        for range in &written {
            if range.start > at {
                ranges.push(Extent { source_offset: at, length: range.start - at });
            }
            at = at.max(range.end().unwrap_or(u64::MAX));
        }
        if at < self.wish.target_bytes {
            ranges.push(Extent { source_offset: at, length: self.wish.target_bytes - at });
        }
        self.steps.insert(0, Step::Zero { ranges });
    }
}

/// The part of the archive that holds a filesystem's files; `None` when the manifest does not say where they are.
pub(super) fn part_of_record(manifest: &Manifest, record: &RegionRecord) -> Option<Part> {
    let below = part_of(record.archive_path.as_deref()?)?;
    // The raw images in the archive's root are none of the filesystem's files.
    let raw = manifest.regions.iter().filter(|record| below.is_empty() && record.handling == Handling::RawImage);
    let mut except: Vec<Vec<u8>> = raw.filter_map(|record| part_of(record.archive_path.as_deref()?)).collect();
    except.retain(|path| !path.is_empty());
    Some(Part { below, except })
}

/// A path of the manifest, `.` or `./p1`, as a directory of the archive without `./`.
fn part_of(path: &str) -> Option<Vec<u8>> {
    if path == "." {
        return Some(Vec::new());
    }
    let name = path.strip_prefix("./")?;
    let is_one = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    is_one.then(|| name.as_bytes().to_vec())
}
