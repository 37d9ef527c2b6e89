//! Where the bitmaps and inodes of each group are: ext4 layout, "Super Block" and "Block Group Descriptors".

use crate::field::{array, crc32c, le16, le32};
use crate::outside::BlockRead;
use crate::reader::ext4::{Copies, DescriptorChecksum};
use crate::units::ByteRange;
use crate::used::bits::Clusters;
use crate::used::map::Whole;

const START: u64 = 1024;
/// More groups than this, 128 TiB in groups of the usual size, are not gone through.
const MAX_GROUPS: u64 = 1 << 20;

const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
/// FILETYPE, RECOVER, META_BG, EXTENTS, 64BIT, MMP, FLEX_BG, EA_INODE, CSUM_SEED, LARGEDIR, INLINE_DATA, ENCRYPT, CASEFOLD:
/// with these bitmaps mean what they always did.
const KNOWN_INCOMPAT: u32 =
    0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x3_0000;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_BIGALLOC: u32 = 0x200;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
/// SPARSE_SUPER, LARGE_FILE, BTREE_DIR, HUGE_FILE, GDT_CSUM, DIR_NLINK, EXTRA_ISIZE, QUOTA, BIGALLOC, METADATA_CSUM, READONLY,
/// PROJECT, VERITY, ORPHAN_PRESENT.
const KNOWN_RO_COMPAT: u32 = 0x7F | 0x100 | 0x200 | 0x400 | 0x1000 | 0x2000 | 0x8000 | 0x1_0000;
const COMPAT_RESIZE_INODE: u32 = 0x10;

/// `bg_flags`.
const INODE_UNINIT: u16 = 0x1;
const BLOCK_UNINIT: u16 = 0x2;

/// A filesystem's shape.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of the superblock")]
pub(super) struct Geometry {
    pub(super) block_bytes: u64,
    pub(super) blocks: u64,
    pub(super) first_data_block: u64,
    pub(super) blocks_per_group: u64,
    pub(super) clusters_per_group: u64,
    pub(super) cluster_blocks: u64,
    pub(super) groups: u64,
    pub(super) inodes_per_group: u64,
    pub(super) inode_bytes: u64,
    pub(super) needs_replay: bool,
    pub(super) is_clean: bool,
    pub(super) has_errors: bool,
    /// `metadata_csum`: what checksums begin with.
    pub(super) checksum_seed: Option<u32>,
    descriptor_bytes: u64,
    descriptor_checksum: DescriptorChecksum,
    reserved_descriptor_blocks: u64,
    /// With `meta_bg` the first block of descriptors that lies in the groups that it describes.
    first_meta_group: Option<u64>,
    has_flexible_groups: bool,
    copies: Copies,
}

/// What one group's descriptor says.
pub(super) struct Group {
    pub(super) block_bitmap: u64,
    inode_bitmap: u64,
    pub(super) inode_table: u64,
    pub(super) free_clusters: u64,
    /// Its block bitmap was never written: none of its blocks is used but for metadata.
    pub(super) is_uninitialised: bool,
    /// How many of its inodes may be in use.
    pub(super) inodes_to_read: u64,
    pub(super) bitmap_checksum: u32,
    pub(super) bitmap_checksum_mask: u32,
}

