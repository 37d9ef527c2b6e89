//! Quantities with the unit in the type, so that a sector number cannot be used as a byte offset.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A logical block address: a sector number, counted from the start of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lba(pub u64);

impl Lba {
    /// The byte offset of this sector, or `None` if it exceeds 64 bits.
    pub fn to_bytes(self, sector_size_bytes: u32) -> Option<u64> {
        self.0.checked_mul(u64::from(sector_size_bytes))
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}", self.0)
    }
}

/// A length in bytes, displayed in powers of 1024 (`1.5 GiB`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteLen(pub u64);

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut unit_bytes = 1024_u64;
        let mut unit = 0;
        while unit + 1 < UNITS.len() && self.0 / unit_bytes >= 1024 {
            unit_bytes *= 1024;
            unit += 1;
        }
        let whole = self.0 / unit_bytes;
        // The remainder is below 2^60, so ten times it fits in 64 bits.
        let tenths = (self.0 % unit_bytes) * 10 / unit_bytes;
        if tenths == 0 { write!(f, "{whole} {}", UNITS[unit]) } else { write!(f, "{whole}.{tenths} {}", UNITS[unit]) }
    }
}

/// A run of bytes: `len` bytes from `start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The length.
    pub len: u64,
}

impl ByteRange {
    /// A run of `len` bytes from `start`.
    pub fn new(start: u64, len: u64) -> Self {
        Self { start, len }
    }

    /// The first byte after the run, or `None` if it exceeds 64 bits.
    pub fn end(self) -> Option<u64> {
        self.start.checked_add(self.len)
    }

    /// Whether the two runs overlap. A run whose end exceeds 64 bits extends to 2^64.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let end = |range: Self| range.end().unwrap_or(u64::MAX);
        self.len > 0 && other.len > 0 && self.start < end(other) && other.start < end(self)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {} to {}", self.start, self.start.saturating_add(self.len))
    }
}

/// A contiguous part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// The first byte, counted on the source.
    pub source_offset: u64,
    /// The length in bytes.
    pub length: u64,
}

#[cfg(test)]
mod tests {
    use super::{ByteLen, ByteRange, Lba};

    #[test]
    fn lengths_read_as_people_read_them() {
        let shown = |bytes| ByteLen(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1536), "1.5 KiB");
        assert_eq!(shown(10 << 30), "10 GiB");
        assert_eq!(shown(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn addresses_and_ends_do_not_wrap() {
        assert_eq!(Lba(2048).to_bytes(512), Some(1 << 20));
        assert_eq!(Lba(u64::MAX).to_bytes(512), None);
        assert_eq!(ByteRange::new(u64::MAX, 1).end(), None);
    }

    #[test]
    fn runs_that_only_touch_do_not_overlap() {
        let run = ByteRange::new;
        assert!(run(0, 10).overlaps(run(9, 1)));
        assert!(!run(0, 10).overlaps(run(10, 5)));
        assert!(!run(5, 0).overlaps(run(0, 10)));
        assert!(run(u64::MAX - 1, 10).overlaps(run(u64::MAX - 1, 1)));
    }
}
