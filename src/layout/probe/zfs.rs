//! ZFS (ZFS On-Disk Specification, chapter 1): four labels of 256 KiB, two at each end, each with an array of
//! uberblocks from 128 KiB.

use super::signature::Signature;
use crate::field::{be64, le64};
use crate::layout::HoldsKind;
use crate::layout::window::Window;

const LABEL_BYTES: u64 = 256 << 10;
const UBERBLOCKS_AT: u64 = 128 << 10;
const UBERBLOCK_MAGIC: u64 = 0x00ba_b10c;
/// The minimum distance between uberblocks.
const UBERBLOCK_STEP: usize = 1024;
/// A single match may be content of another filesystem.
const UBERBLOCKS_MIN: usize = 4;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let end = window.len() / LABEL_BYTES * LABEL_BYTES;
    let labels = [Some(0), Some(LABEL_BYTES), end.checked_sub(2 * LABEL_BYTES), end.checked_sub(LABEL_BYTES)];
    for label_at in labels.into_iter().flatten() {
        let at = label_at + UBERBLOCKS_AT;
        let Some(array) = window.read(at, 128 << 10) else { continue };
        let uberblocks = array
            .chunks_exact(UBERBLOCK_STEP)
            .filter(|block| le64(block, 0) == Some(UBERBLOCK_MAGIC) || be64(block, 0) == Some(UBERBLOCK_MAGIC))
            .count();
        if uberblocks >= UBERBLOCKS_MIN {
            return Some(Signature::opaque(HoldsKind::Unknown, "zfs_member", at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};

    #[test]
    fn some_uberblocks_in_any_label_are_needed() {
        let with = |at: usize, count: usize| {
            let mut disk = vec![0; 4 << 20];
            for index in 0..count {
                disk[at + index * 1024..][..8].copy_from_slice(&0x00ba_b10c_u64.to_le_bytes());
            }
            probe(&Window::new(&disk)).is_some()
        };
        assert!(with(128 << 10, 4));
        assert!(with((4 << 20) - (128 << 10), 4));
        assert!(!with(128 << 10, 3));
        assert!(!with(1 << 20, 9));
    }
}
