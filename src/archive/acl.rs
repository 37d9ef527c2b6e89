//! POSIX ACLs: converts the kernel's form to the text in pax archives, and back.

use std::fmt::Write as _;

/// `ACL_EA_VERSION` of the kernel's `posix_acl_xattr.h`.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// The text form (acl(5), long text form, one line, numeric ids) of the value of `system.posix_acl_access` or
/// `system.posix_acl_default`, as in `SCHILY.acl.access` and `.default`. `None` if the value is invalid.
///
/// Source: the kernel's `include/uapi/linux/posix_acl_xattr.h`: a 32-bit version, then entries of 16-bit tag,
/// 16-bit permissions and 32-bit id, all little-endian.
pub fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<HEADER_BYTES>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY_BYTES != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        if permissions > 7 {
            return None;
        }
        if !text.is_empty() {
            text.push(',');
        }
        let written = match tag {
            0x01 => write!(text, "user::"),
            0x02 => write!(text, "user:{id}:"),
            0x04 => write!(text, "group::"),
            0x08 => write!(text, "group:{id}:"),
            0x10 => write!(text, "mask::"),
            0x20 => write!(text, "other::"),
            _ => return None,
        };
        // Writing to a String does not fail.
        written.ok()?;
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if permissions & bit == 0 { '-' } else { letter });
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The maximum number of entries accepted from an archive: the kernel limits a value to 64 KiB, and filesystems to
/// less.
const MAX_ENTRIES: usize = 8000;

/// The kernel's form of an ACL in text. Accepts the result of [`to_text`] and the forms of other tars (one entry
/// per line, one-letter tags, a numeric id after a name, comments). `None` if the text is no ACL, has a name
/// without a number, or more than 8,000 entries.
pub fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or("").trim();
        if entry.is_empty() {
            continue;
        }
        entries.push(parse_entry(entry)?);
        if entries.len() > MAX_ENTRIES {
            return None;
        }
    }
    if entries.is_empty() {
        return None;
    }
    // The kernel requires the order of tags.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Some(value)
}

/// The first user or group name without a number in an ACL's text. GNU tar writes such ACLs unless run with
/// `--numeric-owner`.
pub fn name_without_number(text: &[u8]) -> Option<Vec<u8>> {
    let has_number = |fields: &[&[u8]]| {
        let number = fields.get(3).unwrap_or(&fields[1]);
        number.trim_ascii().iter().all(u8::is_ascii_digit)
    };
    text.split(|byte| matches!(byte, b',' | b'\n'))
        .map(|entry| entry.split(|byte| *byte == b':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 3 && !has_number(fields))
        .map(|fields| fields[1].trim_ascii().to_vec())
}

/// `tag:qualifier:permissions`, and star's fourth field with the numeric id.
fn parse_entry(entry: &str) -> Option<(u16, u32, u16)> {
    let mut fields = entry.split(':').map(str::trim);
    let (tag, qualifier) = (fields.next()?, fields.next()?);
    let (qualifier, letters) = match fields.next() {
        Some(letters) => (qualifier, letters),
        // Solaris omits the qualifier of these tags.
        None if matches!(tag, "mask" | "m" | "other" | "o") => ("", qualifier),
        None => return None,
    };
    let number = fields.next();
    if fields.next().is_some() {
        return None;
    }
    let named = !qualifier.is_empty();
    let tag: u16 = match (tag, named) {
        ("user" | "u", false) => 0x01,
        ("user" | "u", true) => 0x02,
        ("group" | "g", false) => 0x04,
        ("group" | "g", true) => 0x08,
        ("mask" | "m", false) => 0x10,
        ("other" | "o", false) => 0x20,
        _ => return None,
    };
    let id = if named { number.unwrap_or(qualifier).parse().ok()? } else { u32::MAX };
    let mut permissions = 0;
    for letter in letters.chars() {
        permissions |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    Some((tag, id, permissions))
}

#[cfg(test)]
mod tests {
    use super::{from_text, to_text};

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn each_kind_of_entry_has_its_text() {
        let none = u32::MAX;
        let value = acl(&[(1, 7, none), (2, 6, 3_000_000), (4, 5, none), (8, 1, 5), (0x10, 7, none), (0x20, 0, none)]);
        assert_eq!(
            to_text(&value).as_deref(),
            Some("user::rwx,user:3000000:rw-,group::r-x,group:5:--x,mask::rwx,other::---")
        );
    }

    #[test]
    fn text_becomes_what_it_was_made_of() {
        let none = u32::MAX;
        let value = acl(&[(1, 7, none), (2, 6, 3_000_000), (4, 5, none), (8, 1, 5), (0x10, 7, none), (0x20, 0, none)]);
        assert_eq!(from_text(to_text(&value).unwrap().as_bytes()).as_ref(), Some(&value));
        let other_tar = b"# by star\nu::rwx\ng:5:x:5\nuser:alice:rw-:3000000\ngroup::r-x\nm::rwx\no::---\n";
        assert_eq!(from_text(other_tar), Some(value));
        let wrong: [&[u8]; 7] = [b"", b"user:alice:rw-", b"user::q", b"mask:1:r", b"x::r", b"user:r", b"u:1:r:1:1"];
        for wrong in wrong {
            assert_eq!(from_text(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn anything_else_is_not_an_acl() {
        let good = acl(&[(1, 7, 0)]);
        assert!(to_text(&good).is_some());
        assert_eq!(to_text(&good[..good.len() - 1]), None);
        assert_eq!(to_text(&good[..4]), None);
        assert_eq!(to_text(&acl(&[(3, 7, 0)])), None);
        assert_eq!(to_text(&acl(&[(1, 8, 0)])), None);
        assert_eq!(to_text(&[3, 0, 0, 0]), None);
    }
}
