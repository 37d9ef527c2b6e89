//! Restores a RAID1 member: the superblock from the manifest, changed so that this is the array's only member. An
//! old member that reappears holds other data, and must never be taken for a copy of this one. It is therefore
//! marked as failed, the event count of this one is far ahead, and there is no bitmap for a partial resync (the
//! kernel's include/uapi/linux/raid/md_p.h).

use crate::field::{le16, le32, le64};
use crate::layout::probe::mdraid::{checksum_0_90, checksum_1};

/// How far the new event count is ahead of the old members'.
const EVENTS_AHEAD: u64 = 1 << 24;
const MD_SB_MAGIC: u32 = 0xa92b_4efc;
const ROLE_MAX: u16 = 0xff00;
const ROLE_FAULTY: u16 = 0xfffe;
/// State of a descriptor in version 0.90: faulty and removed.
const STATE_GONE: u32 = 0b1001;
const DESCRIPTOR_WORDS: usize = 32;
const DESCRIPTORS: usize = 27;

/// The superblock of an array that has lost all members except this one.
pub(super) fn alone(kept: &[u8]) -> Option<Vec<u8>> {
    if le32(kept, 0)? != MD_SB_MAGIC {
        return None;
    }
    match le32(kept, 4)? {
        1 => version_1(kept),
        0 => version_0_90(kept),
        _ => None,
    }
}

fn version_1(kept: &[u8]) -> Option<Vec<u8>> {
    let mut sb = kept.to_vec();
    let roles = usize::try_from(le32(&sb, 220)?).ok()?;
    let end = roles.checked_mul(2)?.checked_add(256).filter(|end| *end <= sb.len())?;
    let own = usize::try_from(le32(&sb, 160)?).ok().filter(|own| *own < roles)?;
    if le32(&sb, 72)? != 1 || le16(&sb, 256 + own * 2)? >= ROLE_MAX {
        return None;
    }
    // feature_map, bitmap_offset, bad block list: none is kept.
    sb[8..12].fill(0);
    sb[96..100].fill(0);
    sb[185..192].fill(0);
    let events = le64(&sb, 200)?.saturating_add(EVENTS_AHEAD);
    sb[200..208].copy_from_slice(&events.to_le_bytes());
    // resync_offset: in sync.
    sb[208..216].fill(0xff);
    for role in (0..roles).filter(|role| *role != own) {
        let at = 256 + role * 2;
        if le16(&sb, at)? < ROLE_MAX {
            sb[at..at + 2].copy_from_slice(&ROLE_FAULTY.to_le_bytes());
        }
    }
    let sum = checksum_1(sb.get(..end)?)?;
    sb[216..220].copy_from_slice(&sum.to_le_bytes());
    Some(sb)
}

fn version_0_90(kept: &[u8]) -> Option<Vec<u8>> {
    let mut sb = kept.get(..4096)?.to_vec();
    let word = |sb: &[u8], index: usize| le32(sb, index * 4);
    if word(&sb, 2)? != 90 || word(&sb, 7)? != 1 {
        return None;
    }
    let raid_disks = word(&sb, 10)?;
    let own = word(&sb, 992 + 3)?;
    if raid_disks as usize > DESCRIPTORS || own >= raid_disks {
        return None;
    }
    let mut set = |index: usize, value: u32| sb[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
    // state: clean, without a bitmap; the numbers of active, working, failed and spare disks, and of all.
    for (index, value) in [(33, 1), (34, 1), (35, 1), (36, raid_disks - 1), (37, 0), (9, 1), (43, 0)] {
        set(index, value);
    }
    // events and cp_events, low and high words: above those of any old member.
    for index in [40, 42] {
        set(index, 1);
    }
    for disk in 0..DESCRIPTORS {
        let number = u32::try_from(disk).ok()?;
        if number == own {
            continue;
        }
        let at = 128 + disk * DESCRIPTOR_WORDS;
        let values = if number < raid_disks { [number, 0, 0, number, STATE_GONE] } else { [0; 5] };
        for (index, value) in values.into_iter().enumerate() {
            set(at + index, value);
        }
    }
    let sum = checksum_0_90(&sb)?;
    sb[38 * 4..39 * 4].copy_from_slice(&sum.to_le_bytes());
    Some(sb)
}
