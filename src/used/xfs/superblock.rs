//! The superblock.

use crate::field::{array, be16, be32, be64};
use crate::outside::BlockRead;
use crate::units::ByteRange;
use crate::used::map::Whole;

const GROUPS_MAX: u32 = 1 << 16;
/// FTYPE, SPINODES, META_UUID, BIGTIME, NREXT64, EXCHRANGE, PARENT: with these free space is what it always was.
const KNOWN_INCOMPAT: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80;
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDSREPAIR: u32 = 0x10;
/// `XFS_SB_VERSION_LOGV2BIT`
const LOG_V2: u16 = 0x400;
/// FINOBT, RMAPBT, REFLINK, INOBTCNT.
const KNOWN_RO_COMPAT: u32 = 0xF;

#[derive(PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) is_v5: bool,
    pub(super) is_log_v2: bool,
    /// Features that a log which is to be replayed needs.
    pub(super) log_incompat: u32,
    pub(super) block_bytes: u64,
    pub(super) sector_bytes: u64,
    pub(super) blocks: u64,
    pub(super) groups: u32,
    pub(super) group_blocks: u64,
    group_blocks_log: u32,
    pub(super) inode_bytes: u64,
    inodes_in_block_log: u32,
    root_inode: u64,
    /// A block number with the group in its upper bits.
    pub(super) log_start: u64,
    pub(super) log_blocks: u64,
    pub(super) metadata_uuid: [u8; 16],
    pub(super) uuid: [u8; 16],
}

impl Superblock {
    pub(super) fn read(blocks: &dyn BlockRead) -> Result<Self, Whole> {
        let mut sb = vec![0; 512];
        blocks.read_at(0, &mut sb)?;
        let is_v5 = be16(&sb, 100).is_some_and(|version| version & 0xF == 5);
        if is_v5 {
            let word = |at: usize| be32(&sb, at).unwrap_or(u32::MAX);
            let (incompat, ro_compat) = (word(216), word(212));
            if incompat & INCOMPAT_NEEDSREPAIR != 0 {
                return Err(Whole::in_doubt("its own system has marked it as damaged"));
            }
            let (unknown, unknown_ro) = (incompat & !KNOWN_INCOMPAT, ro_compat & !KNOWN_RO_COMPAT);
            if unknown != 0 || unknown_ro != 0 {
                return Err(Whole::no_map(format!(
                    "it has the features {unknown:#x} (incompat) and {unknown_ro:#x} (ro_compat), which may change what \
                     free means"
                )));
            }
        }
        if be64(&sb, 16) != Some(0) {
            return Err(Whole::no_map("it has a part on a real-time device, of which no map is read"));
        }
        let found = Self::decode(&sb, is_v5).ok_or_else(|| Whole::in_doubt("its superblock makes no sense"))?;
        if found.blocks.checked_mul(found.block_bytes).is_none_or(|end| end > blocks.len_bytes()) {
            return Err(Whole::in_doubt("it is longer than its region"));
        }
        if found.log_start == 0 {
            return Err(Whole::no_map("its log is on another device"));
        }
        Ok(found)
    }

    fn decode(sb: &[u8], is_v5: bool) -> Option<Self> {
        let byte = |at: usize| sb.get(at).copied().map(u32::from);
        let uuid = array(sb, 32)?;
        let has_other_uuid = is_v5 && be32(sb, 216)? & INCOMPAT_META_UUID != 0;
        let found = Self {
            is_v5,
            is_log_v2: be16(sb, 100)? & LOG_V2 != 0,
            log_incompat: if is_v5 { be32(sb, 220)? } else { 0 },
            block_bytes: be32(sb, 4)?.into(),
            sector_bytes: be16(sb, 102)?.into(),
            blocks: be64(sb, 8)?,
            groups: be32(sb, 88)?,
            group_blocks: be32(sb, 84)?.into(),
            group_blocks_log: byte(124)?,
            inode_bytes: be16(sb, 104)?.into(),
            inodes_in_block_log: byte(123)?,
            root_inode: be64(sb, 56)?,
            log_start: be64(sb, 48)?,
            log_blocks: be32(sb, 96)?.into(),
            metadata_uuid: if has_other_uuid { array(sb, 248)? } else { uuid },
            uuid,
        };
        let is_right = sb.starts_with(b"XFSB")
            && matches!(be16(sb, 100)? & 0xF, 4 | 5)
            && byte(126)? == 0
            && found.block_bytes.is_power_of_two()
            && (512..=65536).contains(&found.block_bytes)
            && found.sector_bytes.is_power_of_two()
            && (512..=32768).contains(&found.sector_bytes)
            && found.sector_bytes <= found.block_bytes
            && found.inode_bytes.is_power_of_two()
            && (256..=2048).contains(&found.inode_bytes)
            && found.inodes_in_block_log <= 8
            && found.inode_bytes << found.inodes_in_block_log == found.block_bytes
            && found.group_blocks_log < 32
            && found.group_blocks > 8
            && found.group_blocks <= 1 << found.group_blocks_log
            && (1..=GROUPS_MAX).contains(&found.groups)
            && found.blocks.div_ceil(found.group_blocks) == u64::from(found.groups);
        is_right.then_some(found)
    }

    /// How many blocks a group has: the last one may be shorter.
    pub(super) fn blocks_in(&self, group: u32) -> u64 {
        self.blocks.saturating_sub(u64::from(group) * self.group_blocks).min(self.group_blocks)
    }

    /// Whether a buffer of a log is the superblock, one of a group's first two headers, or, where `can_be_tree`, one block.
    pub(super) fn is_header_or_tree(&self, range: ByteRange, can_be_tree: bool) -> bool {
        let in_group = range.start % (self.group_blocks * self.block_bytes);
        let is_header = range.len == self.sector_bytes
            && (range.start == 0 || in_group == self.sector_bytes || in_group == 2 * self.sector_bytes);
        let is_block = range.len == self.block_bytes && in_group.is_multiple_of(self.block_bytes);
        is_header || can_be_tree && is_block
    }

    /// The bytes of `count` blocks, counted from the start of the filesystem without gaps between groups.
    pub(super) fn bytes_of(&self, first: u64, count: u64) -> ByteRange {
        ByteRange::new(first.saturating_mul(self.block_bytes), count.saturating_mul(self.block_bytes))
    }

    /// A block number with the group in its upper bits as one that is counted without gaps.
    pub(super) fn block_of(&self, number: u64) -> u64 {
        let in_group = number & ((1 << self.group_blocks_log) - 1);
        (number >> self.group_blocks_log).saturating_mul(self.group_blocks).saturating_add(in_group)
    }

    /// The blocks of inodes of a group from number `first` on.
    pub(super) fn inode_blocks(&self, first: u32, count: u64) -> (u64, u64) {
        let bytes = count * self.inode_bytes;
        (u64::from(first) >> self.inodes_in_block_log, bytes.div_ceil(self.block_bytes))
    }

    pub(super) fn root_inode_blocks(&self) -> (u64, u64) {
        (self.block_of(self.root_inode >> self.inodes_in_block_log), 1)
    }
}
