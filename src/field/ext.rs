//! The superblock of ext2, ext3 and ext4 (Linux, Documentation/filesystems/ext4/super.rst, below "ext4 layout"): its
//! fields, its features, and the checks that every reader of it makes.

use super::{array, crc32c, le16, le32};

/// The byte offset of the primary superblock.
pub(crate) const START: u64 = 1024;
/// The length of a superblock in bytes.
pub(crate) const LEN: usize = 1024;
/// `s_magic`.
pub(crate) const MAGIC: u16 = 0xEF53;
/// More groups than this, 128 TiB in groups of the usual size, are not read.
pub(crate) const MAX_GROUPS: u64 = 1 << 20;

/// `s_feature_compat`.
pub(crate) mod compat {
    pub(crate) const HAS_JOURNAL: u32 = 0x4;
    pub(crate) const RESIZE_INODE: u32 = 0x10;
    pub(crate) const DIR_INDEX: u32 = 0x20;
    pub(crate) const SPARSE_SUPER2: u32 = 0x200;
    pub(crate) const FAST_COMMIT: u32 = 0x400;
    pub(crate) const ORPHAN_FILE: u32 = 0x1000;
}

/// `s_feature_incompat`.
pub(crate) mod incompat {
    pub(crate) const FILETYPE: u32 = 0x2;
    pub(crate) const RECOVER: u32 = 0x4;
    pub(crate) const JOURNAL_DEV: u32 = 0x8;
    pub(crate) const META_BG: u32 = 0x10;
    pub(crate) const EXTENTS: u32 = 0x40;
    pub(crate) const HAS_64BIT: u32 = 0x80;
    pub(crate) const MMP: u32 = 0x100;
    pub(crate) const FLEX_BG: u32 = 0x200;
    pub(crate) const EA_INODE: u32 = 0x400;
    pub(crate) const CSUM_SEED: u32 = 0x2000;
    pub(crate) const LARGEDIR: u32 = 0x4000;
    pub(crate) const INLINE_DATA: u32 = 0x8000;
    pub(crate) const ENCRYPT: u32 = 0x1_0000;
    pub(crate) const CASEFOLD: u32 = 0x2_0000;

    /// What every reader of this crate understands.
    pub(crate) const UNDERSTOOD: u32 =
        FILETYPE | RECOVER | EXTENTS | HAS_64BIT | MMP | FLEX_BG | CSUM_SEED | LARGEDIR | ENCRYPT;
}

/// `s_feature_ro_compat`.
pub(crate) mod ro_compat {
    pub(crate) const SPARSE_SUPER: u32 = 0x1;
    pub(crate) const LARGE_FILE: u32 = 0x2;
    pub(crate) const BTREE_DIR: u32 = 0x4;
    pub(crate) const HUGE_FILE: u32 = 0x8;
    pub(crate) const GDT_CSUM: u32 = 0x10;
    pub(crate) const DIR_NLINK: u32 = 0x20;
    pub(crate) const EXTRA_ISIZE: u32 = 0x40;
    pub(crate) const QUOTA: u32 = 0x100;
    pub(crate) const BIGALLOC: u32 = 0x200;
    pub(crate) const METADATA_CSUM: u32 = 0x400;
    pub(crate) const READONLY: u32 = 0x1000;
    pub(crate) const PROJECT: u32 = 0x2000;
    pub(crate) const VERITY: u32 = 0x8000;
    pub(crate) const ORPHAN_PRESENT: u32 = 0x1_0000;

    /// What every reader of this crate understands.
    pub(crate) const UNDERSTOOD: u32 = SPARSE_SUPER
        | LARGE_FILE
        | BTREE_DIR
        | HUGE_FILE
        | GDT_CSUM
        | DIR_NLINK
        | EXTRA_ISIZE
        | QUOTA
        | BIGALLOC
        | METADATA_CSUM
        | READONLY
        | PROJECT
        | ORPHAN_PRESENT;
}

/// A contradiction in a superblock. Each reader has its own words for it.
pub(crate) enum Wrong {
    /// The bytes end too early.
    CutOff,
    /// `s_checksum_type` is not CRC-32C.
    ChecksumKind,
    /// The checksum is wrong.
    Checksum,
    /// `s_log_block_size`: blocks have 1 to 64 KiB.
    BlockSize,
    /// The named value is impossible.
    Value(&'static str),
}

/// The features of a filesystem.
#[derive(Clone, Copy)]
pub(crate) struct Features {
    /// Revision 0, which has no features.
    pub(crate) is_old: bool,
    pub(crate) compat: u32,
    pub(crate) incompat: u32,
    pub(crate) ro_compat: u32,
}

impl Features {
    /// The fields as they are, also for revision 0; `None` if the superblock `bytes` is cut off.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            is_old: le32(bytes, 0x4C)? == 0,
            compat: le32(bytes, 0x5C)?,
            incompat: le32(bytes, 0x60)?,
            ro_compat: le32(bytes, 0x64)?,
        })
    }

    pub(crate) fn has_64_bits(self) -> bool {
        self.incompat & incompat::HAS_64BIT != 0
    }

    pub(crate) fn has_clusters(self) -> bool {
        self.ro_compat & ro_compat::BIGALLOC != 0
    }
}

