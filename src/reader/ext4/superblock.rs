//! The superblock: ext4 layout, "Super Block".

use std::io;

use chrono::DateTime;

use super::error::{NotRead, cut_off, damaged};
use crate::field::ext::{
    Copies, Features, LEN, MAX_GROUPS, START, Shape, Wrong, checksum_seed, compat, has_magic, incompat, ro_compat,
    uuid_of,
};
use crate::field::{le16, le32};
use crate::outside::BlockRead;
use crate::shown::counted;

const MIN_BLOCKS_PER_GROUP: u32 = 256;
/// `s_state`: errors were found.
const STATE_ERRORS: u16 = 0x2;
/// The decoded superblock. Lengths are in filesystem blocks unless stated otherwise.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of the superblock")]
pub(crate) struct Superblock {
    pub(crate) block_bytes: u64,
    /// The maximum size of a file in bytes, mapped by extents and by block numbers.
    pub(crate) max_sizes: [u64; 2],
    pub(crate) blocks: u64,
    /// The allocation unit; larger than one block with `bigalloc`.
    pub(crate) cluster_blocks: u64,
    pub(crate) groups: u64,
    pub(crate) inodes: u32,
    pub(crate) inodes_per_group: u32,
    pub(crate) inode_bytes: usize,
    pub(crate) first_inode: u32,
    pub(crate) descriptor_bytes: usize,
    pub(crate) journal_inode: u32,
    pub(crate) overhead_blocks: u64,
    pub(crate) has_64_bits: bool,
    pub(crate) has_file_types: bool,
    pub(crate) has_huge_files: bool,
    pub(crate) has_projects: bool,
    pub(crate) has_large_directories: bool,
    /// Files and names may be encrypted.
    pub(crate) has_encryption: bool,
    /// Seed of the metadata checksums (`metadata_csum`); `None` without them.
    pub(crate) checksum_seed: Option<u32>,
    /// Seed of the group descriptors' checksums (`gdt_csum`); `None` without them.
    pub(crate) group_checksum_uuid: Option<[u8; 16]>,
    pub(crate) first_data_block: u64,
    /// `flex_bg`.
    pub(crate) has_flexible_groups: bool,
    /// Whether directories may have indexes.
    pub(crate) has_indexes: bool,
    pub(crate) hash_seed: [u32; 4],
    pub(crate) hash_is_signed: bool,
    pub(crate) has_extents: bool,
    pub(crate) blocks_per_group: u64,
    /// `s_reserved_gdt_blocks`: blocks reserved for more descriptors.
    pub(crate) reserved_descriptor_blocks: u64,
    pub(crate) copies: Copies,
    pub(crate) has_journal: bool,
    /// `s_last_orphan`: the first orphan.
    pub(crate) last_orphan: u32,
    /// `s_orphan_file_inum`; 0 without one.
    pub(crate) orphan_file: u32,
    /// Inodes of the filesystem itself that have no name: quotas and the orphan file.
    pub(crate) own_inodes: Vec<u32>,
    /// Errors that the guest's kernel recorded, in words.
    pub(crate) recorded_errors: Option<String>,
    pub(crate) needs_replay: bool,
    pub(crate) was_clean: bool,
}

impl Superblock {
    /// Reads the primary superblock.
    pub(crate) fn read(blocks: &dyn BlockRead) -> Result<Self, NotRead> {
        let mut bytes = vec![0; LEN];
        blocks.read_at(START, &mut bytes)?;
        Self::parse(&bytes, blocks.len_bytes())
    }

