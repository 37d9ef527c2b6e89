//! XFS (XFS Algorithms & Data Structures, 3rd edition, "Superblocks"): the superblock of allocation group 0 at byte 0.

use super::signature::Signature;
use crate::field::{be16, be32, be64, crc32c_without, le32, uuid};
use crate::layout::text::label;
use crate::layout::text::{names_of, names_of_all};
use crate::layout::window::Window;
use crate::layout::{MadeWith, XfsMade};

const SUPERBLOCK_BYTES: usize = 512;

/// Features in mkfs.xfs's names, by their bits in `sb_features_ro_compat` and `sb_features_incompat`.
const RO_COMPAT_NAMES: &[(u64, &str)] = &[(0x1, "finobt"), (0x2, "rmapbt"), (0x4, "reflink"), (0x8, "inobtcount")];
const INCOMPAT_NAMES: &[(u64, &str)] = &[
    (0x1, "ftype"),
    (0x2, "sparse"),
    (0x8, "bigtime"),
    (0x20, "nrext64"),
    (0x40, "exchange"),
    (0x80, "parent"),
    (0x100, "metadir"),
    (0x200, "zoned"),
    (0x400, "zone-gaps"),
];
/// Bits of `sb_features_incompat` that mkfs does not choose: a metadata UUID, which has a field here, and
/// `XFS_SB_FEAT_INCOMPAT_NEEDSREPAIR`.
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDSREPAIR: u32 = 0x10;
const INCOMPAT_ZONED: u32 = 0x200;
/// Bits of `sb_versionnum`.
const VERSION_ATTR: u16 = 0x10;
const VERSION_LOGV2: u16 = 0x400;
const VERSION_BORG: u16 = 0x4000;
const VERSION_MOREBITS: u16 = 0x8000;
/// Bits of `sb_features2`, which exists with `VERSION_MOREBITS`.
const FEATURES2_LAZYSBCOUNT: u32 = 0x2;
const FEATURES2_ATTR2: u32 = 0x8;
const FEATURES2_PROJID32: u32 = 0x80;
const FEATURES2_FTYPE: u32 = 0x200;
/// The bits of `sb_qflags`, as xfs_db(8) prints them.
const QUOTA_NAMES: &[(u64, &str)] = &[
    (0x1, "user accounting"),
    (0x2, "user enforcement"),
    (0x8, "project accounting"),
    (0x40, "group accounting"),
    (0x80, "group enforcement"),
    (0x100, "project enforcement"),
];

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
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
    let mut found = Signature::filesystem("xfs", 0)
        .with_uuid(uuid(&sb, 32))
        .with_label(label(sb.get(108..120)?))
        .with_size((sb_dblocks > 0).then(|| sb_dblocks.checked_mul(u64::from(sb_blocksize))).flatten(), window);
    found = found.with_parameters(parameters(&sb, sb_versionnum)?);
    let sb_logstart = be64(&sb, 48)?;
    let sb_rblocks = be64(&sb, 16)?;
    // A zoned filesystem may have its realtime section on the same device, at `sb_rtstart`.
    let is_internal = sb_versionnum == 5 && be32(&sb, 216)? & INCOMPAT_ZONED != 0 && be64(&sb, 288)? > 0;
    found = found.doubt_if(sb_logstart == 0, "its log is on another device, which is not in this source").doubt_if(
        sb_rblocks > 0 && !is_internal,
        "it has a realtime section on another device, which is not in this source",
    );
    if sb_versionnum == 5 {
        // sb_crc covers the whole sector with the field itself zeroed, and is stored little-endian.
        let sector = window.read(0, usize::from(sb_sectsize))?;
        let wrong = !crc32c_without(!0, &sector, 224..228)? != le32(&sector, 224)?;
        found = found.doubt_if(wrong, "its superblock's checksum is wrong");
    }
    Some(found)
}

/// The parameters for mkfs.xfs.
fn parameters(sb: &[u8], versionnum: u16) -> Option<MadeWith> {
    let block_bytes = be32(sb, 4)?;
    let sb_features2 = features2(sb)?;
    let mut features = Vec::new();
    if versionnum == 5 {
        features.push("crc".to_owned());
        features.extend(names_of_all("ro-compat", u64::from(be32(sb, 212)?), RO_COMPAT_NAMES, 0));
        let elsewhere = u64::from(INCOMPAT_META_UUID | INCOMPAT_NEEDSREPAIR);
        features.extend(names_of_all("incompat", u64::from(be32(sb, 216)?), INCOMPAT_NAMES, elsewhere));
    } else if sb_features2 & FEATURES2_FTYPE != 0 {
        features.push("ftype".to_owned());
    }
    Some(MadeWith {
        block_bytes: Some(block_bytes),
        sector_bytes: Some(u32::from(be16(sb, 102)?)),
        inode_bytes: Some(u32::from(be16(sb, 104)?)),
        // sb_dirblklog: log2 of a directory block's length in blocks.
        directory_block_bytes: block_bytes.checked_shl(u32::from(*sb.get(192)?)).filter(|bytes| *bytes > 0),
        features,
        xfs: Some(Box::new(own_parameters(sb, versionnum, sb_features2)?)),
        ..MadeWith::default()
    })
}

/// `sb_features2`; kernels with wrong padding wrote it to `sb_bad_features2`.
fn features2(sb: &[u8]) -> Option<u32> {
    let has_more = be16(sb, 100)? & VERSION_MOREBITS != 0;
    Some(if has_more { be32(sb, 200)? | be32(sb, 204)? } else { 0 })
}

