//! ISO 9660 (ECMA-119, section 8.4): the primary volume descriptor in sector 16.

use super::signature::Signature;
use crate::field::{le16, le32};
use crate::layout::HoldsKind;
use crate::layout::text::label;
use crate::layout::window::Window;

const DESCRIPTOR_AT: u64 = 16 * 2048;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let descriptor = window.read(DESCRIPTOR_AT, 2048)?;
    // Type 1 (primary), "CD001", version 1.
    if descriptor.get(..7)? != b"\x01CD001\x01" {
        return None;
    }
    let block_bytes = u64::from(le16(&descriptor, 128)?);
    if !matches!(block_bytes, 512 | 1024 | 2048) {
        return None;
    }
    let blocks = u64::from(le32(&descriptor, 80)?);
    // Creation and modification time: sixteen digits and a zone. blkid takes the modification time as the UUID
    // if it is set.
    let date = |at: usize| {
        let digits = std::str::from_utf8(descriptor.get(at..at + 16)?).ok()?;
        let is_set = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0');
        is_set.then(|| {
            // All sixteen are ASCII digits.
            let part = |from: usize, to: usize| digits[from..to].to_owned();
            [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 16)].join("-")
        })
    };
    Some(
        Signature::opaque(HoldsKind::Filesystem, "iso9660", DESCRIPTOR_AT + 1)
            .with_uuid(date(830).or_else(|| date(813)))
            .with_label(label(descriptor.get(40..72)?))
            .with_size((blocks > 0).then_some(blocks * block_bytes), window),
    )
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 40 * 2048];
        let descriptor = &mut disk[16 * 2048..17 * 2048];
        descriptor[..7].copy_from_slice(b"\x01CD001\x01");
        descriptor[40..72].copy_from_slice(b"CONFIG-2                        ");
        descriptor[80] = 40;
        descriptor[129] = 8;
        descriptor[813..829].copy_from_slice(b"2026112011363900");
        disk
    }

    #[test]
    fn a_sound_descriptor_is_found() {
        let found = probe(&Window::new(&disk())).expect("found");
        assert_eq!(found.holds.label.as_deref(), Some("CONFIG-2"));
        assert_eq!(found.holds.uuid.as_deref(), Some("2026-11-20-11-36-39-00"));
        assert!(found.doubts.is_empty());
    }

    #[test]
    fn one_wrong_field_each() {
        for at in [0, 1, 6, 129] {
            let mut disk = disk();
            disk[16 * 2048 + at] ^= 0x40;
            assert_eq!(probe(&Window::new(&disk)), None, "{at}");
        }
        let mut longer = disk();
        longer[16 * 2048 + 80] = 41;
        assert_eq!(probe(&Window::new(&longer)).expect("found").doubts.len(), 1);
    }
}
