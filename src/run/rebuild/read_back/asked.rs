//! The input for the crates, and their answers for each partition.

use super::opinion::TableOpinion;
use crate::layout::Region;
use crate::run::rebuild::plan::DiskPlan;

/// A run of the table's bytes, as planned and as read back.
pub(super) struct Piece<'a> {
    pub(super) what: &'a str,
    pub(super) start: u64,
    pub(super) planned: &'a [u8],
    pub(super) found: Vec<u8>,
}

impl Piece<'_> {
    pub(super) fn end(&self) -> u64 {
        // The planner checked each range against the target's length.
        self.start.saturating_add(self.planned.len() as u64)
    }
}

/// The input for both crates.
pub(super) struct Asked<'a> {
    pub(super) pieces: &'a [Piece<'a>],
    pub(super) plan: &'a DiskPlan,
    pub(super) sector: u64,
}

impl<'a> Asked<'a> {
    pub(super) fn piece(&self, what: &str) -> Option<&'a Piece<'a>> {
        self.pieces.iter().find(|piece| piece.what == what)
    }

    /// The planned partition with this number.
    pub(super) fn region(&self, number: u32) -> Option<&'a Region> {
        self.plan.expected.regions.iter().find(|region| region.lv.is_none() && region.number == number)
    }
}

/// A partition's place and flag according to a crate, to be compared with the planned one.
pub(super) struct ReadPartition {
    pub(super) number: u32,
    pub(super) start: u64,
    /// Exclusive.
    pub(super) end: u64,
    pub(super) bootable: bool,
    pub(super) type_id: String,
}

impl ReadPartition {
    pub(super) fn compare(&self, asked: &Asked<'_>, reader: &str, opinion: &mut TableOpinion) {
        let Some(region) = asked.region(self.number) else { return };
        let place = format!("partition {}", self.number);
        let sector = asked.sector;
        let mut compare = |what: &str, planned: String, found: String| {
            opinion.compare(&place, reader, what, &planned, &found);
        };
        compare("the type", region.type_id.clone(), self.type_id.clone());
        compare("the boot flag", region.bootable.to_string(), self.bootable.to_string());
        compare("its first sector at", (region.start_bytes / sector).to_string(), self.start.to_string());
        // The plan cuts off partitions at the end of the disk.
        let end = region.start_bytes.saturating_add(region.size_bytes);
        if self.end.saturating_mul(sector) <= asked.plan.target_bytes {
            compare("its end at sector", (end / sector).to_string(), self.end.to_string());
        }
    }
}
