//! Inodes: ext4 layout, "Index Nodes".

use std::io;

use super::error::{cut_off, damaged};
use super::volume::Volume;
use crate::entry::{DeviceNumber, Metadata, Timestamp};
use crate::field::{array, crc32c, le16, le32};
use crate::outside::inode_flags::KEPT;

/// Inode number of the root directory.
pub(super) const ROOT: u32 = 2;
/// The length of the fields that every inode has. In longer inodes `i_extra_isize` says how much more is used.
const PLAIN_BYTES: usize = 128;
/// The default inode size.
const USUAL_BYTES: usize = 256;

/// Magic number of extended attributes, in an inode and in a block.
pub(super) const ATTRIBUTES_MAGIC: u32 = 0xEA02_0000;

/// The file type in `i_mode`.
const TYPE_MASK: u16 = 0xF000;
const TYPE_DIRECTORY: u16 = 0x4000;

/// `i_flags`.
const FLAG_ENCRYPT: u32 = 0x800;
const FLAG_INDEX: u32 = 0x1000;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_VERITY: u32 = 0x10_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;

/// The file type in `i_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// An inode in use.
pub struct Inode {
    pub(super) number: u32,
    mode: u16,
    uid: u32,
    gid: u32,
    pub(super) size: u64,
    nlink: u16,
    mtime: Timestamp,
    ctime: Timestamp,
    /// Allocated sectors of 512 bytes, attributes included.
    pub(super) sectors: u64,
    flags: u32,
    /// `i_projid`.
    project: u32,
    /// `i_generation`.
    generation: u32,
    /// Seed of the filesystem's checksums; `None` without checksums.
    volume_seed: Option<u32>,
    /// `i_block`: the root of the block map, or a short symbolic link.
    pub(super) map: [u8; 60],
    /// The block of its attributes, or 0.
    pub(super) attribute_block: u64,
    /// The attribute area inside the inode, with its magic number.
    pub(super) own_attributes: Option<Box<[u8]>>,
    /// `i_dtime`: the deletion time, or the next orphan's inode number; usually 0.
    pub(super) dtime: u32,
    /// The directory in which a directory was found; 0 if unknown.
    pub(super) parent: u32,
}

impl Inode {
    /// Reads inode `number`. An inode that is not in use is an error.
    pub(super) fn read(volume: &Volume, number: u32) -> io::Result<Self> {
        let superblock = &volume.superblock;
        if number != ROOT && number != superblock.journal_inode && number < superblock.first_inode {
            return Err(damaged(format!("inode {number} is not for files")));
        }
        let (block, at) = place(volume, number)?;
        let block = volume.block(block)?;
        let raw = block.get(at..at + superblock.inode_bytes).ok_or_else(cut_off)?;
        Self::parse(volume, number, raw)
    }

    /// Reads an inode of the filesystem itself, which may have a reserved number.
    pub(super) fn read_own(volume: &Volume, number: u32) -> io::Result<Self> {
        let (block, at) = place(volume, number)?;
        let block = volume.block(block)?;
        let raw = block.get(at..at + volume.superblock.inode_bytes).ok_or_else(cut_off)?;
        Self::parse(volume, number, raw)
    }

