//! What snapshot to take: its name, its tags, its size. Decided from facts alone.

use std::fmt;
use std::str::FromStr;

use chrono::NaiveTime;

use crate::owner::Owner;
use crate::source::error::SourceError;
use crate::source::lvm::{LvFacts, VgFacts};
use crate::source::{OWNER_TAG_PREFIX, SNAPSHOT_TAG};
use crate::units::ByteLen;

/// From this percentage on, of data or metadata space, no snapshot is taken in a thin pool.
pub(crate) const POOL_LIMIT_PERCENT: f64 = 95.0;

/// How large a thick snapshot is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotSize {
    /// So large that it cannot overflow: the origin's size and the exception store's own metadata.
    #[default]
    FullOrigin,
    /// This percentage of the origin's size.
    PercentOfOrigin(u32),
    /// This many bytes.
    Bytes(u64),
}

/// The text is not a size of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a snapshot size: write bytes with a unit (`10G`, powers of 1024) or a share of the volume (`20%`)"
)]
pub struct BadSnapshotSize(String);

/// `20%` is a share of the origin, `100%` and more [`SnapshotSize::FullOrigin`]; `10G`, `10GiB`, `500M` and plain
/// numbers are bytes, units in powers of 1024 as LVM has them. Zero is refused.
impl FromStr for SnapshotSize {
    type Err = BadSnapshotSize;

    fn from_str(text: &str) -> Result<Self, BadSnapshotSize> {
        let bad = || BadSnapshotSize(text.to_owned());
        let trimmed = text.trim();
        if let Some(percent) = trimmed.strip_suffix("%ORIGIN").or_else(|| trimmed.strip_suffix('%')) {
            return match percent.trim().parse::<u32>().map_err(|_| bad())? {
                0 => Err(bad()),
                percent @ 1..100 => Ok(Self::PercentOfOrigin(percent)),
                _ => Ok(Self::FullOrigin),
            };
        }
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        match number.checked_mul(1 << shift) {
            None | Some(0) => Err(bad()),
            Some(bytes) => Ok(Self::Bytes(bytes)),
        }
    }
}

impl fmt::Display for SnapshotSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullOrigin => f.write_str("100%"),
            Self::PercentOfOrigin(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{}", ByteLen(*bytes)),
        }
    }
}

/// How many bytes a thick snapshot of so large a volume takes, not rounded to extents.
pub fn snapshot_bytes(origin_bytes: u64, size: SnapshotSize) -> u64 {
    let full = full_size_bytes(origin_bytes);
    let wanted = match size {
        SnapshotSize::FullOrigin => full,
        SnapshotSize::PercentOfOrigin(percent) => percent_of(full, percent),
        SnapshotSize::Bytes(bytes) => bytes,
    };
    wanted.clamp(1, full)
}

/// How many extents a thick snapshot of this volume takes; `NoRoom` when its group has fewer.
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

/// The size from which on a thick snapshot cannot overflow. LVM's default chunk is 4 KiB. The kernel's persistent
/// exception store (drivers/md/dm-snap-persistent.c) has one chunk of header, and ahead of each 256 chunks of data one
/// with their exceptions, 16 bytes each; the last such area is written even when it is empty.
pub(crate) fn full_size_bytes(origin_bytes: u64) -> u64 {
    const CHUNK_BYTES: u64 = 4096;
    const EXCEPTIONS_PER_CHUNK: u64 = CHUNK_BYTES / 16;
    let data_chunks = origin_bytes.div_ceil(CHUNK_BYTES);
    // Cannot overflow: a volume has fewer than 2^64 bytes, so this is some 2^52 chunks.
    let chunks = data_chunks + data_chunks / EXCEPTIONS_PER_CHUNK + 2;
    chunks.saturating_mul(CHUNK_BYTES)
}

