//! LUKS1 (LUKS On-Disk Format Specification 1.2.3, figure 1) and LUKS2 (LUKS2 On-Disk Format Specification 1.1.0,
//! section 2.1).

use sha2::{Digest, Sha256};

use super::signature::Signature;
use crate::field::{be16, be64};
use crate::layout::HoldsKind;
use crate::layout::text::label;
use crate::layout::window::Window;

const HEADER_BYTES: usize = 4096;
/// The maximum length of a LUKS2 header with its JSON area, as in the specification.
const LUKS2_AREA_BYTES_MAX: u64 = 4 << 20;
/// Possible offsets of LUKS2's second header: the offset equals the first header's size.
const SECONDARY_AT: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    if let Some(header) = window.read(0, HEADER_BYTES)
        && header.starts_with(b"LUKS\xba\xbe")
    {
        return decode(window, &header, 0);
    }
    SECONDARY_AT.iter().find_map(|at| {
        let header = window.read(*at, HEADER_BYTES)?;
        // hdr_offset must match, since a magic this far in may be ordinary content.
        if !header.starts_with(b"SKUL\xba\xbe") || be64(&header, 256)? != *at {
            return None;
        }
        Some(decode(window, &header, *at)?.doubt("its first header is missing; the second is there"))
    })
}

fn decode(window: &Window<'_>, header: &[u8], at: u64) -> Option<Signature> {
    let version = be16(header, 6)?;
    let found = Signature::opaque(HoldsKind::Luks, "crypto_LUKS", at)
        .with_uuid(label(header.get(168..208)?))
        .with_version(version.to_string());
    match version {
        1 => Some(found),
        2 => {
            let wrong = luks2_checksum_is_wrong(window, header, at).unwrap_or(true);
            Some(found.with_label(label(header.get(24..72)?)).doubt_if(wrong, "its header's checksum is wrong"))
        }
        _ => None,
    }
}

/// The checksum covers header and JSON area with the checksum field zeroed. Only SHA-256, which all tools write, is
/// verified.
fn luks2_checksum_is_wrong(window: &Window<'_>, header: &[u8], at: u64) -> Option<bool> {
    let hdr_size = be64(header, 8)?;
    if !(HEADER_BYTES as u64..=LUKS2_AREA_BYTES_MAX).contains(&hdr_size) {
        return Some(true);
    }
    if label(header.get(72..104)?).as_deref() != Some("sha256") {
        return Some(false);
    }
    let mut area = window.read(at, usize::try_from(hdr_size).ok()?)?;
    let stored = area.get(448..480)?.to_vec();
    area.get_mut(448..512)?.fill(0);
    Some(Sha256::digest(&area).as_slice() != stored.as_slice())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::{Window, probe};

    fn luks2() -> Vec<u8> {
        let mut disk = vec![0; 64 << 10];
        disk[..6].copy_from_slice(b"LUKS\xba\xbe");
        disk[7] = 2;
        disk[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
        disk[24..28].copy_from_slice(b"safe");
        disk[72..78].copy_from_slice(b"sha256");
        disk[168..171].copy_from_slice(b"u-1");
        let digest = Sha256::digest(&disk[..0x4000]);
        disk[448..480].copy_from_slice(&digest);
        disk
    }

    #[test]
    fn a_sound_header_is_found() {
        let found = probe(&Window::new(&luks2())).expect("found");
        assert_eq!(found.holds.version.as_deref(), Some("2"));
        assert_eq!(found.holds.uuid.as_deref(), Some("u-1"));
        assert_eq!(found.holds.label.as_deref(), Some("safe"));
        assert!(found.doubts.is_empty(), "{:?}", found.doubts);
    }

    #[test]
    fn one_wrong_field_each() {
        for at in [0, 7] {
            let mut disk = luks2();
            disk[at] = 9;
            assert_eq!(probe(&Window::new(&disk)), None, "{at}");
        }
        for at in [8, 15, 0x3000] {
            let mut disk = luks2();
            disk[at] ^= 1;
            assert_eq!(probe(&Window::new(&disk)).expect("found").doubts.len(), 1, "{at}");
        }
    }

    #[test]
    fn the_second_header_is_used_without_the_first() {
        let mut disk = luks2();
        let first = disk[..0x4000].to_vec();
        disk[0x4000..0x8000].copy_from_slice(&first);
        disk[0x4000..0x4004].copy_from_slice(b"SKUL");
        disk[0x4000 + 256..0x4000 + 264].copy_from_slice(&0x4000_u64.to_be_bytes());
        disk[..8].fill(0);
        let found = probe(&Window::new(&disk)).expect("found");
        assert_eq!(found.magic_at, 0x4000);
        assert!(!found.doubts.is_empty());
    }
}
