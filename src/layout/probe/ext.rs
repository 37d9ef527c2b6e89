//! ext2, ext3 and ext4 (Linux, Documentation/filesystems/ext4/super.rst): the superblock at byte 1024.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ext_journal::Journal;
use super::signature::{Content, Signature};
use crate::field::ext::{LEN, START, blocks_of, checksum_of, compat, has_magic, incompat, ro_compat};
use crate::field::{le16, le32, uuid};
use crate::layout::text::label;
use crate::layout::window::Window;
use crate::layout::{HoldsKind, MadeWith};

/// Features of ext3: filetype, recover, meta_bg; sparse_super, large_file, btree_dir. Any other makes it ext4.
const EXT3_INCOMPAT: u32 = incompat::FILETYPE | incompat::RECOVER | incompat::META_BG;
const EXT3_RO_COMPAT: u32 = ro_compat::SPARSE_SUPER | ro_compat::LARGE_FILE | ro_compat::BTREE_DIR;

/// Features in the names of mke2fs(8) and ext4(5). Transient bits (`needs_recovery`, `orphan_present`) have no
/// name.
const COMPAT_NAMES: &[(u64, &str)] = &[
    (0x2, "imagic_inodes"),
    (0x4, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (0x20, "dir_index"),
    (0x200, "sparse_super2"),
    (0x400, "fast_commit"),
    (0x800, "stable_inodes"),
    (0x1000, "orphan_file"),
];
const INCOMPAT_NAMES: &[(u64, &str)] = &[
    (0x2, "filetype"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];
const RO_COMPAT_NAMES: &[(u64, &str)] = &[
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
];
const FAST_COMMIT: u32 = 0x400;
/// `needs_recovery` and `journal_dev`.
const INCOMPAT_MOMENTARY: u64 = (incompat::RECOVER | incompat::JOURNAL_DEV) as u64;
/// `orphan_present`.
const RO_COMPAT_MOMENTARY: u64 = ro_compat::ORPHAN_PRESENT as u64;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(START, LEN)?;
    if !has_magic(&sb) {
        return None;
    }
    let s_inodes_count = le32(&sb, 0x00)?;
    let s_first_data_block = le32(&sb, 0x14)?;
    let s_log_block_size = le32(&sb, 0x18)?;
    let s_blocks_per_group = le32(&sb, 0x20)?;
    let s_rev_level = le32(&sb, 0x4c)?;
    let s_minor_rev_level = le16(&sb, 0x3e)?;
    let compat = le32(&sb, 0x5c)?;
    let incompat = le32(&sb, 0x60)?;
    let ro_compat = le32(&sb, 0x64)?;
    let is_journal = incompat & incompat::JOURNAL_DEV != 0;
    // The magic has only two bytes, so these fields must be plausible too.
    if s_log_block_size > 6 || s_rev_level > 1 || s_first_data_block > 1 && !is_journal {
        return None;
    }
    // s_block_group_nr: non-zero in a backup superblock, which appears where a region starts at the wrong place.
    if le16(&sb, 0x5a)? != 0 {
        return None;
    }
    if !is_journal && (s_inodes_count == 0 || s_blocks_per_group == 0) {
        return None;
    }
    let blocks = blocks_of(&sb, incompat & incompat::HAS_64BIT != 0)?;
    let name = if is_journal {
        "jbd"
    } else if incompat & !EXT3_INCOMPAT != 0 || ro_compat & !EXT3_RO_COMPAT != 0 {
        "ext4"
    } else if compat & compat::HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    let size = (blocks > 0).then(|| blocks.checked_mul(1024 << s_log_block_size)).flatten();
    let mut found = Signature::filesystem(name, START + 0x38)
        .with_uuid(uuid(&sb, 0x68))
        .with_label(label(sb.get(0x78..0x88)?))
        .with_version(format!("{s_rev_level}.{s_minor_rev_level}"))
        .with_size(size, window);
    if !is_journal {
        // Features and the inode size came with revision 1.
        let features = if s_rev_level == 0 { [0; 3] } else { [compat, incompat, ro_compat].map(u64::from) };
        found = found.with_parameters(parameters(window, &sb, s_rev_level, features)?);
    }
    if is_journal {
        found.content = Content::Opaque;
        found.holds.kind = HoldsKind::Unknown;
    } else if ro_compat & ro_compat::METADATA_CSUM != 0 {
        let wrong = checksum_of(&sb)? != le32(&sb, 0x3fc)?;
        found = found.doubt_if(wrong, "its superblock's checksum is wrong");
    }
    Some(found)
}

/// The parameters for mke2fs.
fn parameters(window: &Window<'_>, sb: &[u8], revision: u32, features: [u64; 3]) -> Option<MadeWith> {
    let [compat, incompat, ro_compat] = features;
    // s_log_block_size was checked to be at most 6; s_log_cluster_size was not.
    let block_bytes = 1024 << le32(sb, 0x18)?;
    let cluster_bytes = 1024_u32.checked_shl(le32(sb, 0x1c)?).filter(|bytes| *bytes > 0);
    let mut reserved = u64::from(le32(sb, 0x08)?);
    if incompat & u64::from(incompat::HAS_64BIT) != 0 {
        reserved |= u64::from(le32(sb, 0x154)?) << 32;
    }
    let inode_bytes = if revision == 0 { 128 } else { u32::from(le16(sb, 0x58)?) };
    let names = names_of('C', compat, COMPAT_NAMES)
        .chain(names_of('I', incompat & !INCOMPAT_MOMENTARY, INCOMPAT_NAMES))
        .chain(names_of('R', ro_compat & !RO_COMPAT_MOMENTARY, RO_COMPAT_NAMES));
    let has = |feature: u32| compat & u64::from(feature) != 0;
    let journal = if has(compat::HAS_JOURNAL) { Journal::find(window, sb, block_bytes, inode_bytes) } else { None };
    let fast_commits = journal.as_ref().filter(|_| has(FAST_COMMIT));
    Some(MadeWith {
        block_bytes: Some(block_bytes),
        inode_bytes: Some(inode_bytes),
        inodes: Some(u64::from(le32(sb, 0x00)?)),
        reserved_blocks: Some(reserved),
        cluster_bytes: cluster_bytes.filter(|_| ro_compat & u64::from(ro_compat::BIGALLOC) != 0),
        journal_blocks: journal.as_ref().map(|journal| journal.blocks),
        fast_commit_blocks: fast_commits.and_then(|journal| journal.fast_commit_blocks(window, block_bytes)),
        superblock: Some(STANDARD.encode(sb)),
        features: names.collect(),
        ..MadeWith::default()
    })
}

/// The names of features. Unnamed bits get e2fsprogs' form (`e2p_feature2string`).
fn names_of(word: char, bits: u64, names: &'static [(u64, &'static str)]) -> impl Iterator<Item = String> {
    (0..32).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| {
        let named = names.iter().find(|(known, _)| *known == 1 << bit);
        named.map_or_else(|| format!("FEATURE_{word}{bit}"), |(_, name)| (*name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::{LEN, Window, probe};
    use crate::field::crc32c;

    /// A superblock with a checksum, of a filesystem of 64 blocks of 1024 bytes.
    fn superblock() -> Vec<u8> {
        let mut sb = vec![0; LEN];
        sb[0x00] = 16;
        sb[0x04] = 64;
        sb[0x14] = 1;
        sb[0x21] = 32;
        sb[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        sb[0x4c] = 1;
        sb[0x5c] = 4;
        sb[0x60] = 0x42;
        sb[0x65] = 0x04;
        sb[0x68] = 7;
        sb[0x78..0x7c].copy_from_slice(b"root");
        sb
    }

    fn disk(mut sb: Vec<u8>) -> Vec<u8> {
        let crc = crc32c(!0, &sb[..0x3fc]);
        sb[0x3fc..0x400].copy_from_slice(&crc.to_le_bytes());
        let mut disk = vec![0; 64 << 10];
        disk[1024..2048].copy_from_slice(&sb);
        disk
    }

    fn changed(at: usize, byte: u8) -> Vec<u8> {
        let mut sb = superblock();
        sb[at] = byte;
        disk(sb)
    }

    #[test]
    fn a_sound_superblock_is_found() {
        let found = probe(&Window::new(&disk(superblock()))).expect("found");
        assert_eq!(found.holds.fs.as_deref(), Some("ext4"));
        assert_eq!(found.holds.label.as_deref(), Some("root"));
        assert_eq!(found.holds.size_bytes, Some(64 << 10));
        assert!(found.doubts.is_empty());
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(0x38, 0), (0x18, 7), (0x4c, 2), (0x14, 2), (0x00, 0), (0x21, 0), (0x5a, 1)] {
            assert_eq!(probe(&Window::new(&changed(at, byte))), None, "{at:#x}");
        }
        let too_long = probe(&Window::new(&changed(0x04, 65))).expect("found");
        assert_eq!(too_long.doubts.len(), 1);
        let mut flipped = disk(superblock());
        flipped[1024 + 0x90] ^= 1;
        assert_eq!(probe(&Window::new(&flipped)).expect("found").doubts, ["its superblock's checksum is wrong"]);
    }

    #[test]
    fn features_decide_the_generation() {
        let name = |compat: u8, incompat: u8, ro_compat: u8| {
            let mut sb = superblock();
            (sb[0x5c], sb[0x60], sb[0x64], sb[0x65]) = (compat, incompat, ro_compat, 0);
            probe(&Window::new(&disk(sb))).and_then(|found| found.holds.fs).expect("found")
        };
        assert_eq!(name(0, 0x2, 0x3), "ext2");
        assert_eq!(name(4, 0x6, 0x3), "ext3");
        assert_eq!(name(4, 0x2, 0x8), "ext4");
        assert_eq!(name(0, 0x42, 0), "ext4");
        assert_eq!(name(0, 0x8, 0), "jbd");
    }
}
