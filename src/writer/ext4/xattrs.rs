//! Extended attributes: ext4 layout, "Extended Attributes". They are put into the inode, and what does not fit there
//! into one block.

use rustix::io::Errno;

use super::bytes::{low16, put};
use super::volume::Volume;
use crate::field::crc32c_without;

/// `EXT4_XATTR_MAGIC`.
const MAGIC: u32 = 0xEA02_0000;
const ENTRY_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 32;
/// The end of the entries.
const END_BYTES: usize = 4;
/// The maximum length of a name without its prefix.
const NAME_MAX: usize = 255;
/// `e_name_index`, and the prefix that it stands for. The two ACLs are whole names.
const PREFIXES: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const CAPABILITIES: &[u8] = b"security.capability";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    index: u8,
    name_len: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    fn entry_bytes(&self) -> usize {
        ENTRY_BYTES + self.name.len().next_multiple_of(4)
    }

    fn bytes(&self) -> usize {
        self.entry_bytes() + self.value.len().next_multiple_of(4)
    }

    /// `ext4_xattr_hash_entry`.
    fn hash(&self) -> u32 {
        let of_name = self.name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(of_name, |hash, word| {
            let mut padded = [0; 4];
            padded[..word.len()].copy_from_slice(word);
            hash.rotate_left(16) ^ u32::from_le_bytes(padded)
        })
    }
}

/// The attributes of an inode, in the order in which they were set.
#[derive(Clone, Debug, Default)]
pub(super) struct Xattrs {
    all: Vec<Attribute>,
}

/// Where attributes are put.
pub(super) struct Placed {
    /// The bytes behind an inode's fields; empty without any.
    pub(super) in_inode: Vec<u8>,
    /// The content of the block, without its checksum; `None` if none is needed.
    pub(super) block: Option<Vec<u8>>,
}

impl Xattrs {
    /// Sets an attribute that is no ACL.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let known = PREFIXES.iter().find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)));
        let (index, rest) = known.ok_or(Errno::OPNOTSUPP)?;
        if rest.is_empty() {
            return Err(Errno::INVAL);
        }
        if rest.len() > NAME_MAX || name.contains(&0) {
            return Err(Errno::RANGE);
        }
        if name == CAPABILITIES && !has_capabilities(value) {
            return Err(Errno::INVAL);
        }
        self.put(Attribute { index, name_len: rest.len(), name: rest.to_vec(), value: value.to_vec() });
        Ok(())
    }

    fn put(&mut self, attribute: Attribute) {
        self.all.retain(|other| (other.index, &other.name) != (attribute.index, &attribute.name));
        self.all.push(attribute);
    }

    pub(super) fn remove_acl(&mut self, is_default: bool) {
        let index = if is_default { ACL_DEFAULT } else { ACL_ACCESS };
        self.all.retain(|other| other.index != index);
    }

    pub(super) fn set_acl(&mut self, is_default: bool, value: Vec<u8>) {
        let index = if is_default { ACL_DEFAULT } else { ACL_ACCESS };
        self.put(Attribute { index, name_len: 0, name: Vec::new(), value });
    }

    /// Puts them where there is room, so that all of them have some if that is possible. Also returns the names of those
    /// for which there is none.
    pub(super) fn place(&self, has_block: bool, volume: &Volume) -> (Placed, Vec<Vec<u8>>) {
        let room = volume.facts.inode_bytes.saturating_sub(128 + usize::from(volume.extra_bytes));
        let mut inode_room = if volume.extra_bytes > 0 { room.saturating_sub(4 + END_BYTES) } else { 0 };
        let mut block_room = if has_block { volume.block_bytes - BLOCK_HEADER_BYTES - END_BYTES } else { 0 };
        let (mut inode, mut block, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let lengths: Vec<usize> = self.all.iter().map(Attribute::bytes).collect();
        let chosen = choose(&lengths, inode_room, block_room);
        for (number, (attribute, bytes)) in self.all.iter().zip(lengths).enumerate() {
            let may_be_in_inode = chosen.as_ref().is_none_or(|chosen| chosen[number]);
            if bytes <= inode_room && may_be_in_inode {
                inode_room -= bytes;
                inode.push(attribute);
            } else if bytes <= block_room {
                block_room -= bytes;
                block.push(attribute);
            } else {
                left.push(full_name(attribute));
            }
        }
        let in_inode = if inode.is_empty() { Vec::new() } else { in_inode(&inode, room) };
        block.sort_unstable();
        let block = (!block.is_empty()).then(|| in_block(&block, volume.block_bytes));
        (Placed { in_inode, block }, left)
    }
}

