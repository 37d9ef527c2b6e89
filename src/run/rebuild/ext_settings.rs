//! Restores the settings of an ext filesystem's superblock in a new one.
//!
//! Settings that affect the files (the directory hash, the stripe) are set before them. Settings that act during
//! writing, or that mounting changes (`errors=panic`, mount options, the directory last mounted on), are set after
//! them. Offsets are those of the kernel's `Documentation/filesystems/ext4/super.rst`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::makefs::names::has;
use crate::field::ext::{LEN, START, blocks_of, checksum_of, compat, has_magic, incompat, ro_compat};
use crate::field::{crc32c, le32};
use crate::layout::MadeWith;

/// The maximum number of groups to go through: those of a filesystem of 2^48 blocks.
const GROUPS_MAX: u64 = 1 << 33;

/// `s_flags`: signed hash, unsigned hash, test filesystem.
const FLAGS_KEPT: u32 = 0x7;

/// Features that are turned on after the files, and their bits of `s_feature_ro_compat`.
const PUT_BACK: [(&str, u32); 2] = [("read-only", ro_compat::READONLY), ("project", ro_compat::PROJECT)];
/// Features among [`PUT_BACK`] that are turned off while files are written, if the kernel cannot mount with them:
/// without quota support it cannot write to a filesystem with project ids.
pub(super) const OFF_WHILE_MOUNTED: [&str; 1] = ["project"];

/// The time at which a setting is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before the files.
    Before,
    /// After the files, when the filesystem is unmounted.
    After,
}

/// A setting: name, offset and length.
type Field = (&'static str, usize, usize);

const BEFORE: &[Field] = &[
    ("directory hash seed", 0xec, 16),
    ("directory hash", 0xfc, 1),
    ("RAID stride", 0x164, 2),
    ("RAID stripe width", 0x170, 4),
    ("least inode extra size", 0x15c, 2),
    ("wanted inode extra size", 0x15e, 2),
    ("encryption level", 0x176, 1),
    ("encryption algorithms", 0x254, 4),
    ("encryption salt", 0x258, 16),
];
const AFTER: &[Field] = &[
    ("errors behaviour", 0x3c, 2),
    ("maximum mount count", 0x36, 2),
    ("check interval", 0x44, 4),
    ("reserved blocks uid", 0x50, 2),
    ("reserved blocks gid", 0x52, 2),
    ("last mounted directory", 0x88, 64),
    ("blocks preallocated to files", 0xcc, 1),
    ("blocks preallocated to directories", 0xcd, 1),
    ("default mount options", 0x100, 4),
    ("creation time", 0x108, 4),
    ("creation time, high part", 0x276, 1),
    ("mount options", 0x200, 64),
];
/// Settings passed to mke2fs rather than written; they are compared afterwards.
const MADE: &[Field] = &[
    ("operating system", 0x48, 4),
    ("blocks per group", 0x20, 4),
    ("revision", 0x4c, 4),
    ("flex group size", 0x174, 1),
    ("reserved descriptor blocks", 0xce, 2),
    ("descriptor size", 0xfe, 2),
    ("encoding", 0x27c, 2),
    ("encoding flags", 0x27e, 2),
    ("MMP interval", 0x166, 2),
    ("checksum seed", 0x270, 4),
    ("checksum type", 0x175, 1),
];

/// The superblock in the manifest; `None` if there is none or it is invalid.
pub(super) fn recorded(made: &MadeWith) -> Option<[u8; LEN]> {
    let bytes = STANDARD.decode(made.superblock.as_deref()?).ok()?;
    let sb: [u8; LEN] = bytes.try_into().ok()?;
    has_magic(&sb).then_some(sb)
}

/// A UUID whose checksum, the seed of all metadata checksums, is `seed`. A CRC is a bijection of its last four
/// bytes.
pub(super) fn uuid_of_seed(seed: u32) -> String {
    /// CRC-32C's polynomial, reflected.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut raw = *b"volbak seed \0\0\0\0";
    let begun = crc32c(!0, &raw[..12]);
    let mut register = seed;
    for _ in 0..32 {
        register = if register >> 31 == 0 { register << 1 } else { (register ^ POLYNOMIAL) << 1 | 1 };
    }
    raw[12..].copy_from_slice(&(register ^ begun).to_le_bytes());
    crate::field::uuid_text(raw)
}

/// Writes the settings of `made` into each superblock of the filesystem on `device`, which must not be mounted.
/// `reserved` is the number of blocks reserved for root.
pub(super) fn put(device: &Path, made: &MadeWith, reserved: Option<u64>, when: When) -> io::Result<()> {
    let Some(was) = recorded(made) else { return Ok(()) };
    let file = File::options().read(true).write(true).open(device)?;
    let mut sb = [0; LEN];
    file.read_exact_at(&mut sb, START)?;
    if !has_magic(&sb) {
        return Err(io::Error::other("its new superblock is not there"));
    }
    // The previous values identify the copies.
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&sb[0x68..0x78]);
    for at in copies(&sb) {
        let mut copy = [0; LEN];
        match file.read_exact_at(&mut copy, at) {
            Ok(()) if has_magic(&copy) && copy[0x68..0x78] == uuid => {}
            Ok(()) => continue,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        }
        set(&mut copy, &was, made, reserved, when);
        file.write_all_at(&copy, at)?;
    }
    set(&mut sb, &was, made, reserved, when);
    file.write_all_at(&sb, START)?;
    file.sync_all()
}

