//! The users and groups that an ACL names, in the kernel's form.

use std::collections::BTreeMap;

/// An ACL in the kernel's form that has each user and group once.
pub(crate) fn merged_acl(mut value: Vec<u8>) -> Vec<u8> {
    if let Some(entries) = acl_entries(&value) {
        put_acl(&mut value, entries);
    }
    value
}

/// Replaces the entries of an ACL: sorted, as the kernel wants them. Two that become one have the rights that both had.
pub(super) fn put_acl(value: &mut Vec<u8>, entries: impl IntoIterator<Item = (u16, u16, u32)>) {
    let mut merged: BTreeMap<(u16, u32), u16> = BTreeMap::new();
    for (tag, permissions, id) in entries {
        merged.entry((tag, id)).and_modify(|other| *other &= permissions).or_insert(permissions);
    }
    value.truncate(4);
    for ((tag, id), permissions) in merged {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
}

pub(super) const ACL_USER: u16 = 0x02;
pub(super) const ACL_GROUP: u16 = 0x08;

/// Tag, permissions and id of each entry of an ACL in the kernel's form (`posix_acl_xattr.h`).
pub(super) fn acl_entries(value: &[u8]) -> Option<Vec<(u16, u16, u32)>> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != 2 || !rest.is_empty() {
        return None;
    }
    let entry = |bytes: &[u8; 8]| {
        let [a, b, c, d, id @ ..] = *bytes;
        (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), u32::from_le_bytes(id))
    };
    Some(entries.iter().map(entry).collect())
}
