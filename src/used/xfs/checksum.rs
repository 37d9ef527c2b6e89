//! The checksums of version 5.

use crate::field::{crc32c_without, le32};

/// Whether the CRC-32C at `at` is that of the bytes with zeros in its place.
pub(super) fn has_right_checksum(bytes: &[u8], at: usize) -> bool {
    let crc = crc32c_without(!0, bytes, at..at + 4).map(|crc| !crc);
    crc.is_some() && crc == le32(bytes, at)
}