fn percent_of(bytes: u64, percent: u32) -> u64 {
    let share = u128::from(bytes) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// Refuses a snapshot in a thin pool that is nearly full, or whose fill is not known.
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

/// A name for a snapshot that `taken` says is free: `NAME-volbak-HHMMSS`, with a number after it when that name is in
/// use. `NAME` is cut where the name would become too long for LVM or device-mapper.
pub(crate) fn snapshot_name(vg: &str, lv: &str, now: NaiveTime, taken: impl Fn(&str) -> bool) -> String {
    // dm-ioctl.h DM_NAME_LEN: 128 bytes with the zero at its end. LVM doubles each hyphen, joins group and volume with
    // one, and puts `-cow` after the name of an exception store.
    const LONGEST: usize = 127;
    let escaped_len = |text: &str| text.len() + text.bytes().filter(|byte| *byte == b'-').count();
    let time = now.format("%H%M%S");
    let name_with = |number: u32| {
        let suffix = if number < 2 { format!("-volbak-{time}") } else { format!("-volbak-{time}-{number}") };
        let mut base = lv.to_owned();
        while escaped_len(vg) + 1 + escaped_len(&base) + escaped_len(&suffix) + 4 > LONGEST && base.len() > 1 {
            base.pop();
        }
        base + &suffix
    };
    // As many names as a machine can have volumes; the last one fails in lvcreate if all are taken.
    (1..10_000).map(name_with).find(|name| !taken(name)).unwrap_or_else(|| name_with(10_000))
}

/// Whether a name is one that [`snapshot_name`] gives.
pub(crate) fn is_snapshot_name(name: &str) -> bool {
    let Some((base, rest)) = name.rsplit_once("-volbak-") else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (time, number) = rest.split_once('-').map_or((rest, None), |(time, number)| (time, Some(number)));
    !base.is_empty() && time.len() == 6 && digits(time) && number.is_none_or(digits)
}

/// The tags of a snapshot that this process takes.
pub(crate) fn tags_of(owner: &Owner) -> [String; 2] {
    [SNAPSHOT_TAG.to_owned(), format!("{OWNER_TAG_PREFIX}{owner}")]
}

#[cfg(test)]
mod tests {
    use super::{SnapshotSize, check_pool, full_size_bytes, is_snapshot_name, snapshot_name, thick_extents};
    use crate::source::error::SourceError;
    use crate::source::lvm::VgFacts;
    use crate::source::lvm::tests::lv_row;
    use chrono::NaiveTime;

    fn group(free_extents: u64) -> VgFacts {
        VgFacts { name: "vg0".to_owned(), extent_size_bytes: 4 << 20, free_extents }
    }

    fn time() -> NaiveTime {
        NaiveTime::from_hms_opt(1, 2, 3).unwrap()
    }

    #[test]
    fn the_size_counts_the_exception_stores_own_metadata() {
        let origin = lv_row("a", "-wi-a-----", "public", "linear", "");
        let extents = |size| thick_extents(&origin, &group(100), size).unwrap();
        // lvcreate -l 100%ORIGIN of 100 MiB made 26 extents of 4 MiB in the lab.
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
    fn sizes_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<SnapshotSize>().ok();
        assert_eq!(read("20%"), Some(SnapshotSize::PercentOfOrigin(20)));
        assert_eq!(read("100%"), Some(SnapshotSize::FullOrigin));
        assert_eq!(read("100%ORIGIN"), Some(SnapshotSize::FullOrigin));
        assert_eq!(read(" 50G "), Some(SnapshotSize::Bytes(50 << 30)));
        assert_eq!(read("50 GiB"), Some(SnapshotSize::Bytes(50 << 30)));
        assert_eq!(read("4096"), Some(SnapshotSize::Bytes(4096)));
        for text in ["", "0", "0%", "-1", "G", "1.5G", "10GB", "99999999999T", "1%%", "ten"] {
            assert_eq!(read(text), None, "{text}");
        }
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

    #[test]
    fn snapshot_names_are_free_and_recognised() {
        let name = |taken: &[&str]| snapshot_name("vg0", "vol-1", time(), |name| taken.contains(&name));
        assert_eq!(name(&[]), "vol-1-volbak-010203");
        assert_eq!(name(&["vol-1-volbak-010203"]), "vol-1-volbak-010203-2");
        assert_eq!(name(&["vol-1-volbak-010203", "vol-1-volbak-010203-2"]), "vol-1-volbak-010203-3");
        for ours in ["vol-1-volbak-010203", "vol-1-volbak-010203-12", "a-volbak-b-volbak-235959"] {
            assert!(is_snapshot_name(ours), "{ours}");
        }
        for other in
            ["vol-1", "-volbak-010203", "a-volbak-0102", "a-volbak-010203-", "a-volbak-010203-x", "a-volbak-0102034"]
        {
            assert!(!is_snapshot_name(other), "{other}");
        }
    }

    #[test]
    fn names_stay_within_what_device_mapper_takes() {
        let lv = "volume-0f8fad5b-d9cb-469f-a165-70867728950e";
        let name = snapshot_name("cinder-volumes", lv, time(), |_| false);
        assert_eq!(name, format!("{lv}-volbak-010203"), "nothing of a usual name is cut");
        for (vg, lv) in
            [("g".repeat(60), "-".repeat(60)), ("v".repeat(90), "x".repeat(30)), ("g".to_owned(), "y".repeat(120))]
        {
            let name = snapshot_name(&vg, &lv, time(), |_| false);
            let dm = format!("{}-{}-cow", vg.replace('-', "--"), name.replace('-', "--"));
            assert!(dm.len() <= 127 && is_snapshot_name(&name), "{} {name}", dm.len());
        }
    }
}