impl Geometry {
    pub(super) fn read(view: &dyn BlockRead) -> Result<Self, Whole> {
        let mut bytes = [0; 1024];
        view.read_at(START, &mut bytes)?;
        let cut = || Whole::in_doubt("its superblock is cut off");
        let word = |at: usize| le32(&bytes, at).ok_or_else(cut);
        let half = |at: usize| le16(&bytes, at).ok_or_else(cut);
        let check = |is_right: bool, what: &str| {
            if is_right { Ok(()) } else { Err(Whole::in_doubt(format!("its superblock makes no sense: {what}"))) }
        };
        check(half(0x38)? == 0xEF53, "its signature")?;
        let is_old = word(0x4C)? == 0;
        let (compat, incompat, ro_compat) = if is_old { (0, 0, 0) } else { (word(0x5C)?, word(0x60)?, word(0x64)?) };
        let (unknown, unknown_ro) = (incompat & !KNOWN_INCOMPAT, ro_compat & !KNOWN_RO_COMPAT);
        if unknown != 0 || unknown_ro != 0 {
            return Err(Whole::no_map(format!(
                "it has the features {unknown:#x} (incompat) and {unknown_ro:#x} (ro_compat), which may change what its \
                 bitmaps mean"
            )));
        }
        let uuid: [u8; 16] = array(&bytes, 0x68).ok_or_else(cut)?;
        let has_checksums = ro_compat & RO_COMPAT_METADATA_CSUM != 0;
        if has_checksums {
            let covered = bytes.get(..0x3FC).ok_or_else(cut)?;
            check(bytes.get(0x175) == Some(&1), "its kind of checksum")?;
            check(crc32c(!0, covered) == word(0x3FC)?, "its checksum")?;
        }
        let checksum_seed = match (has_checksums, incompat & INCOMPAT_CSUM_SEED != 0) {
            (false, _) => None,
            (true, true) => Some(word(0x270)?),
            (true, false) => Some(crc32c(!0, &uuid)),
        };
        let has_64_bits = incompat & INCOMPAT_64BIT != 0;
        let (log_block, log_cluster) = (word(0x18)?, word(0x1C)?);
        check(log_block <= 6, "the size of its blocks")?;
        let has_clusters = ro_compat & RO_COMPAT_BIGALLOC != 0;
        let log_cluster = if has_clusters { log_cluster } else { log_block };
        check(log_cluster >= log_block && log_cluster - log_block <= 20, "the size of its clusters")?;
        let (block_bytes, cluster_blocks) = (1024_u64 << log_block, 1_u64 << (log_cluster - log_block));
        let high = if has_64_bits { u64::from(word(0x150)?) } else { 0 };
        let blocks = high << 32 | u64::from(word(0x4)?);
        let (first_data_block, blocks_per_group) = (u64::from(word(0x14)?), u64::from(word(0x20)?));
        let clusters_per_group = if has_clusters { word(0x24)?.into() } else { blocks_per_group };
        let len = view.len_bytes();
        check(
            blocks.checked_mul(block_bytes).is_some_and(|end| end <= len),
            "it has more blocks than there is room for",
        )?;
        check(first_data_block <= 1 && first_data_block < blocks, "its first block")?;
        check(
            clusters_per_group >= 8
                && clusters_per_group % 8 == 0
                && clusters_per_group <= block_bytes * 8
                && clusters_per_group * cluster_blocks == blocks_per_group,
            "the blocks of a group",
        )?;
        let inodes_per_group = u64::from(word(0x28)?);
        let inode_bytes = if is_old { 128 } else { u64::from(half(0x58)?) };
        check(inodes_per_group > 0 && inodes_per_group <= block_bytes * 8, "the inodes of a group")?;
        check(inode_bytes.is_power_of_two() && (128..=block_bytes).contains(&inode_bytes), "the size of its inodes")?;
        let descriptor_bytes = if has_64_bits { u64::from(half(0xFE)?) } else { 32 };
        check(
            descriptor_bytes.is_power_of_two()
                && (32..=1024).contains(&descriptor_bytes)
                && (descriptor_bytes >= 64 || !has_64_bits),
            "the size of its group descriptors",
        )?;
        let groups = (blocks - first_data_block).div_ceil(blocks_per_group);
        if groups > MAX_GROUPS {
            return Err(Whole::no_map("it has more than a million groups"));
        }
        let state = half(0x3A)?;
        Ok(Self {
            block_bytes,
            blocks,
            first_data_block,
            blocks_per_group,
            clusters_per_group,
            cluster_blocks,
            groups,
            inodes_per_group,
            inode_bytes,
            needs_replay: incompat & INCOMPAT_RECOVER != 0,
            is_clean: state & 1 != 0,
            has_errors: state & 2 != 0,
            checksum_seed,
            descriptor_bytes,
            descriptor_checksum: match checksum_seed {
                Some(seed) => DescriptorChecksum::Crc32c(seed),
                None if ro_compat & RO_COMPAT_GDT_CSUM != 0 => DescriptorChecksum::Crc16 { uuid, has_64_bits },
                None => DescriptorChecksum::None,
            },
            reserved_descriptor_blocks: if compat & COMPAT_RESIZE_INODE == 0 { 0 } else { half(0xCE)?.into() },
            first_meta_group: if incompat & INCOMPAT_META_BG == 0 { None } else { Some(word(0x104)?.into()) },
            has_flexible_groups: incompat & INCOMPAT_FLEX_BG != 0,
            copies: Copies::of(&bytes, compat, ro_compat).ok_or_else(cut)?,
        })
    }

