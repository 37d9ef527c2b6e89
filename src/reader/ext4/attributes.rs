//! Extended attributes: ext4 layout, "Extended Attributes".

use std::io;

use super::error::{crc32c_without, cut_off, damaged};
use super::inode::{ATTRIBUTES_MAGIC, Inode, Type};
use super::remark::Remark;
use super::volume::Volume;
use crate::entry::Xattr;
use crate::events::Severity;
use crate::field::{crc32c, le16, le32};

/// `struct ext4_xattr_header`: its length.
const BLOCK_HEAD_BYTES: usize = 32;
/// `h_checksum` in that header.
const CHECKSUM_AT: usize = 0x10;
/// The length of `struct ext4_xattr_entry` without the name.
const ENTRY_HEAD_BYTES: usize = 16;

const INDEX_USER: u8 = 1;
const INDEX_ACL_ACCESS: u8 = 2;
const INDEX_ACL_DEFAULT: u8 = 3;

/// Linux' `fs/ext4/acl.h`: the version of a stored ACL.
const STORED_ACL_VERSION: u32 = 1;
/// Linux' `include/uapi/linux/posix_acl_xattr.h`: the version of an ACL as an attribute.
const ACL_VERSION: u32 = 2;
/// `e_id` of an entry without a user or group.
const ACL_NO_ID: u32 = u32::MAX;
/// `e_tag` of named users and named groups, the only entries that store an id.
const ACL_USER: u16 = 0x2;
const ACL_GROUP: u16 = 0x8;

/// All attributes of an inode as the kernel shows them to root, sorted by name.
pub(super) fn read(volume: &Volume, inode: &Inode, remarks: &mut Vec<Remark>) -> io::Result<Vec<Xattr>> {
    let mut found = Vec::new();
    if let Some(own) = &inode.own_attributes {
        // Value offsets count from the first entry.
        let entries = own.get(4..).ok_or_else(cut_off)?;
        collect(entries, 0, inode, &mut found, remarks)?;
    }
    if inode.attribute_block != 0 {
        let block = volume.block(inode.attribute_block)?;
        if le32(&block, 0) != Some(ATTRIBUTES_MAGIC) {
            return Err(damaged("the block of its attributes is invalid"));
        }
        if let Some(seed) = volume.superblock.checksum_seed {
            let numbered = crc32c(seed, &inode.attribute_block.to_le_bytes());
            let crc = crc32c_without(numbered, &block, CHECKSUM_AT..CHECKSUM_AT + 4)?;
            if le32(&block, CHECKSUM_AT) != Some(crc) {
                return Err(damaged("the checksum of its attributes is wrong"));
            }
        }
        collect(&block, BLOCK_HEAD_BYTES, inode, &mut found, remarks)?;
    }
    // Attributes in the inode come first and hide those of the same name in the block.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|later, first| later.name == first.name);
    Ok(found)
}

/// Adds the attributes whose entries start at `at` in `bytes`. Value offsets count from the start of `bytes`.
fn collect(
    bytes: &[u8],
    at: usize,
    inode: &Inode,
    found: &mut Vec<Xattr>,
    remarks: &mut Vec<Remark>,
) -> io::Result<()> {
    let mut at = at;
    // The list ends with four zero bytes, or where the space ends.
    while le32(bytes, at).is_some_and(|first| first != 0) {
        let (name_len, index) = (usize::from(bytes[at]), bytes[at + 1]);
        let name_at = at + ENTRY_HEAD_BYTES;
        let name = bytes.get(name_at..name_at + name_len).ok_or_else(cut_off)?;
        let has_no_name = matches!(index, INDEX_ACL_ACCESS | INDEX_ACL_DEFAULT);
        if name.contains(&0) || name.is_empty() != has_no_name {
            return Err(damaged("an attribute's name is invalid"));
        }
        let value_at = usize::from(le16(bytes, at + 2).ok_or_else(cut_off)?);
        if le32(bytes, at + 4) != Some(0) {
            return Err(damaged("one of its attributes lies in an inode, which this filesystem does not know"));
        }
        let value_len = le32(bytes, at + 8).and_then(|len| usize::try_from(len).ok()).ok_or_else(cut_off)?;
        let value_end = value_at.checked_add(value_len).ok_or_else(cut_off)?;
        let value = bytes.get(value_at..value_end).ok_or_else(cut_off)?;
        let hash = le32(bytes, at + 12).ok_or_else(cut_off)?;
        // Attributes in the inode may have no hash.
        if hash != 0 && !hashes(name, value).contains(&hash) {
            let what = format!("the hash of its extended attribute {} is wrong", crate::shown::bytes(name));
            remarks.push((Severity::Error, what));
        }
        if let Some(xattr) = shown(index, name, value, inode)? {
            found.push(xattr);
        }
        at = (name_at + name_len).next_multiple_of(4);
    }
    Ok(())
}