    fn parse(volume: &Volume, number: u32, raw: &[u8]) -> io::Result<Self> {
        let superblock = &volume.superblock;
        let word = |at: usize| le32(raw, at).ok_or_else(cut_off);
        let half = |at: usize| le16(raw, at).ok_or_else(cut_off);
        let wrong = |what: &str| Err(damaged(format!("inode {number} is damaged: {what}")));
        // `i_extra_isize`: how much is used after the first 128 bytes.
        let extra = if raw.len() > PLAIN_BYTES { usize::from(half(0x80)?) } else { 0 };
        if extra % 4 != 0 || PLAIN_BYTES + extra > raw.len() {
            return wrong("its length makes no sense");
        }
        let has = |field_end: usize| field_end <= PLAIN_BYTES + extra;
        let generation = word(0x64)?;
        if let Some(seed) = superblock.checksum_seed {
            // Only inodes that are long enough have the upper half of the checksum.
            let high = if has(0x84) { Some(half(0x82)?) } else { None };
            let crc = checksum(seed, number, generation, raw, high.is_some())?;
            let (crc_low, crc_high) = (crc & 0xFFFF, crc >> 16);
            if u32::from(half(0x7C)?) != crc_low || high.is_some_and(|high| u32::from(high) != crc_high) {
                return wrong("its checksum is wrong");
            }
        }
        let flags = word(0x20)?;
        if flags & FLAG_INLINE_DATA != 0 || (flags & FLAG_ENCRYPT != 0 && !superblock.has_encryption) {
            return wrong("it is encrypted or has its data inline, which this filesystem does not know");
        }
        let (mode, nlink) = (half(0)?, half(0x1A)?);
        if nlink == 0 {
            return wrong("it is free, and something leads to it");
        }
        let has_high_size =
            mode & TYPE_MASK == 0x8000 || (mode & TYPE_MASK == TYPE_DIRECTORY && superblock.has_large_directories);
        let size_high = if has_high_size { u64::from(word(0x6C)?) } else { 0 };
        let size = size_high << 32 | u64::from(word(0x4)?);
        if size > superblock.max_size(flags & FLAG_EXTENTS != 0) {
            return wrong("its size is more than its map could hold");
        }
        let mut sectors = u64::from(word(0x1C)?);
        if superblock.has_huge_files {
            sectors |= u64::from(half(0x74)?) << 32;
            if flags & FLAG_HUGE_FILE != 0 {
                sectors = sectors.saturating_mul(superblock.block_bytes / 512);
            }
        }
        let time = |at: usize, extra_at: usize| -> io::Result<Timestamp> {
            let extra = if has(extra_at + 4) { word(extra_at)? } else { 0 };
            // 32 signed bits of seconds, two epoch bits above them, and 30 bits of nanoseconds.
            let sec = i64::from(word(at)?.cast_signed()) + (i64::from(extra & 3) << 32);
            Ok(Timestamp { sec, nsec: (extra >> 2).min(999_999_999) })
        };
        let attributes_at = PLAIN_BYTES + extra;
        let has_attributes = extra > 0 && le32(raw, attributes_at) == Some(ATTRIBUTES_MAGIC);
        Ok(Self {
            number,
            mode,
            uid: u32::from(half(0x78)?) << 16 | u32::from(half(0x2)?),
            gid: u32::from(half(0x7A)?) << 16 | u32::from(half(0x18)?),
            size,
            nlink,
            mtime: time(0x10, 0x88)?,
            ctime: time(0xC, 0x84)?,
            sectors,
            flags,
            project: if superblock.has_projects && has(0xA0) { word(0x9C)? } else { 0 },
            generation,
            volume_seed: superblock.checksum_seed,
            map: array(raw, 0x28).ok_or_else(cut_off)?,
            attribute_block: if superblock.has_64_bits { u64::from(half(0x76)?) << 32 } else { 0 }
                | u64::from(word(0x68)?),
            dtime: word(0x14)?,
            parent: 0,
            own_attributes: has_attributes.then(|| raw[attributes_at..].into()),
        })
    }

    /// Seed for the checksums of this inode's metadata; `None` without checksums.
    pub(super) fn checksum_seed(&self) -> Option<u32> {
        let seed = self.volume_seed?;
        Some(crc32c(crc32c(seed, &self.number.to_le_bytes()), &self.generation.to_le_bytes()))
    }

    /// The file type; `None` if it is invalid.
    pub(super) fn file_type(&self) -> Option<Type> {
        match self.mode & TYPE_MASK {
            0x1000 => Some(Type::Fifo),
            0x2000 => Some(Type::CharDevice),
            TYPE_DIRECTORY => Some(Type::Directory),
            0x6000 => Some(Type::BlockDevice),
            0x8000 => Some(Type::File),
            0xA000 => Some(Type::Symlink),
            0xC000 => Some(Type::Socket),
            _ => None,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.file_type() == Some(Type::Directory)
    }

    /// Whether the content, or the names in the directory, are encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.flags & FLAG_ENCRYPT != 0
    }

    /// The link count.
    pub(super) fn nlink(&self) -> u32 {
        self.nlink.into()
    }

    /// Whether fs-verity data lies past the end of the file.
    pub(super) fn is_verity(&self) -> bool {
        self.flags & FLAG_VERITY != 0
    }

