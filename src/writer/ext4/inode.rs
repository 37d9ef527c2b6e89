//! An inode's attributes: ext4 layout, "Index Nodes".

use rustix::io::Errno;

use super::acl;
use super::bytes::{high16, high32, low16, low32, middle16, put};
use super::extents::MAP_BYTES;
use super::volume::Volume;
use super::xattrs::Xattrs;
use crate::entry::{DeviceNumber, Timestamp, Xattr};
use crate::field::{crc32c, crc32c_without, le32};

/// `EXT4_EXTENTS_FL`, `EXT4_INDEX_FL`, `EXT4_HUGE_FILE_FL`.
pub(super) const EXTENTS: u32 = 0x8_0000;
pub(super) const INDEX: u32 = 0x1000;
/// Of `EXT4_FL_USER_MODIFIABLE`, what needs no feature: secrm, unrm, compr, sync, immutable, append, nodump, noatime,
/// journal_data, notail, dax; and of directories dirsync, topdir, projinherit.
const SETTABLE: u32 = 0xFF | JOURNAL_DATA | 0x8000 | DAX;
/// `EXT4_JOURNAL_DATA_FL` and `EXT4_DAX_FL`, which exclude each other.
const JOURNAL_DATA: u32 = 0x4000;
const DAX: u32 = 0x200_0000;
const OF_DIRECTORIES: u32 = 0x1_0000 | 0x2_0000 | 0x2000_0000;
/// Seconds that an inode can hold: with 32 bits, and with two more of the larger inode.
const SECONDS_MIN: i64 = -(1 << 31);
const SECONDS_MAX: [i64; 2] = [(1 << 31) - 1, (1 << 31) - 1 + (3 << 32)];

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Device { is_block: bool, number: DeviceNumber },
    Fifo,
}

impl Kind {
    /// `S_IFMT`.
    pub(super) fn mode(self) -> u32 {
        match self {
            Self::Fifo => 0x1000,
            Self::Device { is_block: false, .. } => 0x2000,
            Self::Directory => 0x4000,
            Self::Device { is_block: true, .. } => 0x6000,
            Self::File => 0x8000,
            Self::Symlink => 0xA000,
        }
    }

    /// `file_type` of a directory entry.
    pub(super) fn in_directory(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Device { is_block: false, .. } => 3,
            Self::Device { is_block: true, .. } => 4,
            Self::Fifo => 5,
            Self::Symlink => 7,
        }
    }

    /// Whether a flag of chattr can be set, and `user.` attributes.
    fn is_file_or_directory(self) -> bool {
        matches!(self, Self::File | Self::Directory)
    }
}

/// The attributes of an entry.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) kind: Kind,
    /// The low 12 bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Flags of chattr(1).
    pub(crate) flags: u32,
    pub(super) xattrs: Xattrs,
}

impl Attributes {
    /// Root's, without flags and extended attributes.
    pub(crate) fn new(kind: Kind, mode: u32, mtime: Timestamp) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime, flags: 0, xattrs: Xattrs::default() }
    }

    /// Sets these flags of chattr(1); returns those that ext4 does not have.
    pub(crate) fn set_flags(&mut self, flags: u32) -> u32 {
        let settable = SETTABLE | if self.kind == Kind::Directory { OF_DIRECTORIES } else { 0 };
        let settable = if flags & JOURNAL_DATA != 0 { settable & !DAX } else { settable };
        self.flags = flags & settable;
        flags & !settable
    }

    /// Sets an attribute as setxattr(2) does, with the same errors; whether there is room for it shows later. An ACL
    /// changes the mode.
    pub(crate) fn set_xattr(&mut self, xattr: &Xattr) -> Result<(), Errno> {
        let is_default = match xattr.name.as_slice() {
            b"system.posix_acl_access" => false,
            b"system.posix_acl_default" => true,
            name => {
                let is_user = name.starts_with(b"user.");
                if is_user && !self.kind.is_file_or_directory() {
                    return Err(Errno::PERM);
                }
                return self.xattrs.set(name, &xattr.value);
            }
        };
        if self.kind == Kind::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        if is_default && self.kind != Kind::Directory {
            return Err(Errno::ACCESS);
        }
        let acl = acl::parse(&xattr.value)?;
        let Some(acl) = acl.filter(|acl| is_default || !acl.is_mode()) else {
            // Nothing beyond the mode's bits.
            if let (Some(acl), false) = (acl::parse(&xattr.value)?, is_default) {
                self.mode = acl.mode_of(self.mode);
            }
            self.xattrs.remove_acl(is_default);
            return Ok(());
        };
        if !is_default {
            self.mode = acl.mode_of(self.mode);
        }
        self.xattrs.set_acl(is_default, acl.on_disk());
        Ok(())
    }
}

/// The place and content of an inode, besides its attributes.
pub(super) struct Body {
    pub(super) number: u32,
    pub(super) generation: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    /// Blocks of data, of the map and of attributes.
    pub(super) blocks: u64,
    /// `i_block`.
    pub(super) map: [u8; MAP_BYTES],
    /// `EXTENTS` and `INDEX`.
    pub(super) flags: u32,
    /// `i_file_acl`: the block with attributes, or 0.
    pub(super) attribute_block: u64,
    pub(super) now: Timestamp,
}

