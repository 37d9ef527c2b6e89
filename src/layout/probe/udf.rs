//! UDF (ECMA-167, parts 2 and 3): the volume recognition sequence, and the anchor at block 256.

use super::signature::Signature;
use crate::field::{le16, le32};
use crate::layout::HoldsKind;
use crate::layout::window::Window;

const SEQUENCE_AT: u64 = 32 << 10;
/// The maximum number of descriptors in the recognition sequence, as in blkid.
const DESCRIPTORS_MAX: u64 = 64;
const BLOCK_SIZES: [u64; 4] = [512, 1024, 2048, 4096];
const TAG_ANCHOR: u16 = 2;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let block_bytes = BLOCK_SIZES.into_iter().find(|block_bytes| has_anchor(window, *block_bytes))?;
    // Descriptors have 2048 bytes, or a block if that is larger.
    let step = block_bytes.max(2048);
    for index in 0..DESCRIPTORS_MAX {
        let at = SEQUENCE_AT + index * step;
        let identifier = window.read(at + 1, 5)?;
        match identifier.as_slice() {
            b"NSR02" | b"NSR03" => return Some(Signature::opaque(HoldsKind::Filesystem, "udf", at + 1)),
            b"BEA01" | b"CD001" | b"CDW02" | b"BOOT2" => {}
            _ => return None,
        }
    }
    None
}

/// Checks the tag's identifier, its checksum (the sum of the other fifteen bytes), and its location.
fn has_anchor(window: &Window<'_>, block_bytes: u64) -> bool {
    let Some(tag) = window.read(256 * block_bytes, 16) else { return false };
    let sum = tag.iter().enumerate().filter(|(at, _)| *at != 4).fold(0_u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    le16(&tag, 0) == Some(TAG_ANCHOR) && tag[4] == sum && le32(&tag, 12) == Some(256)
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};

    #[test]
    fn sequence_and_anchor_are_both_needed() {
        let mut disk = vec![0; 1 << 20];
        disk[32769..32774].copy_from_slice(b"BEA01");
        disk[32769 + 2048..32774 + 2048].copy_from_slice(b"NSR03");
        assert_eq!(probe(&Window::new(&disk)), None);
        let anchor = 256 * 512;
        (disk[anchor], disk[anchor + 13], disk[anchor + 4]) = (2, 1, 3);
        assert!(probe(&Window::new(&disk)).is_some());
        disk[anchor + 4] = 4;
        assert_eq!(probe(&Window::new(&disk)), None);
    }
}
