//! Plans the size of a snapshot and checks the space for it. Pure functions of facts.

use crate::source::error::SourceError;
use crate::source::lvm::{LvFacts, VgFacts};
use crate::source::options::SnapshotSize;

/// No snapshot is taken in a thin pool at or above this percentage of data or metadata space.
pub(crate) const POOL_LIMIT_PERCENT: f64 = 95.0;

/// The bytes that a thick snapshot of a volume of this size needs, before rounding to extents.
pub fn snapshot_bytes(origin_bytes: u64, size: SnapshotSize) -> u64 {
    let full = full_size_bytes(origin_bytes);
    let wanted = match size {
        SnapshotSize::FullOrigin => full,
        SnapshotSize::PercentOfOrigin(percent) => percent_of(full, percent),
        SnapshotSize::Bytes(bytes) => bytes,
    };
    wanted.clamp(1, full)
}

/// The extents that a thick snapshot of this volume needs; `NoRoom` if its group has fewer.
pub(crate) fn thick_extents(origin: &LvFacts, group: &VgFacts, size: SnapshotSize) -> Result<u64, SourceError> {
    let extents = snapshot_bytes(origin.size_bytes, size).div_ceil(group.extent_size_bytes.max(1));
    if extents > group.free_extents {
        return Err(SourceError::NoRoom {
            volume: origin.full_name(),
            group: group.name.clone(),
            needed_bytes: extents.saturating_mul(group.extent_size_bytes),
            free_bytes: group.free_extents.saturating_mul(group.extent_size_bytes),
        });
    }
    Ok(extents)
}

/// The size at which a thick snapshot cannot overflow. LVM's default chunk is 4 KiB. The kernel's persistent
/// exception store (drivers/md/dm-snap-persistent.c) has one header chunk, and before each 256 data chunks one
/// chunk with their exceptions of 16 bytes each. The last such area is written even if it is empty.
pub(crate) fn full_size_bytes(origin_bytes: u64) -> u64 {
    const CHUNK_BYTES: u64 = 4096;
    const EXCEPTIONS_PER_CHUNK: u64 = CHUNK_BYTES / 16;
    let data_chunks = origin_bytes.div_ceil(CHUNK_BYTES);
    // Cannot overflow: a volume has fewer than 2^64 bytes, so this is about 2^52 chunks.
    let chunks = data_chunks + data_chunks / EXCEPTIONS_PER_CHUNK + 2;
    chunks.saturating_mul(CHUNK_BYTES)
}

fn percent_of(bytes: u64, percent: u32) -> u64 {
    let share = u128::from(bytes) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// Refuses a snapshot in a thin pool that is nearly full, or whose fill is unknown.
pub(crate) fn check_pool(volume: &LvFacts, pool: &LvFacts) -> Result<(), SourceError> {
    let (data_percent, metadata_percent) = (pool.data_percent.unwrap_or(0.0), pool.metadata_percent.unwrap_or(0.0));
    if data_percent.max(metadata_percent) < POOL_LIMIT_PERCENT {
        return Ok(());
    }
    Err(SourceError::PoolFull {
        volume: volume.full_name(),
        pool: pool.full_name(),
        data_percent,
        metadata_percent,
        limit_percent: POOL_LIMIT_PERCENT,
    })
}

#[cfg(test)]
mod tests {
    use super::{SnapshotSize, check_pool, full_size_bytes, thick_extents};
    use crate::source::error::SourceError;
    use crate::source::lvm::{VgFacts, lv_row};

    fn group(free_extents: u64) -> VgFacts {
        VgFacts { name: "vg0".to_owned(), extent_size_bytes: 4 << 20, free_extents }
    }

    #[test]
    fn the_size_counts_the_exception_stores_own_metadata() {
        let origin = lv_row("a", "-wi-a-----", "public", "linear", "");
        let extents = |size| thick_extents(&origin, &group(100), size).unwrap();
        // In the lab, lvcreate -l 100%ORIGIN of 100 MiB made 26 extents of 4 MiB.
        assert_eq!(extents(SnapshotSize::FullOrigin), 26);
        assert_eq!(extents(SnapshotSize::Bytes(1 << 40)), 26, "more would never be used");
        assert_eq!(extents(SnapshotSize::Bytes(1)), 1);
        assert_eq!(extents(SnapshotSize::Bytes((4 << 20) + 1)), 2);
        assert_eq!(extents(SnapshotSize::PercentOfOrigin(20)), 6);
        assert_eq!(full_size_bytes(0), 2 * 4096);
        assert!(full_size_bytes(u64::MAX) > 1 << 62);
    }

    #[test]
    fn a_group_without_room_is_refused_with_figures() {
        let origin = lv_row("a", "-wi-a-----", "public", "linear", "");
        let error = thick_extents(&origin, &group(25), SnapshotSize::FullOrigin).unwrap_err();
        assert!(matches!(error, SourceError::NoRoom { needed_bytes, free_bytes, .. }
            if needed_bytes == 104 << 20 && free_bytes == 100 << 20));
        let text = error.to_string();
        assert!(text.contains("needs 104 MiB, and vg0 has 100 MiB free") && text.contains("--snapshot-size"), "{text}");
        assert!(thick_extents(&origin, &group(25), SnapshotSize::PercentOfOrigin(90)).is_ok());
    }

    #[test]
    fn a_nearly_full_pool_is_refused() {
        let volume = lv_row("t", "Vwi-a-tz--", "public", "thin,sparse", "");
        let mut pool = lv_row("pool", "twi-aotz--", "private", "thin,pool", "");
        let mut checked = |data, metadata| {
            (pool.data_percent, pool.metadata_percent) = (Some(data), Some(metadata));
            check_pool(&volume, &pool).is_ok()
        };
        assert!(checked(94.9, 10.0));
        assert!(!checked(95.0, 10.0));
        assert!(!checked(10.0, 99.0));
    }
}
