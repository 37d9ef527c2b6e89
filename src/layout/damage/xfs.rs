//! XFS (XFS Algorithms & Data Structures, 3rd edition, "Superblocks", "AG Free Space Management", "AG Inode
//! Management"): the superblock and the first four sectors of each allocation group.
//!
//! A log that needs a replay does not matter here: each of these sectors is written as a whole, with its checksum,
//! and shows the state after some finished transaction.

use super::lines::Damage;
use crate::field::{array, be16, be32, be64, crc32c_without, le32};
use crate::layout::window::Window;

/// Each group costs one read, and a grown filesystem has many groups.
const GROUPS_MAX: u32 = 2048;

const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDSREPAIR: u32 = 0x10;
/// The smallest inode has 256 bytes and the largest block 64 KiB.
const INODES_IN_BLOCK_LOG_MAX: u8 = 8;

/// What the headers of all groups must agree with.
struct Superblock {
    is_v5: bool,
    sector_bytes: usize,
    group_blocks: u32,
    groups: u32,
    group_bytes: u64,
    uuid: [u8; 16],
    metadata_uuid: [u8; 16],
}

pub(super) fn look_at(window: &Window<'_>, damage: &mut Damage) -> Option<()> {
    let sb = window.read(0, 512)?;
    let is_v5 = be16(&sb, 100)? & 0xf == 5;
    let incompat = if is_v5 { be32(&sb, 216)? } else { 0 };
    if incompat & INCOMPAT_NEEDSREPAIR != 0 {
        damage.add(
            "the system that it belongs to has marked it as damaged (needsrepair): no kernel mounts it before xfs_repair \
             there mends it",
        );
    }
    if *sb.get(126)? != 0 {
        damage.add("mkfs.xfs, or a restore of it, was interrupted (sb_inprogress): no kernel mounts it");
    } else {
        counters(&sb, damage)?;
    }
    let uuid = array(&sb, 32)?;
    let superblock = Superblock {
        is_v5,
        sector_bytes: usize::from(be16(&sb, 102)?),
        group_blocks: be32(&sb, 84)?,
        groups: be32(&sb, 88)?,
        group_bytes: u64::from(be32(&sb, 84)?) * u64::from(be32(&sb, 4)?),
        uuid,
        metadata_uuid: if incompat & INCOMPAT_META_UUID == 0 { uuid } else { array(&sb, 248)? },
    };
    for group in 0..superblock.groups.min(GROUPS_MAX) {
        let at = u64::from(group).checked_mul(superblock.group_bytes)?;
        if at >= window.len() {
            break;
        }
        let Some(sectors) = window.read(at, superblock.sector_bytes * 4) else { continue };
        superblock.group(group, &sectors, damage);
    }
    Some(())
}

/// `sb_icount`, `sb_ifree` and `sb_fdblocks` are exact only after an unmount. The kernel refuses to write a
/// superblock that meets one of these conditions (`xfs_validate_sb_write`), and silently corrects one that it
/// reads.
fn counters(sb: &[u8], damage: &mut Damage) -> Option<()> {
    let (inodes, free_inodes, free_blocks, blocks) = (be64(sb, 128)?, be64(sb, 136)?, be64(sb, 144)?, be64(sb, 8)?);
    let most = blocks.saturating_mul(1 << (*sb.get(123)?).min(INODES_IN_BLOCK_LOG_MAX));
    if free_blocks > blocks {
        damage.add(format!("its superblock counts {free_blocks} free blocks of {blocks}; xfs_repair there mends it"));
    }
    if free_inodes > inodes || inodes > most {
        damage.add(format!("its superblock counts {free_inodes} free inodes of {inodes}; xfs_repair there mends it"));
    }
    Some(())
}

impl Superblock {
    fn group(&self, group: u32, sectors: &[u8], damage: &mut Damage) {
        let checks: [(&str, Option<&str>); 4] = [
            ("copy of the superblock", if group == 0 { None } else { self.copy(sectors) }),
            ("list of free space (AGF)", self.sector(sectors, 1).and_then(|agf| self.free_space(group, agf))),
            ("list of inodes (AGI)", self.sector(sectors, 2).and_then(|agi| self.inodes(group, agi))),
            ("reserve of free blocks (AGFL)", self.sector(sectors, 3).and_then(|agfl| self.reserve(group, agfl))),
        ];
        for (what, wrong) in checks {
            if let Some(wrong) = wrong {
                let at = u64::from(group) * self.group_bytes;
                damage.add(format!(
                    "allocation group {group} (byte {at}): its {what} {wrong}; xfs_repair there mends it"
                ));
            }
        }
    }

