//! Checks that all regions fit on the target, and decides which become smaller.

use super::error::PlanError;
use super::state::{Planner, shown};
use crate::layout::{Handling, HoldsKind, Region, TableKind};
use crate::run::rebuild::makefs::default_journal_bytes;
use crate::run::rebuild::shift::{Movable, Shift};
use crate::run::rebuild::table::{TableError, gpt_tail_bytes};
use crate::units::{ByteLen, ByteRange};

impl Planner<'_> {
    /// Checks that every region is on the source, so that sums cannot overflow.
    pub(super) fn check_places(&self) -> Result<(), PlanError> {
        let size = self.manifest.layout.source.size_bytes;
        for region in &self.manifest.layout.regions {
            let bad = |what| Err(PlanError::Place { region: shown(&region.name), what });
            let mut sum = 0_u64;
            for extent in &region.extents {
                let end = extent.source_offset.checked_add(extent.length);
                if extent.length == 0 || end.is_none_or(|end| end > size) {
                    return bad("a piece of it lies outside the source");
                }
                if extent.source_offset % 512 != 0 {
                    return bad("a piece of it does not begin with a sector");
                }
                sum = sum.saturating_add(extent.length);
            }
            if sum != region.size_bytes
                || region.extents.first().map(|extent| extent.source_offset) != Some(region.start_bytes)
            {
                return bad("its place and its pieces contradict each other");
            }
        }
        Ok(())
    }

    /// Refuses a filesystem whose sectors or blocks are smaller than the target's sectors: it could not be mounted.
    pub(super) fn check_sectors(&mut self) {
        let Some(target) = self.wish.target_sector_bytes else { return };
        let mut refusals = Vec::new();
        for region in self.manifest.layout.regions.iter().filter(|region| self.handling(region) == Handling::Files) {
            let made = region.holds.made_with.as_ref();
            let least = made.and_then(|made| made.sector_bytes.into_iter().chain(made.block_bytes).min());
            if let Some(bytes) = least.filter(|bytes| *bytes < target) {
                refusals.push(format!(
                    "{}: its filesystem counts in {bytes} bytes and the target has sectors of {target}: restore to an \
                     image, or to a device of the same kind",
                    shown(&region.name)
                ));
            }
        }
        self.refusals.extend(refusals);
    }

    /// Decides which partitions become smaller.
    pub(super) fn fit(&mut self, sector: u64) -> Result<(), PlanError> {
        let layout = &self.manifest.layout;
        if self.wish.target_bytes < layout.source.size_bytes && self.covered_by_image() {
            let (target, whole) = (ByteLen(self.wish.target_bytes), ByteLen(layout.source.size_bytes));
            return Err(PlanError::ImageTooLong { target, whole });
        }
        let usable_end = match layout.table.kind {
            TableKind::Gpt if self.is_resized() => {
                let tail = gpt_tail_bytes(&self.kept, &layout.table, sector)?;
                let sectors = self.wish.target_bytes / sector;
                (sectors * sector).checked_sub(tail).ok_or(TableError::TooSmall)?
            }
            _ => self.wish.target_bytes,
        };
        let mut parts = Vec::new();
        for region in &layout.regions {
            let is_partition = region.number > 0 && region.lv.is_none() && !self.is_part_of_another(region);
            let is_extended = region.handling == Handling::Container
                && region.holds.kind != HoldsKind::Lvm2Pv
                && region.holds.kind != HoldsKind::Mdraid;
            let is_whole = layout.table.kind == TableKind::None && region.parent.is_none();
            if ((is_partition && !is_extended) || is_whole) && !self.is_inside_raw(region) {
                let range = ByteRange::new(region.start_bytes, region.size_bytes);
                let min_bytes = self.min_bytes(region);
                parts.push(Movable { name: shown(&region.name), range, min_bytes });
            }
        }
        if self.wish.target_bytes < layout.source.size_bytes {
            self.shift = Shift::fit(parts, usable_end)?;
        }
        Ok(())
    }

    /// The minimum size of a region. Only filesystems restored from files can become smaller.
    fn min_bytes(&self, region: &Region) -> u64 {
        let used = self.records.get(region.name.as_str()).and_then(|record| record.used_bytes);
        let has_tail = self.manifest.layout.regions.iter().any(|other| other.parent.as_deref() == Some(&region.name));
        let (Some(used), Handling::Files, false) = (used, self.handling(region), has_tail) else {
            return region.size_bytes;
        };
        let fs = region.holds.fs.as_deref().unwrap_or_default();
        let used = used.max(self.wish.stored.get(&region.name).map_or(0, |stored| stored.used_on(fs)));
        // Space for the filesystem's metadata, and a reserve.
        let entries = self.manifest.sizes.entries;
        let with_inodes = used.saturating_add(entries.saturating_mul(512));
        let needed = match fs {
            "ext2" | "ext3" | "ext4" => ext_min_bytes(region, used, entries),
            "xfs" => with_inodes.saturating_add(with_inodes / 8).saturating_add(96 << 20).max(320 << 20),
            "btrfs" => with_inodes.saturating_add(with_inodes / 3).saturating_add(256 << 20),
            _ => region.size_bytes,
        };
        needed.min(region.size_bytes)
    }
}

/// The minimum size of an ext filesystem with `used` bytes in use, which include neither inode tables nor journal.
fn ext_min_bytes(region: &Region, used: u64, entries: u64) -> u64 {
    let made = region.holds.made_with.as_ref();
    let inode_bytes = made.and_then(|made| made.inode_bytes).map_or(256, u64::from);
    let inodes = made.and_then(|made| made.inodes).unwrap_or(region.size_bytes / 16_384);
    let tables = inodes.saturating_mul(inode_bytes).min(region.size_bytes / 2);
    let fixed = used
        .saturating_add(used / 6)
        .saturating_add(default_journal_bytes(region.size_bytes))
        .saturating_add(32 << 20)
        .saturating_add(entries.saturating_mul(inode_bytes));
    // The number of inodes per byte stays, so their tables keep their share.
    let scaled = u128::from(fixed) * u128::from(region.size_bytes) / u128::from((region.size_bytes - tables).max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
