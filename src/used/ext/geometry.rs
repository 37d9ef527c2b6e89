//! Where the bitmaps and inodes of each group are: ext4 layout, "Super Block" and "Block Group Descriptors".

use crate::field::ext::{
    Copies, Features, LEN, MAX_GROUPS, START, Shape, Wrong, checksum_seed, compat, has_magic, incompat, ro_compat,
    uuid_of,
};
use crate::field::{le16, le32};
use crate::outside::BlockRead;
use crate::reader::ext4::DescriptorChecksum;
use crate::units::ByteRange;
use crate::used::bits::Clusters;
use crate::used::map::Whole;

/// Features with which bitmaps mean what they always did.
const KNOWN_INCOMPAT: u32 =
    incompat::UNDERSTOOD | incompat::META_BG | incompat::EA_INODE | incompat::INLINE_DATA | incompat::CASEFOLD;
const KNOWN_RO_COMPAT: u32 = ro_compat::UNDERSTOOD | ro_compat::VERITY;

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
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    pub(super) free_clusters: u64,
    /// Its block bitmap was never written: none of its blocks is used but for metadata.
    pub(super) is_uninitialised: bool,
    /// Its inode bitmap was never written: none of its inodes is in use.
    pub(super) has_no_inodes: bool,
    /// `bg_itable_unused`: so many inodes at the end of its table were never in use, or are not any more. Zero without checksums,
    /// with which the field means nothing.
    pub(super) unused_inodes: u64,
    pub(super) free_inodes: u64,
    pub(super) bitmap_checksum: u32,
    pub(super) inode_bitmap_checksum: u32,
    pub(super) bitmap_checksum_mask: u32,
}

impl Group {
    /// How many of its inodes may be in use.
    pub(super) fn inodes_to_read(&self, geometry: &Geometry) -> u64 {
        if self.has_no_inodes { 0 } else { geometry.inodes_per_group.saturating_sub(self.unused_inodes) }
    }
}

/// Blocks of a group's metadata.
pub(super) struct Metadata {
    pub(super) first: u64,
    /// Its bitmap must have these as used.
    pub(super) count: u64,
    /// The first of them that have content: fewer than `count` for an inode table with an unused end.
    pub(super) kept: u64,
    /// The group's own bitmap was never written, so that nothing says that they are used.
    pub(super) is_unlisted: bool,
}

