//! btrfs (btrfs documentation, "On-disk format", "Superblock"): the error flag, and the copies at 64 MiB and 256 GiB.

use super::lines::Damage;
use crate::field::{array, le64};
use crate::layout::probe::btrfs::{MAGIC, SUPERBLOCK_AT, SUPERBLOCK_BYTES, is_checksum_right};
use crate::layout::window::Window;

const COPIES: [u64; 2] = [64 << 20, 256 << 30];
/// `BTRFS_SUPER_FLAG_ERROR`.
const FLAG_ERROR: u64 = 0x4;

pub(super) fn look_at(window: &Window<'_>, damage: &mut Damage) -> Option<()> {
    let first = window.read(SUPERBLOCK_AT, SUPERBLOCK_BYTES)?;
    if le64(&first, 0x38)? & FLAG_ERROR != 0 {
        damage.add(
            "the system that it belongs to has marked it as damaged; `btrfs scrub` and `btrfs device stats` there say where",
        );
    }
    let fsid: [u8; 16] = array(&first, 0x20)?;
    let generation = le64(&first, 0x48)?;
    // dev_item.total_bytes: the kernel writes each copy that lies wholly below that.
    let device_bytes = le64(&first, 0xd1)?;
    for at in COPIES.into_iter().filter(|at| at + (SUPERBLOCK_BYTES as u64) < device_bytes.min(window.len())) {
        let Some(copy) = window.read(at, SUPERBLOCK_BYTES) else { continue };
        let wrong = if copy.get(0x40..0x48)? != MAGIC || le64(&copy, 0x30)? != at {
            "is not there".to_owned()
        } else if is_checksum_right(&copy) == Some(false) {
            "has a wrong checksum".to_owned()
        } else if array(&copy, 0x20)? != fsid {
            "belongs to another filesystem".to_owned()
        } else {
            // The first copy is written before the others; fsync writes only the first, with the same
            // generation.
            let there = le64(&copy, 0x48)?;
            if there.abs_diff(generation) <= 1 {
                continue;
            }
            format!("is of generation {there}, and the first of {generation}")
        };
        damage.add(format!("the copy of its superblock at byte {at} {wrong}; `btrfs check` there says more"));
    }
    Some(())
}