/// `s_magic` says that `bytes` are a superblock.
pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    le16(bytes, 0x38) == Some(MAGIC)
}

/// `s_uuid`.
pub(crate) fn uuid_of(bytes: &[u8]) -> Option<[u8; 16]> {
    array(bytes, 0x68)
}

/// The number of blocks.
pub(crate) fn blocks_of(bytes: &[u8], has_64_bits: bool) -> Option<u64> {
    let high = if has_64_bits { u64::from(le32(bytes, 0x150)?) } else { 0 };
    Some(high << 32 | u64::from(le32(bytes, 0x4)?))
}

/// The checksum that the superblock should have: CRC-32C from all ones, without final inversion.
pub(crate) fn checksum_of(bytes: &[u8]) -> Option<u32> {
    Some(crc32c(!0, bytes.get(..0x3FC)?))
}

/// Checks the superblock's checksum, and returns the seed of all metadata checksums; `None` without `metadata_csum`.
pub(crate) fn checksum_seed(bytes: &[u8], features: Features) -> Result<Option<u32>, Wrong> {
    if features.ro_compat & ro_compat::METADATA_CSUM == 0 {
        return Ok(None);
    }
    if bytes.get(0x175) != Some(&1) {
        return Err(Wrong::ChecksumKind);
    }
    if checksum_of(bytes) != Some(le32(bytes, 0x3FC).ok_or(Wrong::CutOff)?) {
        return Err(Wrong::Checksum);
    }
    let has_seed = features.incompat & incompat::CSUM_SEED != 0;
    let seed = if has_seed { le32(bytes, 0x270) } else { uuid_of(bytes).map(|uuid| crc32c(!0, &uuid)) };
    seed.map(Some).ok_or(Wrong::CutOff)
}

/// The lengths of a filesystem's structures.
pub(crate) struct Shape {
    pub(crate) block_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) first_data_block: u64,
    pub(crate) inodes_per_group: u32,
    pub(crate) inode_bytes: u16,
    pub(crate) descriptor_bytes: u16,
}

impl Shape {
    /// Checks these fields in a region of `region_bytes`.
    pub(crate) fn of(bytes: &[u8], features: Features, region_bytes: u64) -> Result<Self, Wrong> {
        let word = |at: usize| le32(bytes, at).ok_or(Wrong::CutOff);
        let half = |at: usize| le16(bytes, at).ok_or(Wrong::CutOff);
        let check = |is_right: bool, what| if is_right { Ok(()) } else { Err(Wrong::Value(what)) };
        let log_block = word(0x18)?;
        if log_block > 6 {
            return Err(Wrong::BlockSize);
        }
        let has_64_bits = features.has_64_bits();
        let shape = Self {
            block_bytes: 1024 << log_block,
            blocks: blocks_of(bytes, has_64_bits).ok_or(Wrong::CutOff)?,
            first_data_block: word(0x14)?.into(),
            inodes_per_group: word(0x28)?,
            inode_bytes: if features.is_old { 128 } else { half(0x58)? },
            descriptor_bytes: if has_64_bits { half(0xFE)? } else { 32 },
        };
        let Self { block_bytes, blocks, first_data_block, inodes_per_group, inode_bytes, descriptor_bytes } = shape;
        let fits = blocks.checked_mul(block_bytes).is_some_and(|len| len <= region_bytes);
        check(fits, "it has more blocks than there is room for")?;
        check(first_data_block <= 1 && first_data_block < blocks, "its first block")?;
        check((1..=block_bytes * 8).contains(&inodes_per_group.into()), "the inodes of a group")?;
        let is_possible = inode_bytes.is_power_of_two() && (128..=block_bytes).contains(&inode_bytes.into());
        check(is_possible, "the size of its inodes")?;
        let lengths = if has_64_bits { 64..=1024 } else { 32..=1024 };
        let is_possible = descriptor_bytes.is_power_of_two() && lengths.contains(&descriptor_bytes);
        check(is_possible, "the size of its group descriptors")?;
        Ok(shape)
    }
}

/// Which groups start with a copy of the superblock: ext4 layout, "Layout".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    All,
    /// `sparse_super`.
    Sparse,
    /// `sparse_super2`: the groups in `s_backup_bgs`.
    Two([u32; 2]),
}

impl Copies {
    /// `None` if the superblock `bytes` is cut off.
    pub(crate) fn of(bytes: &[u8], features: Features) -> Option<Self> {
        if features.compat & compat::SPARSE_SUPER2 != 0 {
            return Some(Self::Two([le32(bytes, 0x24C)?, le32(bytes, 0x250)?]));
        }
        Some(if features.ro_compat & ro_compat::SPARSE_SUPER != 0 { Self::Sparse } else { Self::All })
    }

    /// Whether a group has a copy.
    pub(crate) fn has(self, group: u64) -> bool {
        let is_power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        match self {
            Self::All => true,
            Self::Sparse => group <= 1 || [3, 5, 7].into_iter().any(is_power_of),
            Self::Two(groups) => group == 0 || groups.map(u64::from).contains(&group),
        }
    }
}
