//! btrfs (btrfs documentation, "On-disk format", superblock): the first superblock at 64 KiB.

use sha2::{Digest, Sha256};

use super::btrfs_chunks::profiles;
use super::signature::Signature;
use crate::field::{crc32c, le16, le32, le64, uuid};
use crate::layout::text::label;
use crate::layout::text::names_of_all;
use crate::layout::window::Window;
use crate::layout::{BtrfsMade, MadeWith};

/// Offset of the first superblock.
pub(crate) const SUPERBLOCK_AT: u64 = 64 << 10;
/// Length of a superblock.
pub(crate) const SUPERBLOCK_BYTES: usize = 4096;
/// Magic at 0x40.
pub(crate) const MAGIC: &[u8] = b"_BHRfS_M";

/// Features in mkfs.btrfs's names, by their bits in `compat_ro_flags` and `incompat_flags`.
const COMPAT_RO_NAMES: &[(u64, &str)] = &[(0x1, "free-space-tree"), (0x4, "verity"), (0x8, "block-group-tree")];
const INCOMPAT_NAMES: &[(u64, &str)] = &[
    (0x4, "mixed-bg"),
    (0x40, "extref"),
    (0x80, "raid56"),
    (0x100, "skinny-metadata"),
    (0x200, "no-holes"),
    (0x800, "raid1c34"),
    (0x1000, "zoned"),
    (0x2000, "extent-tree-v2"),
    (0x4000, "raid-stripe-tree"),
    (0x10000, "squota"),
];
/// Bits that mkfs does not choose: free space tree valid; mixed back references, default subvolume, LZO or zstd
/// compression used, nodes above 4 KiB, metadata with its own UUID.
const COMPAT_RO_OTHERS: u64 = 0x2;
const INCOMPAT_OTHERS: u64 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | INCOMPAT_METADATA_UUID;
const INCOMPAT_METADATA_UUID: u64 = 0x400;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(SUPERBLOCK_AT, SUPERBLOCK_BYTES)?;
    if sb.get(0x40..0x48)? != MAGIC || le64(&sb, 0x30)? != SUPERBLOCK_AT {
        return None;
    }
    let sectorsize = le32(&sb, 0x90)?;
    let nodesize = le32(&sb, 0x94)?;
    let bounded = |size: u32| size.is_power_of_two() && (512..=65536).contains(&size);
    if !bounded(sectorsize) || !bounded(nodesize) {
        return None;
    }
    let num_devices = le64(&sb, 0x88)?;
    // dev_item.total_bytes is this device's share; the superblock's total_bytes covers all devices.
    let device_bytes = le64(&sb, 0xd1)?;
    // xxhash64 and blake2b are left to the kernel, which refuses to mount on a mismatch. Other kinds do not
    // exist.
    let kind = le16(&sb, 0xc4)?;
    let wrong = is_checksum_right(&sb).map_or(!matches!(kind, 1 | 3), |right| !right);
    let found = Signature::filesystem("btrfs", SUPERBLOCK_AT + 0x40)
        .with_uuid(uuid(&sb, 0x20))
        .with_label(label(sb.get(0x12b..0x22b)?))
        .with_size((device_bytes > 0).then_some(device_bytes), window)
        .with_parameters(MadeWith {
            block_bytes: Some(sectorsize),
            inode_bytes: Some(nodesize),
            checksum: ["crc32c", "xxhash", "sha256", "blake2"].get(usize::from(kind)).map(|name| (*name).to_owned()),
            features: [
                names_of_all("compat-ro", le64(&sb, 0xb4)?, COMPAT_RO_NAMES, COMPAT_RO_OTHERS),
                names_of_all("incompat", le64(&sb, 0xbc)?, INCOMPAT_NAMES, INCOMPAT_OTHERS),
            ]
            .concat(),
            btrfs: Some(Box::new(own_parameters(window, &sb, nodesize)?)),
            ..MadeWith::default()
        })
        .doubt_if(wrong, "its superblock's checksum is wrong");
    Some(if num_devices == 1 {
        found
    } else {
        found.doubt(format!("it spans {num_devices} devices and the others are not here"))
    })
}

/// Whether a superblock's checksum matches; `None` for kinds that are not computed here.
pub(crate) fn is_checksum_right(superblock: &[u8]) -> Option<bool> {
    let covered = superblock.get(0x20..)?;
    match le16(superblock, 0xc4)? {
        0 => Some(!crc32c(!0, covered) == le32(superblock, 0)?),
        2 => Some(Sha256::digest(covered).as_slice() == superblock.get(..32)?),
        _ => None,
    }
}

fn own_parameters(window: &Window<'_>, sb: &[u8], nodesize: u32) -> Option<BtrfsMade> {
    let profiles = profiles(window, sb, nodesize).unwrap_or_default();
    let names = |names: &std::collections::BTreeSet<&str>| names.iter().map(|name| (*name).to_owned()).collect();
    let has_metadata_uuid = le64(sb, 0xbc)? & INCOMPAT_METADATA_UUID != 0;
    Some(BtrfsMade {
        data_profiles: names(&profiles.data),
        metadata_profiles: names(&profiles.metadata),
        system_profiles: names(&profiles.system),
        metadata_uuid: has_metadata_uuid.then(|| uuid(sb, 0x23b)).flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};
    use crate::field::crc32c;

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 128 << 10];
        let sb = &mut disk[64 << 10..68 << 10];
        sb[0x20] = 5;
        sb[0x30..0x38].copy_from_slice(&(64_u64 << 10).to_le_bytes());
        sb[0x40..0x48].copy_from_slice(b"_BHRfS_M");
        sb[0x88] = 1;
        sb[0x91] = 0x10;
        sb[0x95] = 0x40;
        sb[0xd1..0xd9].copy_from_slice(&(128_u64 << 10).to_le_bytes());
        sb[0x12b..0x12f].copy_from_slice(b"pool");
        seal(&mut disk);
        disk
    }

    fn seal(disk: &mut [u8]) {
        let sb = &mut disk[64 << 10..68 << 10];
        let crc = !crc32c(!0, &sb[0x20..]);
        sb[..4].copy_from_slice(&crc.to_le_bytes());
    }

    fn changed(at: usize, byte: u8) -> Vec<u8> {
        let mut disk = disk();
        disk[(64 << 10) + at] = byte;
        seal(&mut disk);
        disk
    }

    #[test]
    fn a_sound_superblock_is_found() {
        let found = probe(&Window::new(&disk())).expect("found");
        assert_eq!(found.holds.label.as_deref(), Some("pool"));
        assert!(found.doubts.is_empty(), "{:?}", found.doubts);
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(0x40, 0), (0x32, 0), (0x90, 1), (0x95, 0)] {
            assert_eq!(probe(&Window::new(&changed(at, byte))), None, "{at:#x}");
        }
        // Two devices, a device longer than the region, an unknown checksum.
        for (at, byte) in [(0x88, 2), (0xd4, 1), (0xc4, 9)] {
            assert_eq!(probe(&Window::new(&changed(at, byte))).expect("found").doubts.len(), 1, "{at:#x}");
        }
        let mut flipped = disk();
        flipped[(64 << 10) + 0x500] ^= 1;
        assert_eq!(probe(&Window::new(&flipped)).expect("found").doubts.len(), 1);
    }
}