    fn sector<'a>(&self, sectors: &'a [u8], index: usize) -> Option<&'a [u8]> {
        sectors.get(index * self.sector_bytes..(index + 1) * self.sector_bytes)
    }

    /// Whether the checksum at `at` is wrong. It covers the sector with the checksum field zeroed.
    fn has_wrong_checksum(&self, sector: &[u8], at: usize) -> bool {
        if !self.is_v5 {
            return false;
        }
        crc32c_without(!0, sector, at..at + 4).is_none_or(|crc| le32(sector, at) != Some(!crc))
    }

    /// Apart from counters and flags, the copies differ only after an interrupted mkfs.
    fn copy(&self, sectors: &[u8]) -> Option<&'static str> {
        let copy = self.sector(sectors, 0)?;
        if copy.get(..4)? != b"XFSB" {
            Some("is not there")
        } else if self.has_wrong_checksum(copy, 224) {
            Some("has a wrong checksum")
        } else if array(copy, 32)? != self.uuid || be32(copy, 84)? != self.group_blocks {
            Some("belongs to another filesystem")
        } else {
            None
        }
    }

    /// `struct xfs_agf`: magic 0, version 4, seqno 8, length 12, roots 16 and 20, levels 28 and 32, freeblks 52, longest
    /// 56, uuid 64, crc 216.
    fn free_space(&self, group: u32, agf: &[u8]) -> Option<&'static str> {
        if let Some(wrong) = self.head(group, agf, *b"XAGF", (64, 216)) {
            return Some(wrong);
        }
        let (length, free, longest) = (be32(agf, 12)?, be32(agf, 52)?, be32(agf, 56)?);
        let is_inside = |at: usize| be32(agf, at).is_some_and(|block| block > 0 && block < self.group_blocks);
        let levels = [be32(agf, 28)?, be32(agf, 32)?];
        let makes_sense = free <= length
            && longest <= free
            && is_inside(16)
            && is_inside(20)
            && levels.into_iter().all(|levels| (1..=9).contains(&levels));
        if makes_sense { None } else { Some("makes no sense") }
    }

    /// `struct xfs_agi`: magic 0, version 4, seqno 8, length 12, count 16, root 20, level 24, freecount 28, uuid 296, crc
    /// 312.
    fn inodes(&self, group: u32, agi: &[u8]) -> Option<&'static str> {
        if let Some(wrong) = self.head(group, agi, *b"XAGI", (296, 312)) {
            return Some(wrong);
        }
        let (count, root, level, free) = (be32(agi, 16)?, be32(agi, 20)?, be32(agi, 24)?, be32(agi, 28)?);
        let makes_sense = free <= count && (1..self.group_blocks).contains(&root) && (1..=9).contains(&level);
        if makes_sense { None } else { Some("makes no sense") }
    }

    /// `struct xfs_agfl`, which has a header since version 5: magic 0, seqno 4, uuid 8, crc 32.
    fn reserve(&self, group: u32, agfl: &[u8]) -> Option<&'static str> {
        if !self.is_v5 {
            return None;
        }
        if agfl.get(..4)? != b"XAFL" {
            Some("is not there")
        } else if self.has_wrong_checksum(agfl, 32) {
            Some("has a wrong checksum")
        } else if be32(agfl, 4)? != group || array(agfl, 8)? != self.metadata_uuid {
            Some("belongs to another group or filesystem")
        } else {
            None
        }
    }

    /// The fields common to AGF and AGI.
    fn head(
        &self,
        group: u32,
        sector: &[u8],
        magic: [u8; 4],
        (uuid_at, crc_at): (usize, usize),
    ) -> Option<&'static str> {
        if array(sector, 0)? != magic || be32(sector, 4)? != 1 {
            Some("is not there")
        } else if self.has_wrong_checksum(sector, crc_at) {
            Some("has a wrong checksum")
        } else if be32(sector, 8)? != group || self.is_v5 && array(sector, uuid_at)? != self.metadata_uuid {
            Some("belongs to another group or filesystem")
        } else if !(1..=self.group_blocks).contains(&be32(sector, 12)?) {
            Some("has a length that no group can have")
        } else {
            None
        }
    }
}
