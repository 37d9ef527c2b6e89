//! The boot sector, and the copy of it at the end.

use crate::field::{le16, le64};
use crate::outside::BlockRead;
use crate::used::bits::Clusters;
use crate::used::map::Whole;

pub(super) const SECTOR: usize = 512;
/// NTFS counts clusters with 32 bits.
const CLUSTERS_MAX: u64 = 1 << 32;
const RECORD_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    pub(super) clusters: Clusters,
    /// Where the master file table and the copy of its first records begin.
    pub(super) table_at: u64,
    pub(super) mirror_at: u64,
    pub(super) record_bytes: u64,
}

impl Boot {
    pub(super) fn read(blocks: &dyn BlockRead) -> Result<Self, Whole> {
        let mut sector = [0; SECTOR];
        blocks.read_at(0, &mut sector)?;
        let (boot, volume_bytes) =
            Self::decode(&sector).ok_or_else(|| Whole::in_doubt("its boot sector makes no sense"))?;
        if volume_bytes > blocks.len_bytes() {
            return Err(Whole::in_doubt("it is longer than its region"));
        }
        let mut copy = [0; SECTOR];
        if volume_bytes + SECTOR as u64 <= blocks.len_bytes() {
            blocks.read_at(volume_bytes, &mut copy)?;
            // Where a partition was moved or made larger without its copy there is none. One that says something else is
            // that of another volume, and which one is right cannot be known.
            let is_other = copy.get(3..11) == sector.get(3..11) && copy.get(11..80) != sector.get(11..80);
            if is_other {
                return Err(Whole::in_doubt("its two boot sectors contradict each other"));
            }
        }
        Ok(boot)
    }

    /// The boot sector's numbers, and how long the volume is.
    fn decode(sector: &[u8]) -> Option<(Self, u64)> {
        let sector_bytes = u64::from(le16(sector, 11)?);
        let shifted = |byte: u8| 1_u64.checked_shl(u32::from(byte.wrapping_neg())).filter(|bytes| *bytes <= 1 << 21);
        let sectors_per_cluster = match *sector.get(13)? {
            count @ 1..=128 => u64::from(count),
            negative => shifted(negative)?,
        };
        let is_right = sector.get(3..11)? == b"NTFS    "
            && sector_bytes.is_power_of_two()
            && (256..=4096).contains(&sector_bytes)
            && sectors_per_cluster.is_power_of_two();
        if !is_right {
            return None;
        }
        let cluster_bytes = sector_bytes.checked_mul(sectors_per_cluster)?;
        let volume_bytes = le64(sector, 40)?.checked_mul(sector_bytes)?;
        let count = volume_bytes / cluster_bytes;
        let record_bytes = match *sector.get(64)? {
            count @ 1..=127 => u64::from(count).checked_mul(cluster_bytes)?,
            negative => shifted(negative)?,
        };
        let record_is_right = record_bytes.is_power_of_two() && (512..=RECORD_BYTES_MAX).contains(&record_bytes);
        let place = |at: usize| le64(sector, at).filter(|cluster| *cluster < count)?.checked_mul(cluster_bytes);
        let boot = Self {
            clusters: Clusters { first_byte: 0, bytes: cluster_bytes, count },
            table_at: place(48)?,
            mirror_at: place(56)?,
            record_bytes,
        };
        (record_is_right && (1..CLUSTERS_MAX).contains(&count)).then_some((boot, volume_bytes))
    }
}
