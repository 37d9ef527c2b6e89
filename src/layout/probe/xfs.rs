//! XFS (XFS Algorithms & Data Structures, 3rd edition, "Superblocks"): the superblock of allocation group 0 at byte 0.

use super::{Found, Window, names_of};
use crate::layout::MadeWith;
use crate::layout::field::{be16, be32, be64, crc32c, le32, uuid};
use crate::layout::text::label;

const SUPERBLOCK_BYTES: usize = 512;

/// The features as mkfs.xfs has them, by their bits in `sb_features_ro_compat` and `sb_features_incompat`.
const RO_COMPAT_NAMES: &[(u64, &str)] = &[(0x1, "finobt"), (0x2, "rmapbt"), (0x4, "reflink"), (0x8, "inobtcount")];
const INCOMPAT_NAMES: &[(u64, &str)] = &[
    (0x1, "ftype"),
    (0x2, "sparse"),
    (0x8, "bigtime"),
    (0x20, "nrext64"),
    (0x40, "exchange"),
    (0x80, "parent"),
    (0x100, "metadir"),
];
/// `XFS_SB_VERSION2_FTYPE` of `sb_features2`, where version 4 has it.
const FEATURES2_FTYPE: u32 = 0x200;

pub(super) fn probe(window: &Window<'_>) -> Option<Found> {
    let sb = window.read(0, SUPERBLOCK_BYTES)?;
    if sb.get(0..4)? != b"XFSB" {
        return None;
    }
    let sb_blocksize = be32(&sb, 4)?;
    let sb_dblocks = be64(&sb, 8)?;
    let sb_agblocks = be32(&sb, 84)?;
    let sb_agcount = be32(&sb, 88)?;
    let sb_versionnum = be16(&sb, 100)? & 0xf;
    let sb_sectsize = be16(&sb, 102)?;
    let sb_blocklog = *sb.get(120)?;
    let fits = sb_blocksize.is_power_of_two()
        && (512..=65536).contains(&sb_blocksize)
        && u32::from(sb_blocklog) == sb_blocksize.trailing_zeros()
        && sb_sectsize.is_power_of_two()
        && (512..=32768).contains(&sb_sectsize)
        && sb_agcount > 0
        && sb_agblocks > 0
        && u64::from(sb_agcount) * u64::from(sb_agblocks) >= sb_dblocks
        && (1..=5).contains(&sb_versionnum);
    if !fits {
        return None;
    }
    let mut found = Found::filesystem("xfs", 0)
        .with_uuid(uuid(&sb, 32))
        .with_label(label(sb.get(108..120)?))
        .with_size((sb_dblocks > 0).then(|| sb_dblocks.checked_mul(u64::from(sb_blocksize))).flatten(), window);
    found = found.with_parameters(parameters(&sb, sb_versionnum)?);
    if sb_versionnum == 5 {
        // sb_crc covers the whole sector with itself as zero, and is stored little-endian.
        let sector = window.read(0, usize::from(sb_sectsize))?;
        let mut zeroed = sector.clone();
        zeroed.get_mut(224..228)?.fill(0);
        let wrong = !crc32c(!0, &zeroed) != le32(&sector, 224)?;
        found = found.doubt_if(wrong, "its superblock's checksum is wrong");
    }
    Some(found)
}

/// What mkfs.xfs would have to be told.
fn parameters(sb: &[u8], versionnum: u16) -> Option<MadeWith> {
    let block_bytes = be32(sb, 4)?;
    let mut features = Vec::new();
    if versionnum == 5 {
        features.push("crc".to_owned());
        features.extend(names_of(u64::from(be32(sb, 212)?), RO_COMPAT_NAMES));
        features.extend(names_of(u64::from(be32(sb, 216)?), INCOMPAT_NAMES));
    } else if be32(sb, 200)? & FEATURES2_FTYPE != 0 {
        features.push("ftype".to_owned());
    }
    Some(MadeWith {
        block_bytes: Some(block_bytes),
        sector_bytes: Some(u32::from(be16(sb, 102)?)),
        inode_bytes: Some(u32::from(be16(sb, 104)?)),
        // sb_dirblklog: the logarithm of a directory block's length in blocks.
        directory_block_bytes: block_bytes.checked_shl(u32::from(*sb.get(192)?)).filter(|bytes| *bytes > 0),
        features,
        ..MadeWith::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};
    use crate::layout::field::crc32c;

    fn disk() -> Vec<u8> {
        let mut sb = vec![0; 64 << 10];
        sb[0..4].copy_from_slice(b"XFSB");
        sb[4..8].copy_from_slice(&4096_u32.to_be_bytes());
        sb[8..16].copy_from_slice(&16_u64.to_be_bytes());
        sb[32] = 9;
        sb[84..88].copy_from_slice(&16_u32.to_be_bytes());
        sb[88..92].copy_from_slice(&1_u32.to_be_bytes());
        sb[100..102].copy_from_slice(&0xb4a5_u16.to_be_bytes());
        sb[102..104].copy_from_slice(&512_u16.to_be_bytes());
        sb[108..112].copy_from_slice(b"data");
        sb[120] = 12;
        seal(&mut sb);
        sb
    }

    fn seal(disk: &mut [u8]) {
        disk[224..228].fill(0);
        let crc = !crc32c(!0, &disk[..512]);
        disk[224..228].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn a_sound_superblock_is_found() {
        let found = probe(&Window::new(&disk())).expect("found");
        assert_eq!(found.holds.label.as_deref(), Some("data"));
        assert_eq!(found.holds.size_bytes, Some(64 << 10));
        assert!(found.doubts.is_empty(), "{:?}", found.doubts);
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(0, 0), (6, 0x11), (7, 1), (87, 0), (91, 0), (101, 6), (103, 3), (120, 13)] {
            let mut disk = disk();
            disk[at] = byte;
            seal(&mut disk);
            assert_eq!(probe(&Window::new(&disk)), None, "{at}");
        }
        let mut flipped = disk();
        flipped[200] ^= 1;
        assert_eq!(probe(&Window::new(&flipped)).expect("found").doubts.len(), 1);
        let mut short = disk();
        short.truncate(60 << 10);
        assert_eq!(probe(&Window::new(&short)).expect("found").doubts.len(), 1);
    }
}
