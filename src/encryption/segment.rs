//! The header of a segment: an age file whose first stanza has the lengths of what is inside.
//!
//! Source: the age format, <https://c2sp.org/age>, "Header" and "Payload". Every age implementation ignores stanzas whose
//! type it does not know. A segment is found, and its length is known, without a key.

use crate::digits::parse_decimal;

/// The first line of an age file, and the start of the first stanza.
pub(crate) const GZIP_SIGNATURE: &[u8] = b"age-encryption.org/v1\n-> volbak-gzip ";
/// The same around a Zstandard frame.
pub(crate) const ZSTD_SIGNATURE: &[u8] = b"age-encryption.org/v1\n-> volbak-zstd ";
/// The codec's name in the first of them.
pub(crate) const GZIP_NAME: &str = "gzip";
/// The stanza's type, before the codec's name.
pub(crate) const STANZA: &str = "volbak-";
/// A header is shorter. A stanza of a recipient has about 100 bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 4096;
/// More recipients would make a header longer.
pub(crate) const MAX_RECIPIENTS: usize = 16;
/// The nonce behind the header.
const NONCE_BYTES: u64 = 16;
/// The payload is cut into chunks, and each gets a tag.
const CHUNK_BYTES: u64 = 64 << 10;
const TAG_BYTES: u64 = 16;
/// The shortest header: the version, one stanza of a recipient, and the MAC.
pub(crate) const MIN_BYTES: usize = 150;

/// The longest segment around a member of this length: a nonce of 16 bytes, and as much for each begun 64 KiB.
pub(crate) const fn longest(member_bytes: usize) -> usize {
    MAX_HEADER_BYTES + 16 + 16 * (member_bytes / (64 << 10) + 1) + member_bytes
}

/// The lengths of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit is the last word of each name")]
pub(crate) struct SegmentFrame {
    /// The whole age file.
    pub(crate) segment_bytes: u64,
    /// The member in it.
    pub(crate) member_bytes: u64,
    /// The data in the member.
    pub(crate) data_bytes: u64,
}

/// The length of an age file behind its header for this much plaintext.
pub(crate) fn payload_bytes(plain_bytes: u64) -> u64 {
    NONCE_BYTES + plain_bytes + TAG_BYTES * plain_bytes.div_ceil(CHUNK_BYTES).max(1)
}

/// Parses the header of a segment with this signature. `None` if the bytes do not start with one that is complete.
pub(crate) fn frame(bytes: &[u8], signature: &[u8]) -> Option<SegmentFrame> {
    let rest = bytes.strip_prefix(signature)?;
    let line = &rest[..memchr::memchr(b'\n', rest.get(..40.min(rest.len()))?)?];
    let (member, data) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let (member_bytes, data_bytes) = (number(member)?, number(data)?);
    let header = bytes.get(..MAX_HEADER_BYTES.min(bytes.len()))?;
    let mac_at = memchr::memmem::find(header, b"\n--- ")? + 1;
    let header_bytes = mac_at + memchr::memchr(b'\n', &header[mac_at..])? + 1;
    let segment_bytes = header_bytes as u64 + payload_bytes(member_bytes);
    Some(SegmentFrame { segment_bytes, member_bytes, data_bytes })
}

/// A length of at most 8 digits, written in only one way.
fn number(text: &str) -> Option<u64> {
    if text.len() > 8 { None } else { parse_decimal(text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::{GZIP_SIGNATURE, ZSTD_SIGNATURE, frame};

    fn header(lengths: &str) -> Vec<u8> {
        [GZIP_SIGNATURE, lengths.as_bytes(), b"\n\n-> X25519 abc\nbody\n--- mac\n"].concat()
    }

    #[test]
    fn lengths_come_from_the_first_stanza() {
        let bytes = header("70000 512");
        let found = frame(&bytes, GZIP_SIGNATURE).unwrap();
        assert_eq!((found.member_bytes, found.data_bytes), (70_000, 512));
        assert_eq!(found.segment_bytes, bytes.len() as u64 + 16 + 70_000 + 2 * 16);
        assert_eq!(frame(&bytes, ZSTD_SIGNATURE), None);
        for cut in 0..bytes.len() {
            assert_eq!(frame(&bytes[..cut], GZIP_SIGNATURE), None, "{cut}");
        }
    }

    #[test]
    fn other_lengths_are_no_segment() {
        for lengths in ["", " ", "1", "1 ", " 1", "01 1", "+1 1", "1 1 1", "123456789 1", "1 123456789", "a b"] {
            assert_eq!(frame(&header(lengths), GZIP_SIGNATURE), None, "{lengths}");
        }
        let endless = [GZIP_SIGNATURE, b"1 1\n\n", &[b'a'; 5000], b"\n--- mac\n"].concat();
        assert_eq!(frame(&endless, GZIP_SIGNATURE), None, "a header has a limit");
    }
}
