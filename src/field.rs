//! Decodes numbers, text and checksums at fixed offsets of on-disk structures. Every function returns `None` if the
//! bytes end before the field does, so that parsers can use `?` and never index out of bounds.

pub(crate) mod ext;

use std::ops::Range;

use crate::shown;

/// The `N` bytes at `at`.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

/// Formats sixteen bytes as a UUID (RFC 9562, section 4); `None` if they are all zero, which means "not set".
pub(crate) fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let raw: [u8; 16] = array(bytes, at)?;
    (raw != [0; 16]).then(|| uuid_text(raw))
}

/// Formats sixteen bytes in the order of a UUID's hex digits.
pub(crate) fn uuid_text(raw: [u8; 16]) -> String {
    let hex = shown::hex(&raw);
    // `hex` is 32 ASCII digits, so each slice is in bounds and on a character boundary.
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether it is a UUID in the form that [`uuid_text`] and all tools print, in letters of either case.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Formats a GUID as stored in GPT: the first three fields are little-endian (UEFI 2.10, appendix A).
pub(crate) fn guid_text(raw: [u8; 16]) -> String {
    let mut swapped = raw;
    swapped[0..4].reverse();
    swapped[4..6].reverse();
    swapped[6..8].reverse();
    uuid_text(swapped)
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), continued from `crc`, without inversion before or after. ext4
/// starts from all ones and keeps the result; XFS and btrfs start from all ones and invert it.
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!crc, bytes)
}

/// The same with the bytes in `blank`, at most four, taken as zero: the checksum field itself. `None` if `bytes` is
/// shorter.
pub(crate) fn crc32c_without(crc: u32, bytes: &[u8], blank: Range<usize>) -> Option<u32> {
    let (before, after) = (bytes.get(..blank.start)?, bytes.get(blank.end..)?);
    Some([before, [0; 4].get(..blank.len())?, after].iter().fold(crc, |crc, part| crc32c(crc, part)))
}

#[cfg(test)]
mod tests {
    use super::{crc32c, guid_text, le32, uuid};

    #[test]
    fn a_truncated_field_is_none() {
        assert_eq!(le32(&[1, 0, 0, 0], 0), Some(1));
        assert_eq!(le32(&[1, 0, 0, 0], 1), None);
        assert_eq!(le32(&[1, 0, 0, 0], usize::MAX), None);
    }

    #[test]
    fn crc32c_gives_the_check_value_of_rfc_3720() {
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn uuids_and_guids_have_their_own_byte_order() {
        let raw = [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
        assert_eq!(guid_text(raw), "0fc63daf-8483-4772-8e79-3d69d8477de4");
        assert_eq!(uuid(&raw, 0).as_deref(), Some("af3dc60f-8384-7247-8e79-3d69d8477de4"));
        assert_eq!(uuid(&[0; 16], 0), None);
    }
}