/// Linux' `ext4_xattr_hash_entry`, once with unsigned and once with signed bytes of the name: some architectures
/// used the latter.
fn hashes(name: &[u8], value: &[u8]) -> [u32; 2] {
    let of_value = |hash: u32| {
        value.chunks(4).fold(hash, |hash: u32, word| {
            let mut padded = [0; 4];
            padded[..word.len()].copy_from_slice(word);
            hash.rotate_left(16) ^ u32::from_le_bytes(padded)
        })
    };
    let of_name = |widen: fn(u8) -> u32| name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ widen(*byte));
    [of_value(of_name(u32::from)), of_value(of_name(|byte| i32::from(byte.cast_signed()).cast_unsigned()))]
}

/// The attribute as the kernel shows it; `None` for one that the kernel hides.
fn shown(index: u8, name: &[u8], value: &[u8], inode: &Inode) -> io::Result<Option<Xattr>> {
    let prefix: &[u8] = match index {
        // The kernel does not allow `user.` attributes on devices and links, since any user could set them
        // there.
        INDEX_USER if !matches!(inode.file_type(), Some(Type::File | Type::Directory)) => return Ok(None),
        INDEX_USER => b"user.",
        INDEX_ACL_ACCESS | INDEX_ACL_DEFAULT if inode.file_type() == Some(Type::Symlink) => return Ok(None),
        INDEX_ACL_ACCESS | INDEX_ACL_DEFAULT => {
            let name: &[u8] =
                if index == INDEX_ACL_ACCESS { b"system.posix_acl_access" } else { b"system.posix_acl_default" };
            return Ok(Some(Xattr { name: name.to_vec(), value: acl(value)? }));
        }
        4 => b"trusted.",
        6 => b"security.",
        10 => b"gnu.",
        _ => return Ok(None),
    };
    Ok(Some(Xattr { name: [prefix, name].concat(), value: value.to_vec() }))
}

/// Converts an ACL from the stored form, where only named entries have an id, to the form of the attribute, where
/// each entry has one.
fn acl(stored: &[u8]) -> io::Result<Vec<u8>> {
    if le32(stored, 0) != Some(STORED_ACL_VERSION) {
        return Err(damaged("an ACL is of an unknown version"));
    }
    let mut acl = ACL_VERSION.to_le_bytes().to_vec();
    let mut rest = &stored[4..];
    while !rest.is_empty() {
        let (tag, head) = le16(rest, 0).zip(rest.get(..4)).ok_or_else(cut_off)?;
        acl.extend_from_slice(head);
        let has_id = matches!(tag, ACL_USER | ACL_GROUP);
        let id = if has_id { le32(rest, 4).ok_or_else(cut_off)? } else { ACL_NO_ID };
        acl.extend_from_slice(&id.to_le_bytes());
        rest = &rest[if has_id { 8 } else { 4 }..];
    }
    Ok(acl)
}

#[cfg(test)]
mod tests {
    use super::acl;

    #[test]
    fn a_stored_acl_gets_the_numbers_that_it_leaves_out() {
        // Version 1; the owner; user 1000; the mask.
        let stored = [&[1, 0, 0, 0][..], &[1, 0, 6, 0], &[2, 0, 4, 0, 0xE8, 3, 0, 0], &[0x10, 0, 4, 0]].concat();
        let shown = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            &[2, 0, 4, 0, 0xE8, 3, 0, 0],
            &[0x10, 0, 4, 0, 0xFF, 0xFF, 0xFF, 0xFF],
        ];
        assert_eq!(acl(&stored).unwrap(), shown.concat());
        assert!(acl(&stored[..stored.len() - 1]).is_err());
        assert!(acl(&[2, 0, 0, 0]).is_err());
    }
}
