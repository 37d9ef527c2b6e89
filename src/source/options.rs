//! Options for freezing a source, from the config and the command line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units::ByteLen;

/// Options for freezing a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FreezeOptions {
    /// The size of a thick snapshot's exception store.
    pub snapshot_size: SnapshotSize,
    /// Whether a thick snapshot is extended before it is full, while its group has free space.
    pub extend: bool,
    /// How long the removal of a busy snapshot is retried.
    pub removal_patience: Duration,
}

impl Default for FreezeOptions {
    fn default() -> Self {
        Self { snapshot_size: SnapshotSize::default(), extend: true, removal_patience: Duration::from_secs(15) }
    }
}

/// The size of a thick snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotSize {
    /// Cannot overflow: the origin's size plus the exception store's metadata.
    #[default]
    FullOrigin,
    /// A percentage of the origin's size.
    PercentOfOrigin(u32),
    /// A number of bytes.
    Bytes(u64),
}

/// The text is not a snapshot size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a snapshot size: write bytes with a unit (`10G`, powers of 1024) or a share of the volume (`20%`)"
)]
pub struct BadSnapshotSize(String);

/// `20%` is a percentage of the origin, `100%` and more means [`SnapshotSize::FullOrigin`]. `10G`, `10GiB`, `500M`
/// and plain numbers are bytes; units are powers of 1024 as in LVM. Zero is refused.
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

#[cfg(test)]
mod tests {
    use super::SnapshotSize;

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
}