    /// Whether the other one has its groups at the same places.
    pub(super) fn has_same_shape(&self, other: &Self) -> bool {
        let shape = |of: &Self| {
            (
                (of.block_bytes, of.blocks, of.first_data_block, of.blocks_per_group, of.cluster_blocks),
                (of.inodes_per_group, of.inode_bytes, of.descriptor_bytes, of.first_meta_group, of.copies),
            )
        };
        shape(self) == shape(other)
    }

    pub(super) fn first_of(&self, group: u64) -> u64 {
        self.first_data_block + group * self.blocks_per_group
    }

    /// The clusters of a group.
    pub(super) fn clusters_of(&self, group: u64) -> Clusters {
        let left = self.blocks.saturating_sub(self.first_of(group));
        Clusters {
            first_byte: self.bytes_of(self.first_of(group), 0).start,
            bytes: self.cluster_blocks * self.block_bytes,
            count: left.min(self.blocks_per_group).div_ceil(self.cluster_blocks),
        }
    }

    pub(super) fn bytes_of(&self, first: u64, count: u64) -> ByteRange {
        ByteRange::new(first.saturating_mul(self.block_bytes), count.saturating_mul(self.block_bytes))
    }

    fn has_super(&self, group: u64) -> bool {
        self.copies.has(group)
    }

    fn in_descriptor_block(&self) -> u64 {
        self.block_bytes / self.descriptor_bytes
    }

    /// The copies of the superblock and of the descriptors in a group, with the room for more of them: first block and count.
    pub(super) fn copies_of(&self, group: u64) -> Vec<(u64, u64)> {
        let in_block = self.in_descriptor_block();
        let all = self.groups.div_ceil(in_block);
        let mut copies = Vec::new();
        let has_super = self.has_super(group);
        if has_super {
            let descriptors = self.first_meta_group.map_or(all, |first| first.min(all));
            copies.push((self.first_of(group), 1 + descriptors + self.reserved_descriptor_blocks));
        }
        if let Some(first) = self.first_meta_group
            && group / in_block >= first
            && [0, 1, in_block - 1].contains(&(group % in_block))
        {
            copies.push((self.first_of(group) + u64::from(has_super), 1));
        }
        copies
    }

    /// The bitmaps and inodes of a group and, where it has one, the superblock: first block, count, and whether the group's
    /// own bitmap was never written, so that nothing says that they are used.
    pub(super) fn metadata_of(&self, number: u64, group: &Group) -> Result<Vec<(u64, u64, bool)>, Whole> {
        let table_blocks = (self.inodes_per_group * self.inode_bytes).div_ceil(self.block_bytes);
        let mut found = Vec::new();
        for (first, count) in [(group.block_bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, table_blocks)] {
            let (from, to) = if self.has_flexible_groups {
                (self.first_data_block, self.blocks)
            } else {
                (self.first_of(number), self.blocks.min(self.first_of(number) + self.blocks_per_group))
            };
            if first < from || first.checked_add(count).is_none_or(|end| end > to) {
                return Err(Whole::in_doubt(format!("the bitmaps or inodes of group {number} lie where they cannot")));
            }
            // With flex_bg they may be in another group, whose bitmap may be there; what is there is used in any case.
            found.push((first, count, group.is_uninitialised));
        }
        if self.has_super(number) {
            found.push((self.first_of(number), 1, group.is_uninitialised));
        }
        Ok(found)
    }

