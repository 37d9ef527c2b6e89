//! Formats of images, and how they are named.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk, with holes for zeros.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl Format {
    /// The format that a file's name says, by its ending.
    pub fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "qcow2" | "qcow" => Some(Self::Qcow2),
            "raw" | "img" => Some(Self::Raw),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        })
    }
}

/// The version of the qcow2 format, by the name that qemu-img gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// Version 2, `compat=0.10`: what every program reads.
    V2,
    /// Version 3, `compat=1.1`.
    #[default]
    V3,
}

impl fmt::Display for Compat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "0.10",
            Self::V3 => "1.1",
        })
    }
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate, which every program reads.
    Zlib,
    /// Zstandard: QEMU 5.1, in version 3.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        })
    }
}

/// How large a cluster is: a power of two from 512 bytes to 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterBits(u32);

impl ClusterBits {
    /// The smallest: 512 bytes.
    pub const MIN: Self = Self(9);
    /// The largest: 2 MiB.
    pub const MAX: Self = Self(21);

    /// A cluster of two to this power bytes, where there is one.
    pub fn new(bits: u32) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&bits).then_some(Self(bits))
    }

    /// A cluster of this number of bytes, where there is one.
    pub fn of_bytes(bytes: u64) -> Option<Self> {
        bytes.is_power_of_two().then(|| Self::new(bytes.trailing_zeros()))?
    }

    /// The power.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        1 << self.0
    }

    /// The number of bytes, for buffers.
    pub(crate) fn len(self) -> usize {
        1 << self.0
    }
}

/// As qemu-img has it: 64 KiB.
impl Default for ClusterBits {
    fn default() -> Self {
        Self(16)
    }
}

/// The text is no size of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a power of two from 512 to 2M, such as 64K")]
pub struct BadClusterSize;

impl FromStr for ClusterBits {
    type Err = BadClusterSize;

    fn from_str(text: &str) -> Result<Self, BadClusterSize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            _ => return Err(BadClusterSize),
        };
        let number: u64 = number.parse().map_err(|_| BadClusterSize)?;
        number.checked_mul(1 << shift).and_then(Self::of_bytes).ok_or(BadClusterSize)
    }
}

/// How a qcow2 image is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Qcow2Options {
    /// The version.
    pub compat: Compat,
    /// The size of its clusters.
    pub cluster: ClusterBits,
    /// Whether and how clusters are compressed.
    pub compression: Option<Compression>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ClusterBits, Format};

    #[test]
    fn clusters_have_the_sizes_that_the_format_has() {
        let read = |text: &str| text.parse::<ClusterBits>().ok().map(ClusterBits::bytes);
        assert_eq!(read("512"), Some(512));
        assert_eq!(read("64K"), Some(65536));
        assert_eq!(read("2M"), Some(2 << 20));
        assert_eq!(read("2MiB"), Some(2 << 20));
        for bad in ["", "K", "256", "4M", "65535", "1G", "-1", "99999999999999999999", "18446744073709551615M"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_ending_says_the_format() {
        let of = |name: &str| Format::of_name(Path::new(name));
        assert_eq!(of("/nfs/a.qcow2"), Some(Format::Qcow2));
        assert_eq!(of("a.IMG"), Some(Format::Raw));
        assert_eq!(of("a.vmdk"), None);
        assert_eq!(of("qcow2"), None);
    }
}