/// Changes one superblock.
fn set(sb: &mut [u8; LEN], was: &[u8; LEN], made: &MadeWith, reserved: Option<u64>, when: When) {
    let fields = if when == When::Before { BEFORE } else { AFTER };
    let extra_fits = sb[0x58..0x5a] == was[0x58..0x5a];
    for (name, at, len) in fields {
        // Inodes of another size have other space.
        if extra_fits || !name.ends_with("extra size") {
            sb[*at..at + len].copy_from_slice(&was[*at..at + len]);
        }
    }
    let number = |sb: &[u8], at: usize| le32(sb, at).unwrap_or(0);
    match when {
        When::Before => {
            let flags = number(sb, 0x160) & !FLAGS_KEPT | number(was, 0x160) & FLAGS_KEPT;
            sb[0x160..0x164].copy_from_slice(&flags.to_le_bytes());
            if number(sb, 0x60) & incompat::CSUM_SEED != 0 {
                sb[0x68..0x78].copy_from_slice(&was[0x68..0x78]);
            }
            if number(sb, 0x60) & incompat::CASEFOLD != 0 {
                sb[0x27c..0x280].copy_from_slice(&was[0x27c..0x280]);
            }
            if number(sb, 0x60) & incompat::MMP != 0 {
                sb[0x166..0x168].copy_from_slice(&was[0x166..0x168]);
            }
        }
        When::After => {
            // s_creator_os: Hurd's inodes have another layout.
            if number(was, 0x48) != 1 {
                sb[0x48..0x4c].copy_from_slice(&was[0x48..0x4c]);
            }
            if let Some(reserved) = reserved {
                // The low half.
                let [a, b, c, d, high @ ..] = reserved.to_le_bytes();
                sb[0x8..0xc].copy_from_slice(&[a, b, c, d]);
                if number(sb, 0x60) & incompat::HAS_64BIT != 0 {
                    sb[0x154..0x158].copy_from_slice(&high);
                }
            }
            for (name, bit) in PUT_BACK {
                if has(made, name) {
                    let features = number(sb, 0x64) | bit;
                    sb[0x64..0x68].copy_from_slice(&features.to_le_bytes());
                }
            }
        }
    }
    if number(sb, 0x64) & ro_compat::METADATA_CSUM != 0 {
        let checksum = checksum_of(sb).unwrap_or(0);
        sb[0x3fc..].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The offsets of the superblock's copies: "Layout", and `ext2fs_bg_has_super`.
fn copies(sb: &[u8; LEN]) -> Vec<u64> {
    let number = |at: usize| u64::from(le32(sb, at).unwrap_or(0));
    let is = |at: usize, feature: u32| number(at) & u64::from(feature) != 0;
    let block = 1024_u64.checked_shl(le32(sb, 0x18).unwrap_or(0)).filter(|bytes| *bytes <= 65_536).unwrap_or(0);
    let blocks = blocks_of(sb, is(0x60, incompat::HAS_64BIT)).unwrap_or(0);
    let (first, in_group) = (number(0x14), number(0x20));
    let groups = blocks.saturating_sub(first).checked_div(in_group).map_or(0, |full| full + 1).min(GROUPS_MAX);
    let mut numbers = Vec::new();
    if is(0x5c, compat::SPARSE_SUPER2) {
        numbers.extend([number(0x24c), number(0x250)].into_iter().filter(|group| *group > 0 && *group < groups));
    } else if is(0x64, ro_compat::SPARSE_SUPER) {
        numbers.push(1);
        for base in [3, 5, 7] {
            let powers = std::iter::successors(Some(base), |power: &u64| power.checked_mul(base));
            numbers.extend(powers.take_while(|power| *power < groups));
        }
    } else {
        // Old filesystems have one in each group.
        numbers.extend(1..groups);
    }
    let at = |group: u64| group.checked_mul(in_group)?.checked_add(first)?.checked_mul(block);
    numbers.into_iter().filter(|group| *group < groups).filter_map(at).collect()
}

/// The number of blocks reserved for root: as before, or scaled to another length.
pub(super) fn reserved_blocks(made: &MadeWith, was_bytes: Option<u64>, size_bytes: u64) -> Option<u64> {
    let (reserved, block) = (made.reserved_blocks?, u64::from(made.block_bytes.filter(|bytes| *bytes > 0)?));
    let was = was_bytes.filter(|was| *was > 0).unwrap_or(size_bytes);
    let blocks = size_bytes / block;
    if was == size_bytes {
        return Some(reserved.min(blocks));
    }
    let scaled = u128::from(reserved) * u128::from(size_bytes) / u128::from(was.max(1));
    // tune2fs allows at most half.
    Some(u64::try_from(scaled).unwrap_or(u64::MAX).min(blocks / 2))
}

/// The settings that differ in the new filesystem, one line each. `resized`: it has another length.
pub(super) fn differences(was: &MadeWith, is: &MadeWith, resized: bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut differ = |name: &str, was: &str, is: &str| all.push(format!("its {name} is {is}, and was {was}"));
    let shown = |value: Option<u64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
    for (name, was, is) in [
        ("block size", was.block_bytes, is.block_bytes),
        ("inode size", was.inode_bytes, is.inode_bytes),
        ("cluster size", was.cluster_bytes, is.cluster_bytes),
    ] {
        if was != is {
            differ(name, &shown(was.map(u64::from)), &shown(is.map(u64::from)));
        }
    }
    let sorted = |made: &MadeWith| {
        let mut features = made.features.clone();
        features.sort_unstable();
        features.join(" ")
    };
    if sorted(was) != sorted(is) {
        differ("feature list", &crate::shown::text(&sorted(was)), &sorted(is));
    }
    if !resized {
        for (name, was, is) in [
            ("number of inodes", was.inodes, is.inodes),
            ("number of reserved blocks", was.reserved_blocks, is.reserved_blocks),
            ("journal's length in blocks", was.journal_blocks, is.journal_blocks),
            // An older backup does not have it.
            (
                "journal's area for fast commits in blocks",
                was.fast_commit_blocks.or(is.fast_commit_blocks),
                is.fast_commit_blocks,
            ),
        ] {
            if was != is {
                differ(name, &shown(was), &shown(is));
            }
        }
    }
    let (Some(old), Some(new)) = (recorded(was), recorded(is)) else { return all };
    for (name, at, len) in BEFORE.iter().chain(AFTER).chain(MADE) {
        let of_size = matches!(*at, 0xce | 0x20);
        let (old, new) = (&old[*at..at + len], &new[*at..at + len]);
        if old != new && !(resized && of_size) {
            differ(name, &value(old), &value(new));
        }
    }
    let hash = |sb: &[u8]| le32(sb, 0x160).unwrap_or(0) & FLAGS_KEPT;
    if hash(&old) != hash(&new) {
        differ("hash flags", &hash(&old).to_string(), &hash(&new).to_string());
    }
    let quotas = |sb: &[u8]| [0x240, 0x244, 0x26c].map(|at| le32(sb, at).is_some_and(|inode| inode != 0));
    if quotas(&old) != quotas(&new) {
        all.push("its kinds of quota are not those that it had".to_owned());
    }
    all
}

/// A field's value for a message: a number, or text and bytes.
fn value(bytes: &[u8]) -> String {
    if bytes.len() <= 4 {
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        return number.to_string();
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    if bytes[..end].is_ascii() && bytes[end..].iter().all(|byte| *byte == 0) {
        return format!("\"{}\"", bytes[..end].escape_ascii());
    }
    crate::shown::hex(bytes)
}

#[cfg(test)]
mod tests {
    use super::{LEN, OFF_WHILE_MOUNTED, PUT_BACK, copies, reserved_blocks, uuid_of_seed};
    use crate::field::crc32c;
    use crate::layout::MadeWith;

    #[test]
    fn features_turned_off_are_turned_on_again() {
        assert!(OFF_WHILE_MOUNTED.iter().all(|name| PUT_BACK.iter().any(|(put_back, _)| put_back == name)));
    }

    #[test]
    fn each_seed_has_a_uuid() {
        for seed in [0, 1, 0x8000_0000, 0xdead_beef, u32::MAX] {
            let digits: String = uuid_of_seed(seed).chars().filter(|c| *c != '-').collect();
            let raw: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect();
            assert_eq!(crc32c(!0, &raw), seed);
        }
    }

    #[test]
    fn hostile_superblocks_have_bounded_copies() {
        let copies_of = |changes: &[(usize, u32)]| {
            let mut sb = [0; LEN];
            for (at, value) in changes {
                sb[*at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            copies(&sb)
        };
        assert!(copies_of(&[]).is_empty());
        let wide = [(0x4, u32::MAX), (0x18, 2), (0x20, 32_768), (0x60, 0x80), (0x150, u32::MAX), (0x64, 1)];
        assert!(copies_of(&wide).len() < 100);
        // Two groups and a part of one, with 4 KiB blocks.
        assert_eq!(copies_of(&[(0x4, 70_000), (0x18, 2), (0x20, 32_768), (0x64, 1)]), [1 << 27]);
        assert_eq!(copies_of(&[(0x4, 70_000), (0x18, 2), (0x20, 32_768)]), [1 << 27, 2 << 27]);
    }

    #[test]
    fn reserved_blocks_are_in_proportion() {
        let made = MadeWith { reserved_blocks: Some(1000), block_bytes: Some(4096), ..MadeWith::default() };
        assert_eq!(reserved_blocks(&made, Some(1 << 30), 1 << 30), Some(1000));
        assert_eq!(reserved_blocks(&made, Some(1 << 30), 1 << 29), Some(500));
        let most = MadeWith { reserved_blocks: Some(u64::MAX), ..made };
        assert_eq!(reserved_blocks(&most, Some(1), 1 << 30), Some(1 << 17));
    }
}