    /// Whether the directory has a hash index.
    pub(super) fn is_indexed(&self) -> bool {
        self.flags & FLAG_INDEX != 0
    }

    /// Whether it is mapped by extents rather than by block numbers.
    pub(super) fn has_extents(&self) -> bool {
        self.flags & FLAG_EXTENTS != 0
    }

    pub(super) fn metadata(&self) -> Metadata {
        let is_file = self.file_type() == Some(Type::File);
        let has_flags = is_file || self.is_directory();
        Metadata {
            mode: u32::from(self.mode & 0o7777),
            uid: self.uid,
            gid: self.gid,
            size: if is_file { self.size } else { 0 },
            mtime: self.mtime,
            ctime: self.ctime,
            dev: 0,
            ino: u64::from(self.number),
            nlink: u32::from(self.nlink),
            flags: if has_flags { self.flags & KEPT } else { 0 },
            project: if has_flags { self.project } else { 0 },
        }
    }

    /// The device number of a device node. Linux' `old_decode_dev` and `new_decode_dev`: the old form is in the
    /// first word of `i_block`; if that is 0, the new form is in the second.
    pub(super) fn device(&self) -> DeviceNumber {
        let word = |at: usize| le32(&self.map, at).unwrap_or(0);
        match word(0) {
            0 => {
                let new = word(4);
                DeviceNumber { major: (new & 0xF_FF00) >> 8, minor: (new & 0xFF) | ((new >> 12) & 0xF_FF00) }
            }
            old => DeviceNumber { major: (old >> 8) & 0xFF, minor: old & 0xFF },
        }
    }
}

/// The checksum of a stored inode, in a single call: this runs for every inode, and CRC calls on short slices cost
/// as much as on long ones.
fn checksum(seed: u32, number: u32, generation: u32, raw: &[u8], has_high: bool) -> io::Result<u32> {
    let (mut usual, mut large) = ([0; 8 + USUAL_BYTES], Vec::new());
    let covered = if let Some(covered) = usual.get_mut(..8 + raw.len()) {
        covered
    } else {
        large.resize(8 + raw.len(), 0);
        &mut large[..]
    };
    let (head, copy) = covered.split_at_mut(8);
    head[..4].copy_from_slice(&number.to_le_bytes());
    head[4..].copy_from_slice(&generation.to_le_bytes());
    copy.copy_from_slice(raw);
    copy.get_mut(0x7C..0x7E).ok_or_else(cut_off)?.fill(0);
    if has_high {
        copy.get_mut(0x82..0x84).ok_or_else(cut_off)?.fill(0);
    }
    Ok(crc32c(seed, covered))
}

/// The block of an inode, and its offset in that block.
fn place(volume: &Volume, number: u32) -> io::Result<(u64, usize)> {
    let superblock = &volume.superblock;
    let index = number.checked_sub(1).filter(|_| number <= superblock.inodes);
    let Some(index) = index else { return Err(damaged(format!("there is no inode {number}"))) };
    let group = index / superblock.inodes_per_group;
    let table = usize::try_from(group).ok().and_then(|group| volume.inode_tables.get(group));
    let in_group = u64::from(index % superblock.inodes_per_group) * superblock.inode_bytes as u64;
    let first = table.copied().ok_or_else(cut_off)?;
    let block = first.saturating_add(in_group / superblock.block_bytes);
    // Fits: below a block's length, at most 64 KiB.
    Ok((block, usize::try_from(in_group % superblock.block_bytes).unwrap_or(0)))
}

/// The link count of an inode that may be an orphan, and `i_dtime`, the next orphan.
pub(super) fn raw_links_and_next(volume: &Volume, number: u32) -> io::Result<(u16, u32)> {
    let (block, at) = place(volume, number)?;
    let block = volume.block(block)?;
    let raw = block.get(at..at + volume.superblock.inode_bytes).ok_or_else(cut_off)?;
    le16(raw, 0x1A).zip(le32(raw, 0x14)).ok_or_else(cut_off)
}

/// Prefetches an inode together with its neighbours.
pub(super) fn will_read(volume: &Volume, number: u32) {
    if let Ok((block, _)) = place(volume, number) {
        volume.will_read_block(block);
    }
}