    /// Decodes `bytes` as the superblock of a filesystem in a region of `region_bytes`.
    pub(crate) fn parse(bytes: &[u8], region_bytes: u64) -> Result<Self, NotRead> {
        let word = |at: usize| le32(bytes, at).ok_or_else(cut_off);
        let half = |at: usize| le16(bytes, at).ok_or_else(cut_off);
        let left = |what: &str| Err(NotRead::LeftToKernel(what.to_owned()));
        let wrong = |why| match why {
            Wrong::CutOff => NotRead::from(cut_off()),
            Wrong::ChecksumKind => NotRead::LeftToKernel("an unknown kind of checksum".to_owned()),
            Wrong::Checksum => damaged("its superblock's checksum is wrong").into(),
            Wrong::BlockSize => NotRead::LeftToKernel("blocks of another size than 1 to 64 KiB".to_owned()),
            Wrong::Value(what) => damaged(format!("its superblock makes no sense: {what}")).into(),
        };
        if !has_magic(bytes) {
            return Err(damaged("it has no superblock").into());
        }
        let features = Features::of(bytes).ok_or_else(cut_off)?;
        let Features { is_old, compat, incompat, ro_compat } = features;
        if is_old && (compat, incompat, ro_compat) != (0, 0, 0) {
            return left("features that its revision does not know");
        }
        // ENCRYPT is understood of what is not encrypted.
        if incompat & !incompat::UNDERSTOOD != 0 || ro_compat & !ro_compat::UNDERSTOOD != 0 {
            let (incompat, ro_compat) = (incompat & !incompat::UNDERSTOOD, ro_compat & !ro_compat::UNDERSTOOD);
            return left(&format!("the features {incompat:#x} (incompat) and {ro_compat:#x} (ro_compat)"));
        }
        let needs_replay = incompat & incompat::RECOVER != 0;
        if needs_replay && compat & compat::HAS_JOURNAL == 0 {
            return left("a journal without the feature has_journal");
        }
        if needs_replay && compat & compat::FAST_COMMIT != 0 {
            return left("fast commits in its journal");
        }
        if word(0x48)? != 0 {
            return left("been made by another system than Linux");
        }
        let checksum_seed = checksum_seed(bytes, features).map_err(wrong)?;
        let Shape { block_bytes, blocks, first_data_block, inodes_per_group, inode_bytes, descriptor_bytes } =
            Shape::of(bytes, features, region_bytes).map_err(wrong)?;
        // Without bigalloc a cluster is a block.
        let log_cluster = if features.has_clusters() { word(0x1C)?.saturating_sub(word(0x18)?) } else { 0 };
        let cluster_blocks = 1_u64.checked_shl(log_cluster).unwrap_or(0).clamp(1, 1 << 20);
        let blocks_per_group = word(0x20)?;
        let most_in_group = block_bytes * 8 * cluster_blocks;
        if blocks_per_group < MIN_BLOCKS_PER_GROUP || u64::from(blocks_per_group) > most_in_group {
            return Err(wrong(Wrong::Value("the blocks of a group")));
        }
        let (inodes, first_inode) = (word(0)?, if is_old { 11 } else { word(0x54)? });
        let (hash_seed, hash_is_signed) = hash_of(bytes).ok_or_else(cut_off)?;
        let groups = (blocks - first_data_block).div_ceil(u64::from(blocks_per_group));
        if groups * u64::from(inodes_per_group) < u64::from(inodes) {
            return Err(wrong(Wrong::Value("the number of its inodes")));
        }
        if groups > MAX_GROUPS {
            return left("more than a million groups");
        }
        Ok(Self {
            block_bytes,
            max_sizes: max_sizes(block_bytes),
            blocks,
            cluster_blocks,
            groups,
            inodes,
            inodes_per_group,
            inode_bytes: usize::from(inode_bytes),
            first_inode,
            descriptor_bytes: usize::from(descriptor_bytes),
            journal_inode: word(0xE0)?,
            overhead_blocks: u64::from(word(0x248)?).saturating_mul(cluster_blocks),
            has_64_bits: features.has_64_bits(),
            has_file_types: incompat & incompat::FILETYPE != 0,
            has_huge_files: ro_compat & ro_compat::HUGE_FILE != 0,
            has_projects: ro_compat & ro_compat::PROJECT != 0,
            has_large_directories: incompat & incompat::LARGEDIR != 0,
            has_encryption: incompat & incompat::ENCRYPT != 0,
            checksum_seed,
            group_checksum_uuid: uuid_of(bytes)
                .filter(|_| ro_compat & ro_compat::GDT_CSUM != 0 && checksum_seed.is_none()),
            first_data_block,
            has_flexible_groups: incompat & incompat::FLEX_BG != 0,
            has_indexes: compat & compat::DIR_INDEX != 0,
            hash_seed,
            hash_is_signed,
            has_extents: incompat & incompat::EXTENTS != 0,
            blocks_per_group: blocks_per_group.into(),
            reserved_descriptor_blocks: if compat & compat::RESIZE_INODE == 0 { 0 } else { half(0xCE)?.into() },
            copies: Copies::of(bytes, features).ok_or_else(cut_off)?,
            has_journal: compat & compat::HAS_JOURNAL != 0,
            last_orphan: word(0xE8)?,
            orphan_file: if compat & compat::ORPHAN_FILE == 0 { 0 } else { word(0x280)? },
            own_inodes: own_inodes(bytes, compat),
            recorded_errors: recorded_errors(bytes),
            needs_replay,
            was_clean: !needs_replay && half(0x3A)? & 1 != 0,
        })
    }

    /// The maximum size of a file in bytes, mapped by extents or by block numbers.
    pub(crate) fn max_size(&self, has_extents: bool) -> u64 {
        self.max_sizes[usize::from(!has_extents)]
    }

    /// The byte offset of a block; an error if it is outside the filesystem.
    pub(crate) fn offset_of(&self, block: u64) -> io::Result<u64> {
        if block < self.blocks {
            Ok(block * self.block_bytes)
        } else {
            Err(damaged(format!("block {block} lies behind the filesystem's end")))
        }
    }

