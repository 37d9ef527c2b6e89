//! Linux swap space (mkswap(8); `union swap_header` in the kernel's include/linux/swap.h).

use super::signature::{Content, Signature};
use crate::field::{be32, le32, uuid};
use crate::layout::HoldsKind;
use crate::layout::MadeWith;
use crate::layout::text::label;
use crate::layout::window::Window;

/// The signature is in the last ten bytes of the first page; the page size depends on the machine that made it.
const PAGE_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    PAGE_SIZES.iter().find_map(|page| at_page_size(window, *page))
}

fn at_page_size(window: &Window<'_>, page_bytes: u64) -> Option<Signature> {
    let magic_at = page_bytes - 10;
    let magic = window.read(magic_at, 10)?;
    match magic.as_slice() {
        b"SWAPSPACE2" => {}
        // The first format had at most 128 MiB, and no version, UUID or label. Nothing states how much is in
        // use.
        b"SWAP-SPACE" => {
            return Some(Signature::opaque(HoldsKind::Swap, "swap", magic_at).with_version("0"));
        }
        // It holds the memory image of a suspended system, which is data.
        b"S1SUSPEND\0" | b"S2SUSPEND\0" | b"ULSUSPEND\0" | b"LINHIB0001" => {
            return Some(Signature::opaque(HoldsKind::Swap, "swsuspend", magic_at));
        }
        _ => return None,
    }
    let header = window.read(1024, 512)?;
    let in_order = |field: fn(&[u8], usize) -> Option<u32>| (field(&header, 0)? == 1).then(|| field(&header, 4))?;
    let is_big_endian = in_order(le32).is_none();
    let last_page = in_order(le32).or_else(|| in_order(be32)).filter(|page| *page > 0)?;
    let size = (u64::from(last_page) + 1) * page_bytes;
    let mut found = Signature::new(HoldsKind::Swap, "swap", magic_at, Content::FactsOnly)
        .with_uuid(uuid(&header, 12))
        .with_label(label(header.get(28..44)?))
        .with_version("1");
    found.holds.size_bytes = Some(size);
    Some(found.with_parameters(MadeWith {
        block_bytes: u32::try_from(page_bytes).ok(),
        features: is_big_endian.then(|| "big-endian".to_owned()).into_iter().collect(),
        ..MadeWith::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::{Content, Window, probe};

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 64 << 10];
        disk[1024] = 1;
        disk[1028] = 15;
        disk[1036] = 3;
        disk[1052..1056].copy_from_slice(b"swp0");
        disk[4086..4096].copy_from_slice(b"SWAPSPACE2");
        disk
    }

    #[test]
    fn a_sound_header_is_found() {
        let found = probe(&Window::new(&disk())).expect("found");
        assert_eq!(found.content, Content::FactsOnly);
        assert_eq!(found.holds.label.as_deref(), Some("swp0"));
        assert_eq!(found.holds.size_bytes, Some(64 << 10));
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(1024, 2), (1028, 0), (4086, 0)] {
            let mut disk = disk();
            disk[at] = byte;
            assert_eq!(probe(&Window::new(&disk)), None, "{at}");
        }
    }

    #[test]
    fn a_suspended_system_is_data() {
        let mut disk = disk();
        disk[4086..4096].copy_from_slice(b"S1SUSPEND\0");
        assert_eq!(probe(&Window::new(&disk)).expect("found").content, Content::Opaque);
    }
}
