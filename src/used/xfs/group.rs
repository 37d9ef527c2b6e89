//! One allocation group: its headers, what is free in it, and where its inodes are.

use super::checksum::has_right_checksum;
use super::log::Replayed;
use super::superblock::Superblock;
use super::tree::{Kind, Tree};
use crate::field::{array, be16, be32};
use crate::outside::BlockRead;
use crate::used::map::Whole;

const BY_BLOCK: Kind = Kind { name: "free blocks by place", magics: [b"ABTB", b"AB3B"], record_bytes: 8, key_bytes: 8 };
const BY_COUNT: Kind =
    Kind { name: "free blocks by length", magics: [b"ABTC", b"AB3C"], record_bytes: 8, key_bytes: 8 };
const INODES: Kind = Kind { name: "inodes", magics: [b"IABT", b"IAB3"], record_bytes: 16, key_bytes: 4 };
const INODES_IN_CHUNK: u64 = 64;
/// The number of inodes for each bit in the hole mask of a sparse chunk.
const INODES_IN_HOLE: u64 = 4;

pub(super) struct Group {
    pub(super) blocks: u64,
    /// Free extents in ascending order: first block in the group, and count.
    pub(super) free: Vec<(u64, u64)>,
}

/// More free extents than this in one group, 32 MiB of them, are not gone through.
const EXTENTS_MAX: usize = 1 << 21;

pub(super) fn read(blocks: &Replayed<'_>, xfs: &Superblock, number: u32) -> Result<Group, Whole> {
    let damaged = |what: &str| Whole::in_doubt(format!("the {what} of group {number} makes no sense"));
    let start = xfs.bytes_of(u64::from(number) * xfs.group_blocks, 1).start;
    let len = usize::try_from(xfs.sector_bytes).map_err(|_| damaged("header"))?;
    let header = |index: u64, magic: &[u8; 4], uuid_at: usize, crc_at: usize, name: &str| -> Result<Vec<u8>, Whole> {
        let mut sector = vec![0; len];
        let at = start + index * xfs.sector_bytes;
        blocks.read_at(at, &mut sector)?;
        let is_right = sector.starts_with(magic)
            && be32(&sector, 8) == Some(number)
            && be32(&sector, 12).map(u64::from) == Some(xfs.blocks_in(number))
            && (!xfs.is_v5
                || (blocks.has_logged(at, len) || has_right_checksum(&sector, crc_at))
                    && array(&sector, uuid_at) == Some(xfs.metadata_uuid));
        if is_right { Ok(sector) } else { Err(damaged(name)) }
    };
    let agf = header(1, b"XAGF", 64, 216, "header of free space")?;
    let agi = header(2, b"XAGI", 296, 312, "header of inodes")?;
    let of_agf = |at: usize| be32(&agf, at).ok_or_else(|| damaged("header of free space"));
    let of_agi = |at: usize| be32(&agi, at).ok_or_else(|| damaged("header of inodes"));
    let tree = |kind: &'static Kind, root: u32, levels: u32| Tree { blocks, xfs, group: number, kind, root, levels };

    let all = xfs.blocks_in(number);
    let mut group = Group { blocks: all, free: Vec::new() };
    // What must be used: headers, trees, inodes.
    let mut used = vec![(0, (4 * xfs.sector_bytes).div_ceil(xfs.block_bytes))];
    let (mut end, mut sum, mut by_place) = (0, 0_u64, 0_u64);
    let places = tree(&BY_BLOCK, of_agf(16)?, of_agf(28)?);
    let leaves = places.for_each(|record| {
        let (first, count) = extent(record).ok_or_else(|| places.damaged())?;
        if first < end || count == 0 || first + count > all || group.free.len() >= EXTENTS_MAX {
            return Err(places.damaged());
        }
        end = first + count;
        sum += count;
        by_place = by_place.wrapping_add(mixed(first, count));
        group.free.push((first, count));
        Ok(())
    })?;
    used.extend(leaves.into_iter().map(|block| (block, 1)));
    let lengths = tree(&BY_COUNT, of_agf(20)?, of_agf(32)?);
    let (mut records, mut by_length) = (0, 0_u64);
    let leaves = lengths.for_each(|record| {
        let (first, count) = extent(record).ok_or_else(|| lengths.damaged())?;
        records += 1;
        by_length = by_length.wrapping_add(mixed(first, count));
        Ok(())
    })?;
    used.extend(leaves.into_iter().map(|block| (block, 1)));
    if sum != u64::from(of_agf(52)?) || records != group.free.len() || by_place != by_length {
        return Err(Whole::in_doubt(format!(
            "the two trees of free blocks of group {number}, or its counts, contradict each other"
        )));
    }
    let inodes = tree(&INODES, of_agi(20)?, of_agi(24)?);
    let leaves = inodes.for_each(|record| {
        let (first, holes) = be32(record, 0).zip(be16(record, 4)).ok_or_else(|| inodes.damaged())?;
        if holes == 0 {
            used.push(xfs.inode_blocks(first, INODES_IN_CHUNK));
            return Ok(());
        }
        // A count of free inodes, at most 64, has its upper half there where chunks cannot have holes.
        for piece in 0..INODES_IN_CHUNK / INODES_IN_HOLE {
            if holes >> piece & 1 == 0 {
                let inode = u64::from(first) + piece * INODES_IN_HOLE;
                let inode = u32::try_from(inode).map_err(|_| inodes.damaged())?;
                used.push(xfs.inode_blocks(inode, INODES_IN_HOLE));
            }
        }
        Ok(())
    })?;
    used.extend(leaves.into_iter().map(|block| (block, 1)));
    let is_free = |block: u64| {
        let found = group.free.partition_point(|(first, count)| first + count <= block);
        group.free.get(found).is_some_and(|(first, _)| *first <= block)
    };
    for (first, count) in used {
        let end = first.checked_add(count).filter(|end| *end <= all).ok_or_else(|| inodes.damaged())?;
        if let Some(block) = (first..end).find(|block| is_free(*block)) {
            return Err(Whole::in_doubt(format!(
                "block {block} of group {number} holds inodes or a tree, and is free"
            )));
        }
    }
    Ok(group)
}

fn extent(record: &[u8]) -> Option<(u64, u64)> {
    Some((be32(record, 0)?.into(), be32(record, 4)?.into()))
}

/// A number of an extent, so that the sums of two lists differ where the lists do (the finaliser of SplitMix64).
fn mixed(first: u64, count: u64) -> u64 {
    let mut mixed = (first << 32 | count).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
