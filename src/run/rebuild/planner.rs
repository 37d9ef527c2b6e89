//! Plans a restore onto a disk from the manifest and the target's size alone; no disk is read or written here. An
//! impossible restore is refused with all reasons at once.
//!
//! Every value in a manifest is untrusted: each range is checked against the target, and overlapping writes are
//! refused.

mod error;
mod groups;
mod made;
mod regions;
mod room;
mod state;
mod tables;

use std::collections::{BTreeMap, HashMap, HashSet};

use self::error::PlanError;
use self::state::{Planner, shown};
use super::claims::Claims;
use super::kept::unpack;
use super::plan::{DiskPlan, Expected, Wish};
use super::shift::Shift;
use crate::layout::{Region, TableKind};
use crate::manifest::{Manifest, RegionRecord};
use crate::units::{ByteLen, Extent};

/// Makes a plan. The error lists every reason against it.
pub fn make_plan(manifest: &Manifest, wish: &Wish<'_>) -> Result<DiskPlan, Vec<String>> {
    let kept = unpack(&manifest.layout.outside).map_err(|error| vec![error.to_string()])?;
    let records: HashMap<&str, &RegionRecord> =
        manifest.regions.iter().map(|record| (record.name.as_str(), record)).collect();
    let mut planner = Planner {
        manifest,
        wish,
        kept,
        records,
        shift: Shift::default(),
        claims: Claims::new(wish.target_bytes),
        steps: Vec::new(),
        remarks: Vec::new(),
        refusals: Vec::new(),
        keep_zero: Vec::new(),
    };
    let expected = planner.go().unwrap_or_else(|why| {
        planner.refusals.push(why.to_string());
        Expected::default()
    });
    if !planner.refusals.is_empty() {
        return Err(planner.refusals);
    }
    let Planner { steps, remarks, .. } = planner;
    let source_bytes = manifest.layout.source.size_bytes;
    Ok(DiskPlan { source_bytes, target_bytes: wish.target_bytes, steps, remarks, expected })
}

impl Planner<'_> {
    /// Plans all steps and collects refusals; an error prevents any further planning.
    fn go(&mut self) -> Result<Expected, PlanError> {
        let layout = &self.manifest.layout;
        let mut names = HashSet::new();
        if let Some(region) = layout.regions.iter().find(|region| !names.insert(region.name.as_str())) {
            return Err(PlanError::SameName(shown(&region.name)));
        }
        if layout.regions.iter().any(|region| !self.records.contains_key(region.name.as_str())) {
            return Err(PlanError::Records);
        }
        self.check_places()?;
        let sector = u64::from(layout.source.sector_size);
        if layout.table.kind != TableKind::None {
            if !matches!(sector, 512 | 4096) {
                return Err(PlanError::SectorSize(sector));
            }
            if let Some(other) = self.wish.target_sector_bytes.filter(|other| u64::from(*other) != sector) {
                return Err(PlanError::OtherSectors { source_bytes: sector, target_bytes: other });
            }
        }
        self.check_sectors();
        self.fit(sector)?;
        let leaves: Vec<&Region> = layout.regions.iter().filter(|region| !self.is_inside_raw(region)).collect();
        for region in &leaves {
            self.plan_region(region);
        }
        let renamed = self.physical_volumes(&leaves);
        self.tables(sector)?;
        let more = self.wish.target_bytes.saturating_sub(layout.source.size_bytes);
        if more > 0 {
            let what = "nothing is made larger; the guest does that itself (growpart, resize2fs), if it wants to";
            self.remarks.push(format!("the {} more at the end stay free: {what}", ByteLen(more)));
        }
        self.zeros();
        Ok(self.expected(&renamed))
    }

    fn expected(&self, renamed: &BTreeMap<String, String>) -> Expected {
        let is_compared = |region: &&Region| {
            let is_gap =
                region.number == 0 && region.parent.is_none() && self.manifest.layout.table.kind != TableKind::None;
            !is_gap && (region.lv.is_some() || !self.is_part_of_another(region))
        };
        let moved = |region: &Region| {
            let mut region = region.clone();
            if let Some((_, data)) = self.plain_members().find(|(member, _)| member.name == region.name) {
                region.holds.clone_from(&data.holds);
                region.handling = data.handling;
            }
            region.extents = self.moved(&region.extents);
            let layout = &self.manifest.layout;
            if layout.table.kind == TableKind::None && region.parent.is_none() && region.lv.is_none() {
                region.extents = vec![Extent { source_offset: 0, length: self.wish.target_bytes }];
            }
            region.start_bytes = region.extents.first().map_or(0, |extent| extent.source_offset);
            region.size_bytes = region.extents.iter().fold(0, |sum: u64, extent| sum.saturating_add(extent.length));
            if let Some(new) = region.lv.as_ref().and_then(|lv| renamed.get(&lv.vg))
                && let Some(lv) = &mut region.lv
            {
                lv.vg.clone_from(new);
            }
            region
        };
        let regions = self.manifest.layout.regions.iter().filter(is_compared).map(moved).collect();
        Expected { table: self.manifest.layout.table.clone(), regions }
    }
}