/// The seed of an inode's checksums.
pub(super) fn seed_of(number: u32, generation: u32, volume: &Volume) -> Option<u32> {
    volume.seed.map(|seed| crc32c(crc32c(seed, &number.to_le_bytes()), &generation.to_le_bytes()))
}

/// The same for an inode on the disk.
pub(super) fn seed_of_raw(number: u32, raw: &[u8], volume: &Volume) -> Option<u32> {
    seed_of(number, le32(raw, 0x64).unwrap_or(0), volume)
}

/// An inode's bytes. `in_inode` are the attributes behind its fields.
pub(super) fn encode(attributes: &Attributes, body: &Body, in_inode: &[u8], volume: &Volume) -> Vec<u8> {
    let mut raw = vec![0; volume.facts.inode_bytes];
    put(&mut raw, 0x0, low16(attributes.kind.mode() | attributes.mode & 0o7777));
    put(&mut raw, 0x2, low16(attributes.uid));
    put(&mut raw, 0x18, low16(attributes.gid));
    put(&mut raw, 0x78, high16(attributes.uid));
    put(&mut raw, 0x7A, high16(attributes.gid));
    put(&mut raw, 0x20, (attributes.flags | body.flags).to_le_bytes());
    // l_i_version.
    put(&mut raw, 0x24, 1_u32.to_le_bytes());
    put(&mut raw, 0x64, body.generation.to_le_bytes());
    if volume.extra_bytes > 0 {
        put(&mut raw, 0x80, volume.extra_bytes.to_le_bytes());
    }
    // Field, its extra bits, and the time: the archive has no access time.
    let times =
        [(0x8, 0x8C, attributes.mtime), (0xC, 0x84, body.now), (0x10, 0x88, attributes.mtime), (0x90, 0x94, body.now)];
    for (at, extra_at, time) in times {
        put_time(&mut raw, at, extra_at, time, volume);
    }
    put(&mut raw, 0x68, low32(body.attribute_block));
    put(&mut raw, 0x76, middle16(body.attribute_block));
    if let Some(place) = raw.get_mut(128 + usize::from(volume.extra_bytes)..)
        && place.len() >= in_inode.len()
    {
        place[..in_inode.len()].copy_from_slice(in_inode);
    }
    set_content(&mut raw, body, volume);
    raw
}

/// Sets what an inode's content decides on: length, blocks, links and map; and the checksum.
pub(super) fn set_content(raw: &mut [u8], body: &Body, volume: &Volume) {
    put(raw, 0x4, low32(body.size));
    put(raw, 0x6C, high32(body.size));
    // In units of 512 bytes.
    let sectors = body.blocks * (volume.facts.block_bytes / 512);
    put(raw, 0x1C, low32(sectors));
    put(raw, 0x74, middle16(sectors));
    put(raw, 0x28, body.map);
    set_links(raw, body.number, body.links, volume);
}

/// Sets the number of names, and the checksum.
pub(super) fn set_links(raw: &mut [u8], number: u32, links: u32, volume: &Volume) {
    put(raw, 0x1A, low16(links));
    let Some(seed) = seed_of_raw(number, raw, volume) else { return };
    // i_checksum_lo and i_checksum_hi count as zero.
    put(raw, 0x7C, [0; 2]);
    let is_long = volume.extra_bytes >= 4;
    let checksum = if is_long { crc32c_without(seed, raw, 0x82..0x84).unwrap_or(0) } else { crc32c(seed, raw) };
    put(raw, 0x7C, low16(checksum));
    if is_long {
        put(raw, 0x82, high16(checksum));
    }
}

/// The kernel's `timestamp_truncate` and `ext4_encode_extra_time`.
fn put_time(raw: &mut [u8], at: usize, extra_at: usize, time: Timestamp, volume: &Volume) {
    let has_extra = usize::from(volume.extra_bytes) + 128 >= extra_at + 4;
    let most = SECONDS_MAX[usize::from(has_extra)];
    let sec = time.sec.clamp(SECONDS_MIN, most);
    let nsec = if sec == SECONDS_MIN || sec == most { 0 } else { time.nsec };
    let low = low32(sec.cast_unsigned());
    if at < 128 || has_extra {
        put(raw, at, low);
    }
    if has_extra {
        let epoch = ((sec - i64::from(i32::from_le_bytes(low))) >> 32) & 3;
        put(raw, extra_at, (u32::try_from(epoch).unwrap_or(0) | nsec << 2).to_le_bytes());
    }
}

/// `i_block` of a device: `old_encode_dev` if both numbers fit in a byte, else `new_encode_dev`.
pub(super) fn device_map(number: DeviceNumber) -> [u8; MAP_BYTES] {
    let DeviceNumber { major, minor } = number;
    let mut map = [0; MAP_BYTES];
    if major < 256 && minor < 256 {
        put(&mut map, 0, (major << 8 | minor).to_le_bytes());
    } else {
        put(&mut map, 4, (minor & 0xFF | (major & 0xFFF) << 8 | (minor & !0xFF) << 12).to_le_bytes());
    }
    map
}