fn own_parameters(sb: &[u8], versionnum: u16, sb_features2: u32) -> Option<XfsMade> {
    let block_bytes = u64::from(be32(sb, 4)?);
    let bits = be16(sb, 100)?;
    // `sb_unit`, `sb_width`, `sb_agblocks`, `sb_logblocks` and `sb_rextsize` count blocks: at most 2^32 of 2^16
    // bytes.
    let blocks = |at: usize| Some(u64::from(be32(sb, at)?) * block_bytes);
    let is_v5 = versionnum == 5;
    let has_metadata_uuid = is_v5 && be32(sb, 216)? & INCOMPAT_META_UUID != 0;
    Some(XfsMade {
        stripe_unit_bytes: blocks(184)?,
        stripe_width_bytes: blocks(188)?,
        group_bytes: blocks(84)?,
        groups: be32(sb, 88)?,
        log_bytes: blocks(96)?,
        // A block number has the group number above its lowest `sb_agblklog` bits.
        log_group: be64(sb, 48)?.checked_shr(u32::from(*sb.get(124)?)).unwrap_or(0),
        log_version: if bits & VERSION_LOGV2 == 0 { 1 } else { 2 },
        // In a version 2 log, 1 means no stripe unit.
        log_stripe_unit_bytes: Some(be32(sb, 196)?).filter(|bytes| *bytes > 1).unwrap_or(0),
        inode_percent_max: *sb.get(127)?,
        realtime_extent_bytes: blocks(80)?,
        attr_version: match (sb_features2 & FEATURES2_ATTR2 != 0, bits & VERSION_ATTR != 0) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        },
        project_id_32bit: is_v5 || sb_features2 & FEATURES2_PROJID32 != 0,
        lazy_count: is_v5 || sb_features2 & FEATURES2_LAZYSBCOUNT != 0,
        case_insensitive: bits & VERSION_BORG != 0,
        metadata_uuid: has_metadata_uuid.then(|| uuid(sb, 248)).flatten(),
        quotas: quotas(sb)?,
    })
}

/// `sb_qflags`. A mount without quotas clears them; the limits stay in the inodes `sb_uquotino`, `sb_gquotino` and (version 5)
/// `sb_pquotino`, and apply again from the next mount with quotas.
fn quotas(sb: &[u8]) -> Option<Vec<String>> {
    let flags = u64::from(be16(sb, 176)?);
    if flags != 0 {
        return Some(names_of(flags, QUOTA_NAMES).collect());
    }
    let has_inode = |at| be64(sb, at).is_some_and(|inode| !matches!(inode, 0 | u64::MAX));
    let kinds = [(160, "user limits"), (168, "group limits"), (232, "project limits")];
    Some(kinds.into_iter().filter(|(at, _)| has_inode(*at)).map(|(_, name)| name.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};
    use crate::field::crc32c;

    fn disk() -> Vec<u8> {
        let mut sb = vec![0; 64 << 10];
        sb[0..4].copy_from_slice(b"XFSB");
        sb[4..8].copy_from_slice(&4096_u32.to_be_bytes());
        sb[8..16].copy_from_slice(&16_u64.to_be_bytes());
        sb[32] = 9;
        sb[55] = 4;
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
        // External log and external realtime section.
        for (at, byte) in [(55, 0), (23, 1)] {
            let mut disk = disk();
            disk[at] = byte;
            seal(&mut disk);
            assert_eq!(probe(&Window::new(&disk)).expect("found").doubts.len(), 1, "{at}");
        }
        let mut flipped = disk();
        flipped[200] ^= 1;
        assert_eq!(probe(&Window::new(&flipped)).expect("found").doubts.len(), 1);
        let mut short = disk();
        short.truncate(60 << 10);
        assert_eq!(probe(&Window::new(&short)).expect("found").doubts.len(), 1);
    }

    #[test]
    fn its_own_choices_are_read() {
        let mut disk = disk();
        // A stripe of 4 and 16 blocks, groups of 16 blocks, a log of 3 blocks in group 1, a limit of 40 percent, bits
        // without a name, an own UUID, names without case, group quotas.
        for (at, byte) in [(187, 4), (191, 16), (99, 3), (55, 0x11), (124, 4), (127, 40), (214, 0x10), (218, 0x80)] {
            disk[at] = byte;
        }
        (disk[219], disk[248], disk[100], disk[177], disk[83]) = (0x1d, 7, 0xf4, 0xc0, 2);
        seal(&mut disk);
        let made = probe(&Window::new(&disk)).expect("found").holds.made_with.expect("parameters");
        assert_eq!(made.features, ["crc", "ro-compat-0x1000", "ftype", "bigtime", "incompat-0x8000"]);
        let own = made.xfs.expect("XFS");
        assert_eq!((own.stripe_unit_bytes, own.stripe_width_bytes), (4 * 4096, 16 * 4096));
        assert_eq!((own.group_bytes, own.groups, own.log_bytes, own.log_group), (65_536, 1, 3 * 4096, 1));
        assert_eq!((own.inode_percent_max, own.realtime_extent_bytes, own.log_version), (40, 8192, 2));
        assert!(own.case_insensitive && own.lazy_count && own.project_id_32bit);
        assert!(own.metadata_uuid.is_some());
        assert_eq!(own.quotas, ["group accounting", "group enforcement"]);
        // Mounted without quotas since: the limits are there still.
        (disk[177], disk[167], disk[239]) = (0, 131, 132);
        disk[168..176].fill(0xff);
        seal(&mut disk);
        let made = probe(&Window::new(&disk)).expect("found").holds.made_with.expect("parameters");
        assert_eq!(made.xfs.expect("XFS").quotas, ["user limits", "project limits"]);
    }
}
