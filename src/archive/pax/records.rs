//! Extended headers and their records: POSIX.1-2001, pax(1), "pax Extended Header"; the attribute records of star, GNU tar and
//! libarchive.

use super::block::BLOCK;
use super::ustar::Ustar;
use crate::archive::acl;
use crate::digits::{push_decimal, push_padded};
use crate::entry::{Metadata, Timestamp, Xattr};
use crate::outside::inode_flags::{COMMON, FLAGS, fat};

/// The prefix of volbak's `comment` record, for flags without a name in `SCHILY.fflags`.
pub const FLAGS_COMMENT: &str = "volbak";

/// Adds inode flags and the project id. The common flags go into libarchive's own record: bsdtar sets them, and
/// would fail on others where a filesystem lacks them. The others, and the id, go into a `comment`, which POSIX
/// readers ignore; for an unknown keyword GNU tar prints a warning.
pub(super) fn add_flags(records: &mut Records, metadata: &Metadata) {
    let Metadata { flags, project, .. } = *metadata;
    let set = FLAGS.iter().filter(|(bit, ..)| flags & bit != 0);
    let named: Vec<&str> = set.clone().filter(|(bit, ..)| bit & COMMON != 0).filter_map(|(_, _, name)| *name).collect();
    if !named.is_empty() {
        records.add("SCHILY.fflags", named.join(",").as_bytes());
    }
    let others: String = set.filter(|(bit, ..)| bit & COMMON == 0).map(|(_, letter, _)| letter).collect();
    if project != 0 || !others.is_empty() || flags & fat::KNOWN != 0 {
        let mut text = FLAGS_COMMENT.to_owned();
        if !others.is_empty() {
            text.push_str(" chattr=");
            text.push_str(&others);
        }
        if project != 0 {
            text.push_str(&format!(" project={project}"));
        }
        if flags & fat::KNOWN != 0 {
            text.push_str(&format!(" fat={}", fat::letters(flags)));
        }
        records.add("comment", text.as_bytes());
    }
}

/// Adds attributes and ACLs; returns the names of those that pax cannot represent.
pub(super) fn add_xattrs(records: &mut Records, xattrs: &[Xattr]) -> Vec<Vec<u8>> {
    let mut left_out = Vec::new();
    for xattr in xattrs {
        let acl_key = match xattr.name.as_slice() {
            b"system.posix_acl_access" => Some("SCHILY.acl.access"),
            b"system.posix_acl_default" => Some("SCHILY.acl.default"),
            _ => None,
        };
        if let Some(key) = acl_key {
            match acl::to_text(&xattr.value) {
                Some(text) => records.add(key, text.as_bytes()),
                None => left_out.push(xattr.name.clone()),
            }
            continue;
        }
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in &xattr.name {
            match byte {
                b'%' => key.extend_from_slice(b"%25"),
                b'=' => key.extend_from_slice(b"%3D"),
                other => key.push(*other),
            }
        }
        records.add_bytes(&key, &xattr.value);
    }
    left_out
}

/// An extended header with its records: `LENGTH KEY=VALUE\n`, where LENGTH includes itself.
pub(super) struct Records {
    /// Space for the header block, and the records so far.
    bytes: Vec<u8>,
}

impl Records {
    pub(super) fn new(buffer: Vec<u8>) -> Self {
        let mut bytes = buffer;
        bytes.clear();
        bytes.resize(BLOCK, 0);
        Self { bytes }
    }

    pub(super) fn add(&mut self, key: &str, value: &[u8]) {
        self.add_bytes(key.as_bytes(), value);
    }

    pub(super) fn add_number(&mut self, key: &str, number: u64) {
        let mut value = Vec::new();
        push_decimal(&mut value, number);
        self.add(key, &value);
    }

    fn add_bytes(&mut self, key: &[u8], value: &[u8]) {
        let rest = 1 + key.len() + 1 + value.len() + 1;
        let mut len = rest + 1;
        while len != rest + decimal_digits(len) {
            len = rest + decimal_digits(len);
        }
        push_decimal(&mut self.bytes, len as u64);
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(key);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    /// The header block of type `x`, and the records padded to whole blocks; empty without a record.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        let records_len = bytes.len() - BLOCK;
        if records_len == 0 {
            bytes.clear();
            return bytes;
        }
        let mut ustar = Ustar::new();
        ustar.set_path(b"././@PaxHeader");
        ustar.set_number(100..108, 0o644);
        ustar.set_number(108..116, 0);
        ustar.set_number(116..124, 0);
        ustar.set_number(124..136, records_len as u64);
        ustar.set_number(136..148, 0);
        ustar.block[156] = b'x';
        bytes[..BLOCK].copy_from_slice(&ustar.finish());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Seconds with a fraction; the sign applies to both: -1.5 is a second and a half before 1970.
pub(super) fn decimal(time: Timestamp) -> Vec<u8> {
    let mut text = Vec::with_capacity(32);
    let (seconds, fraction) = match (u64::try_from(time.sec), u64::from(time.nsec)) {
        (Ok(seconds), nsec @ 0..NANOS) => (seconds, nsec),
        // Before 1970 the fraction counts the other way. A damaged inode may have a fraction above one second.
        (_, nsec) => {
            let total = i128::from(time.sec) * i128::from(NANOS) + i128::from(nsec);
            if total < 0 {
                text.push(b'-');
            }
            let magnitude = total.unsigned_abs();
            let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
            (whole(magnitude / u128::from(NANOS)), whole(magnitude % u128::from(NANOS)))
        }
    };
    push_decimal(&mut text, seconds);
    if fraction > 0 {
        text.push(b'.');
        push_padded(&mut text, fraction, 9);
        while text.last() == Some(&b'0') {
            text.pop();
        }
    }
    text
}

/// Nanoseconds per second.
const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::{Records, decimal};
    use crate::entry::Timestamp;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for value_len in 0..1200 {
            let mut records = Records::new(Vec::new());
            records.add("k", &vec![b'v'; value_len]);
            let text = String::from_utf8(records.bytes[512..].to_vec()).unwrap();
            let said: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, text.len());
        }
    }

    #[test]
    fn times_before_1970_have_one_sign() {
        let shown = |sec, nsec| String::from_utf8(decimal(Timestamp { sec, nsec })).unwrap();
        assert_eq!(shown(-1, 0), "-1");
        assert_eq!(shown(-1, 1), "-0.999999999");
        assert_eq!(shown(i64::MIN, 0), "-9223372036854775808");
        assert_eq!(shown(5_000_000_000, 120_000_000), "5000000000.12");
        assert_eq!([shown(0, 1), shown(7, 0), shown(1, 999_999_999)], ["0.000000001", "7", "1.999999999"]);
    }

    #[test]
    fn more_than_a_second_of_nanoseconds_counts_as_seconds() {
        let shown = |sec, nsec| String::from_utf8(decimal(Timestamp { sec, nsec })).unwrap();
        assert_eq!(shown(1, 1_000_000_001), "2.000000001");
        assert_eq!(shown(-1, 1_500_000_000), "0.5");
        assert_eq!(shown(i64::MAX, u32::MAX), "9223372036854775811.294967295");
    }
}