/// Which attributes of these lengths, which are multiples of four, the inode gets so that the block has room for the
/// others; `None` if any order will do, or none.
fn choose(lengths: &[usize], inode_room: usize, block_room: usize) -> Option<Vec<bool>> {
    let all: usize = lengths.iter().sum();
    if all <= inode_room || all <= block_room || all > inode_room + block_room {
        return None;
    }
    // For each sum, in units of four bytes, the last of the attributes that make it.
    let mut made_by: Vec<Option<usize>> = vec![None; inode_room / 4 + 1];
    for (number, length) in lengths.iter().enumerate() {
        let units = length / 4;
        for sum in (units..made_by.len()).rev() {
            let rest = sum - units;
            if made_by[sum].is_none() && (rest == 0 || made_by[rest].is_some()) {
                made_by[sum] = Some(number);
            }
        }
    }
    let mut sum = made_by.iter().rposition(Option::is_some)?;
    if all - 4 * sum > block_room {
        return None;
    }
    let mut chosen = vec![false; lengths.len()];
    while let Some(number) = made_by[sum].filter(|_| sum > 0) {
        chosen[number] = true;
        sum -= lengths[number] / 4;
    }
    Some(chosen)
}

fn full_name(attribute: &Attribute) -> Vec<u8> {
    let prefix: &[u8] = match attribute.index {
        ACL_ACCESS => b"system.posix_acl_access",
        ACL_DEFAULT => b"system.posix_acl_default",
        index => PREFIXES.iter().find(|(is, _)| *is == index).map_or(b"", |(_, prefix)| *prefix),
    };
    [prefix, attribute.name.as_slice()].concat()
}

/// The kernel's `validheader` of capabilities: revision 2 with 20 bytes, revision 3 with 24.
fn has_capabilities(value: &[u8]) -> bool {
    let revision = value.first_chunk().map(|magic| u32::from_le_bytes(*magic) & 0xFF00_0000);
    matches!((revision, value.len()), (Some(0x0200_0000), 20) | (Some(0x0300_0000), 24))
}

/// Fills entries from `entries_at`, and values from the end. Offsets of values count from `offsets_from`.
fn fill(bytes: &mut [u8], attributes: &[&Attribute], entries_at: usize, offsets_from: usize, has_hash: bool) {
    let (mut at, mut value_at) = (entries_at, bytes.len());
    for attribute in attributes {
        let value = &attribute.value;
        value_at -= value.len().next_multiple_of(4);
        bytes[at] = u8::try_from(attribute.name.len()).unwrap_or(0);
        bytes[at + 1] = attribute.index;
        if !value.is_empty() {
            put(bytes, at + 2, low16(u32::try_from(value_at - offsets_from).unwrap_or(0)));
        }
        put(bytes, at + 8, u32::try_from(value.len()).unwrap_or(0).to_le_bytes());
        if has_hash {
            put(bytes, at + 12, attribute.hash().to_le_bytes());
        }
        let name_at = at + ENTRY_BYTES;
        bytes[name_at..name_at + attribute.name.len()].copy_from_slice(&attribute.name);
        bytes[value_at..value_at + value.len()].copy_from_slice(value);
        at += attribute.entry_bytes();
    }
}

fn in_inode(attributes: &[&Attribute], room: usize) -> Vec<u8> {
    let mut bytes = vec![0; room];
    put(&mut bytes, 0, MAGIC.to_le_bytes());
    // The kernel leaves hashes in inodes zero.
    fill(&mut bytes, attributes, 4, 4, false);
    bytes
}

fn in_block(attributes: &[&Attribute], block_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; block_bytes];
    put(&mut bytes, 0, MAGIC.to_le_bytes());
    put(&mut bytes, 4, 1_u32.to_le_bytes());
    put(&mut bytes, 8, 1_u32.to_le_bytes());
    // `ext4_xattr_rehash`: 0 means that the block is not shared.
    let hashes: Vec<u32> = attributes.iter().map(|attribute| attribute.hash()).collect();
    let hash = hashes.iter().fold(0_u32, |hash, entry| hash.rotate_left(16) ^ entry);
    put(&mut bytes, 12, if hashes.contains(&0) { 0 } else { hash }.to_le_bytes());
    fill(&mut bytes, attributes, BLOCK_HEADER_BYTES, 0, true);
    bytes
}

/// Sets how many inodes share the block, and its checksum at this place.
pub(super) fn seal(block: &mut [u8], number: u64, inodes: u32, volume: &Volume) {
    put(block, 4, inodes.to_le_bytes());
    if let Some(seed) = volume.seed {
        let seed = crate::field::crc32c(seed, &number.to_le_bytes());
        let checksum = crc32c_without(seed, block, 16..20).unwrap_or(0);
        put(block, 16, checksum.to_le_bytes());
    }
}
