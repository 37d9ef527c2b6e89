//! The content of a region, recognised by signatures that are checked beyond their magic. Every probe looks at
//! every region, so that conflicts show. Order and rules are in `docs/probing.md`. The test oracle is blkid's
//! low-level probe.

mod bitlocker;
pub(crate) mod btrfs;
mod btrfs_chunks;
mod exfat;
mod ext;
mod ext_journal;
pub(crate) mod fat;
mod foreign;
mod iso9660;
mod judge;
mod luks;
mod lvm2;
pub(crate) mod mdraid;
pub(crate) mod ntfs;
mod signature;
mod squashfs;
mod stacked;
mod swap;
mod udf;
mod xfs;
mod zfs;

pub use judge::{Judged, judge};
pub use signature::{Content, Signature};

use crate::layout::window::Window;
use crate::outside::BlockRead;

/// A probe returns a signature or `None`; it has no errors.
type Probe = fn(&Window<'_>) -> Option<Signature>;

/// In the order of `docs/probing.md`: containers before content that may show through from inside them.
const PROBES: [Probe; 27] = [
    luks::probe,
    mdraid::probe_1,
    mdraid::probe_0_90,
    lvm2::probe,
    stacked::probe_bcache,
    stacked::probe_drbd,
    zfs::probe,
    bitlocker::probe,
    ext::probe,
    xfs::probe,
    btrfs::probe,
    exfat::probe,
    ntfs::probe,
    fat::probe,
    iso9660::probe,
    udf::probe,
    squashfs::probe,
    foreign::probe_f2fs,
    foreign::probe_jfs,
    foreign::probe_reiserfs,
    foreign::probe_nilfs2,
    foreign::probe_hfsplus,
    foreign::probe_ufs2,
    foreign::probe_erofs,
    foreign::probe_vmfs,
    foreign::probe_bcachefs,
    swap::probe,
];

/// The UUID of a btrfs whose superblock is present, sound or not.
pub fn btrfs_uuid(blocks: &dyn BlockRead) -> Option<String> {
    btrfs::probe(&Window::new(blocks))?.holds.uuid
}

/// All signatures, in the order of the probes.
pub fn probe_all(window: &Window<'_>) -> Vec<Signature> {
    PROBES.iter().filter_map(|probe| probe(window)).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Window, probe_all};
    use crate::outside::BlockRead;

    #[test]
    fn nothing_is_found_on_nothing() {
        for len in [0, 1, 511, 512, 4096, 1 << 20] {
            assert_eq!(probe_all(&Window::new(&vec![0_u8; len])), []);
            assert_eq!(probe_all(&Window::new(&vec![0xff_u8; len])), []);
        }
    }

    /// A disk whose first sector cannot be read.
    struct BadStart;

    impl BlockRead for BadStart {
        fn len_bytes(&self) -> u64 {
            1 << 20
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.fill(0);
            if offset < 512 { Err(io::Error::other("medium error")) } else { Ok(()) }
        }
    }

    #[test]
    fn a_read_error_is_remembered_and_ends_nothing() {
        let window = Window::new(&BadStart);
        assert_eq!(probe_all(&window), []);
        assert!(window.read_error().expect("remembered").contains("medium error"));
        assert!(window.read(4096, 16).is_some());
    }
}