impl Geometry {
    pub(super) fn read(view: &dyn BlockRead) -> Result<Self, Whole> {
        let mut bytes = [0; LEN];
        view.read_at(START, &mut bytes)?;
        let cut = || Whole::in_doubt("its superblock is cut off");
        let word = |at: usize| le32(&bytes, at).ok_or_else(cut);
        let half = |at: usize| le16(&bytes, at).ok_or_else(cut);
        let senseless = |what: &str| Whole::in_doubt(format!("its superblock makes no sense: {what}"));
        let wrong = |why| match why {
            Wrong::CutOff => cut(),
            Wrong::ChecksumKind => senseless("its kind of checksum"),
            Wrong::Checksum => senseless("its checksum"),
            Wrong::BlockSize => senseless("the size of its blocks"),
            Wrong::Value(what) => senseless(what),
        };
        if !has_magic(&bytes) {
            return Err(senseless("its signature"));
        }
        let mut features = Features::of(&bytes).ok_or_else(cut)?;
        if features.is_old {
            (features.compat, features.incompat, features.ro_compat) = (0, 0, 0);
        }
        let Features { compat, incompat, ro_compat, .. } = features;
        let (unknown, unknown_ro) = (incompat & !KNOWN_INCOMPAT, ro_compat & !KNOWN_RO_COMPAT);
        if unknown != 0 || unknown_ro != 0 {
            return Err(Whole::no_map(format!(
                "it has the features {unknown:#x} (incompat) and {unknown_ro:#x} (ro_compat), which may change what its \
                 bitmaps mean"
            )));
        }
        let checksum_seed = checksum_seed(&bytes, features).map_err(wrong)?;
        let shape = Shape::of(&bytes, features, view.len_bytes()).map_err(wrong)?;
        let Shape { block_bytes, blocks, first_data_block, .. } = shape;
        let has_clusters = features.has_clusters();
        let log_cluster = if has_clusters { word(0x1C)?.checked_sub(word(0x18)?) } else { Some(0) };
        let log_cluster = log_cluster.filter(|log| *log <= 20).ok_or_else(|| senseless("the size of its clusters"))?;
        let cluster_blocks = 1_u64 << log_cluster;
        let blocks_per_group = u64::from(word(0x20)?);
        let clusters_per_group = if has_clusters { word(0x24)?.into() } else { blocks_per_group };
        let is_possible = clusters_per_group >= 8
            && clusters_per_group % 8 == 0
            && clusters_per_group <= block_bytes * 8
            && clusters_per_group * cluster_blocks == blocks_per_group;
        if !is_possible {
            return Err(senseless("the blocks of a group"));
        }
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
            inodes_per_group: shape.inodes_per_group.into(),
            inode_bytes: shape.inode_bytes.into(),
            needs_replay: incompat & incompat::RECOVER != 0,
            is_clean: state & 1 != 0,
            has_errors: state & 2 != 0,
            checksum_seed,
            descriptor_bytes: shape.descriptor_bytes.into(),
            descriptor_checksum: match checksum_seed {
                Some(seed) => DescriptorChecksum::Crc32c(seed),
                None if ro_compat & ro_compat::GDT_CSUM != 0 => DescriptorChecksum::Crc16 {
                    uuid: uuid_of(&bytes).ok_or_else(cut)?,
                    has_64_bits: features.has_64_bits(),
                },
                None => DescriptorChecksum::None,
            },
            reserved_descriptor_blocks: if compat & compat::RESIZE_INODE == 0 { 0 } else { half(0xCE)?.into() },
            first_meta_group: if incompat & incompat::META_BG == 0 { None } else { Some(word(0x104)?.into()) },
            has_flexible_groups: incompat & incompat::FLEX_BG != 0,
            copies: Copies::of(&bytes, features).ok_or_else(cut)?,
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

    /// The number of blocks that so many inodes of a table take.
    pub(super) fn table_blocks(&self, inodes: u64) -> u64 {
        (inodes * self.inode_bytes).div_ceil(self.block_bytes)
    }

    /// The bitmaps and inodes of a group and, where it has one, the superblock. `kept_inodes` of its table have content.
    pub(super) fn metadata_of(&self, number: u64, group: &Group, kept_inodes: u64) -> Result<Vec<Metadata>, Whole> {
        let is_unlisted = group.is_uninitialised;
        let block = |first| Metadata { first, count: 1, kept: 1, is_unlisted };
        let table = Metadata {
            first: group.inode_table,
            count: self.table_blocks(self.inodes_per_group),
            kept: self.table_blocks(kept_inodes),
            is_unlisted,
        };
        let mut found = vec![block(group.block_bitmap), block(group.inode_bitmap), table];
        for Metadata { first, count, .. } in &found {
            // With flex_bg they may be in another group, whose bitmap may be there; what is there is used in any case.
            let (from, to) = if self.has_flexible_groups {
                (self.first_data_block, self.blocks)
            } else {
                (self.first_of(number), self.blocks.min(self.first_of(number) + self.blocks_per_group))
            };
            if *first < from || first.checked_add(*count).is_none_or(|end| end > to) {
                return Err(Whole::in_doubt(format!("the bitmaps or inodes of group {number} lie where they cannot")));
            }
        }
        if self.has_super(number) {
            found.push(block(self.first_of(number)));
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
        Ok(Group {
            block_bitmap: word(0x0, 0x20)?,
            inode_bitmap: word(0x4, 0x24)?,
            inode_table: word(0x8, 0x28)?,
            free_clusters: half(0xC, 0x2C)?.into(),
            is_uninitialised: flags & BLOCK_UNINIT != 0,
            has_no_inodes: flags & INODE_UNINIT != 0,
            unused_inodes,
            free_inodes: half(0xE, 0x2E)?.into(),
            bitmap_checksum: half(0x18, 0x38)?,
            inode_bitmap_checksum: half(0x1A, 0x3A)?,
            bitmap_checksum_mask: if is_long { !0 } else { 0xFFFF },
        })
    }
}