    /// Whether a group's bitmaps and inode table may lie at `start`: anywhere with `flex_bg`, otherwise inside the
    /// group.
    pub(crate) fn may_hold(&self, group: u64, start: u64, len: u64) -> bool {
        let (first, end) = if self.has_flexible_groups {
            (self.first_data_block, self.blocks)
        } else {
            let first = self.first_data_block + group * self.blocks_per_group;
            (first, self.blocks.min(first + self.blocks_per_group))
        };
        start >= first && start.checked_add(len).is_some_and(|behind| behind <= end)
    }

    /// Whether a group starts with a copy of the superblock and the descriptors: ext4 layout, "Layout".
    pub(crate) fn has_copy(&self, group: u64) -> bool {
        self.copies.has(group)
    }

    /// The block length as a `usize`.
    pub(crate) fn block_len(&self) -> usize {
        // At most 64 KiB.
        usize::try_from(self.block_bytes).unwrap_or(0)
    }
}

/// The maximum size of a file in bytes: 2^32 - 1 blocks with extents; 12 direct blocks and three indirect trees
/// with block numbers.
fn max_sizes(block_bytes: u64) -> [u64; 2] {
    let in_block = block_bytes / 4;
    // Blocks of at most 64 KiB: below 2^42 blocks and 2^58 bytes.
    let by_numbers = 12 + in_block + in_block.pow(2) + in_block.pow(3);
    [(block_bytes << 32) - block_bytes, block_bytes * by_numbers]
}

/// `s_hash_seed` and `s_flags`: bytes are signed unless `EXT2_FLAGS_UNSIGNED_HASH` is set.
fn hash_of(superblock: &[u8]) -> Option<([u32; 4], bool)> {
    let word = |at: usize| le32(superblock, at);
    let seed = [word(0xEC)?, word(0xF0)?, word(0xF4)?, word(0xF8)?];
    Some((seed, word(0x160)? & 0x2 == 0))
}

/// `s_usr_quota_inum`, `s_grp_quota_inum`, `s_prj_quota_inum` and `s_orphan_file_inum`.
fn own_inodes(bytes: &[u8], compat: u32) -> Vec<u32> {
    let places = [0x240, 0x244, 0x26C].into_iter().chain((compat & compat::ORPHAN_FILE != 0).then_some(0x280));
    places.filter_map(|at| le32(bytes, at)).filter(|number| *number != 0).collect()
}

/// Errors that the guest's kernel recorded in the superblock `bytes`, in words: `s_state`, `s_error_count`, and
/// time, inode, block and function of the first and the last error.
pub(in crate::reader) fn recorded_errors(bytes: &[u8]) -> Option<String> {
    let count = le32(bytes, 0x194)?;
    let is_marked = le16(bytes, 0x3A)? & STATE_ERRORS != 0;
    if count == 0 && !is_marked {
        return None;
    }
    let error = |time_at: usize, time_high_at: usize, ino_at: usize, block_at: usize, function_at: usize| {
        let seconds = u64::from(*bytes.get(time_high_at)?) << 32 | u64::from(le32(bytes, time_at)?);
        if seconds == 0 {
            return None;
        }
        let time = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?.format("%Y-%m-%d %H:%M:%S UTC");
        let function = bytes.get(function_at..function_at + 32)?.split(|byte| *byte == 0).next()?;
        let mut text = format!("{time} in {}", crate::shown::bytes(function));
        let (ino, block) = (le32(bytes, ino_at)?, u64::from(le32(bytes, block_at)?));
        if ino != 0 {
            text.push_str(&format!(", inode {ino}"));
        }
        if block != 0 {
            text.push_str(&format!(", block {block}"));
        }
        Some(text)
    };
    let mut text = if count == 0 {
        "the system that it belongs to has found errors in it".to_owned()
    } else {
        format!("the system that it belongs to has recorded {} in it", counted(count.into(), "error", "errors"))
    };
    if let Some(first) = error(0x198, 0x278, 0x19C, 0x1A0, 0x1A8) {
        text.push_str(&format!("; the first {first}"));
    }
    if let Some(last) = error(0x1CC, 0x279, 0x1D0, 0x1D8, 0x1E0) {
        text.push_str(&format!("; the last {last}"));
    }
    Some(format!("{text}; e2fsck there mends them"))
}

#[cfg(test)]
mod tests {
    use super::max_sizes;

    /// Expected values from the kernel's `ext4_max_size` and e2fsck: one block more is an invalid size.
    #[test]
    fn extents_count_one_block_less_than_their_numbers_have() {
        assert_eq!(max_sizes(1024)[0], (4 << 40) - 1024);
        assert_eq!(max_sizes(4096)[0], (16 << 40) - 4096);
    }
}
