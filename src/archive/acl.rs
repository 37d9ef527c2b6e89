//! POSIX ACLs: from the kernel's form to the text that pax archives hold.

use std::fmt::Write as _;

/// `ACL_EA_VERSION` of the kernel's `posix_acl_xattr.h`.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// The text form (acl(5), long text form, one line, numeric ids) of the value of `system.posix_acl_access` or
/// `system.posix_acl_default`, as `SCHILY.acl.access` and `.default` hold it. `None` when it is not such a value.
///
/// Source: the kernel's `include/uapi/linux/posix_acl_xattr.h`: a 32-bit version, then entries of 16-bit tag, 16-bit
/// permissions and 32-bit id, all little-endian.
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

#[cfg(test)]
mod tests {
    use super::to_text;

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