    pub(super) fn descriptors<'a>(&'a self, view: &'a dyn BlockRead) -> Descriptors<'a> {
        Descriptors { geometry: self, view, block: None }
    }
}

/// Reads descriptors in their order.
pub(super) struct Descriptors<'a> {
    geometry: &'a Geometry,
    view: &'a dyn BlockRead,
    block: Option<(u64, Vec<u8>)>,
}

impl Descriptors<'_> {
    /// The block that has the descriptors of the groups from `number * in_block` on.
    fn place(&self, number: u64) -> u64 {
        let geometry = self.geometry;
        match geometry.first_meta_group {
            Some(first) if number >= first => {
                let group = number * geometry.in_descriptor_block();
                // Blocks of 1 KiB with bigalloc: the superblock is the second block of the first group.
                let is_second = geometry.block_bytes == START && number == 0 && geometry.first_data_block == 0;
                geometry.first_of(group) + u64::from(geometry.has_super(group)) + u64::from(is_second)
            }
            _ => START / geometry.block_bytes + 1 + number,
        }
    }

    pub(super) fn group(&mut self, number: u64) -> Result<Group, Whole> {
        let geometry = self.geometry;
        let in_block = geometry.in_descriptor_block();
        let block = self.place(number / in_block);
        if self.block.as_ref().is_none_or(|(there, _)| *there != block) {
            if block >= geometry.blocks {
                return Err(Whole::in_doubt("its group descriptors lie behind its end"));
            }
            let mut bytes = vec![0; usize::try_from(geometry.block_bytes).unwrap_or(0)];
            self.view.read_at(geometry.bytes_of(block, 1).start, &mut bytes)?;
            self.block = Some((block, bytes));
        }
        let cut = || Whole::in_doubt(format!("the descriptor of group {number} is cut off"));
        let (_, bytes) = self.block.as_ref().ok_or_else(cut)?;
        let at = usize::try_from(number % in_block * geometry.descriptor_bytes).map_err(|_| cut())?;
        let len = usize::try_from(geometry.descriptor_bytes).map_err(|_| cut())?;
        let bytes = bytes.get(at..at + len).ok_or_else(cut)?;
        if !geometry.descriptor_checksum.is_right(number, bytes)? {
            return Err(Whole::in_doubt(format!("the checksum of group {number} is wrong")));
        }
        let is_long = len >= 64;
        let word = |low: usize, high: usize| {
            let high = if is_long { le32(bytes, high) } else { Some(0) };
            high.zip(le32(bytes, low)).map(|(high, low)| u64::from(high) << 32 | u64::from(low)).ok_or_else(cut)
        };
        let half = |low: usize, high: usize| {
            let high = if is_long { le16(bytes, high) } else { Some(0) };
            high.zip(le16(bytes, low)).map(|(high, low)| u32::from(high) << 16 | u32::from(low)).ok_or_else(cut)
        };
        let has_flags = !matches!(geometry.descriptor_checksum, DescriptorChecksum::None);
        let flags = if has_flags { le16(bytes, 0x12).ok_or_else(cut)? } else { 0 };
        let unused_inodes = if has_flags { u64::from(half(0x1C, 0x32)?) } else { 0 };
        let inodes_to_read =
            if flags & INODE_UNINIT != 0 { 0 } else { geometry.inodes_per_group.saturating_sub(unused_inodes) };
        Ok(Group {
            block_bitmap: word(0x0, 0x20)?,
            inode_bitmap: word(0x4, 0x24)?,
            inode_table: word(0x8, 0x28)?,
            free_clusters: half(0xC, 0x2C)?.into(),
            is_uninitialised: flags & BLOCK_UNINIT != 0,
            inodes_to_read,
            bitmap_checksum: half(0x18, 0x38)?,
            bitmap_checksum_mask: if is_long { !0 } else { 0xFFFF },
        })
    }
}
