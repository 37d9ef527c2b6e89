//! mke2fs(8). Settings without an option of mke2fs, and those that would interfere with the restore of files, are
//! written to the superblock by [`super::super::ext_settings`].

use super::call::{Arguments, ToolCall};
use super::names::{has, is_word};
use crate::field::{le16, le32};
use crate::layout::{Holds, MadeWith};
use crate::run::rebuild::ext_settings::{recorded, uuid_of_seed};

/// Features not passed to mke2fs: `read-only` would prevent the restore of files, and quotas are counted after it.
const SET_LATER: [&str; 2] = ["read-only", "quota"];
/// Features that only another tool can set (`e2fsdroid`).
const NOT_MADE: [&str; 1] = ["shared_blocks"];
/// `EXT2_OS_HURD`: its inodes have another layout.
const HURD: u32 = 1;

/// The requirements for the new filesystem.
pub(super) struct Wanted {
    /// Its size.
    pub(super) size_bytes: u64,
    /// The number of files it must hold.
    pub(super) entries: u64,
    /// Whether it is smaller than before.
    pub(super) shrunk: bool,
}

/// The calls after the files are restored. Quotas are counted then, so that this kernel needs no quota support.
pub(super) fn finish(made: &MadeWith) -> Vec<ToolCall> {
    let mut calls = Vec::new();
    if let (true, Some(sb)) = (has(made, "quota"), recorded(made)) {
        // s_usr_quota_inum, s_grp_quota_inum, s_prj_quota_inum.
        let kinds = [("usrquota", 0x240), ("grpquota", 0x244), ("prjquota", 0x26c)];
        let is_on = |at: usize| le32(&sb, at).is_some_and(|inode| inode != 0);
        let kinds: Vec<&str> = kinds.into_iter().filter(|(_, at)| is_on(*at)).map(|(name, _)| name).collect();
        if !kinds.is_empty() {
            calls.push(tune2fs("-Q", &kinds.join(",")));
        }
    }
    calls
}

/// A call of tune2fs(8).
pub(crate) fn tune2fs(option: &str, value: &str) -> ToolCall {
    ToolCall { program: "tune2fs", args: vec![option.into(), value.into()] }
}

/// Adds the arguments; differences that cannot be avoided go to `differs`.
pub(super) fn ext(
    made: &MadeWith,
    uuid: Option<String>,
    wanted: &Wanted,
    holds: &Holds,
    args: &mut Arguments,
    differs: &mut Vec<String>,
) {
    let sb = recorded(made);
    let number16 = |at: usize| sb.as_ref().and_then(|sb| le16(sb, at)).map_or(0, u32::from);
    let number = |at: usize| sb.as_ref().and_then(|sb| le32(sb, at)).unwrap_or(0);
    // s_checksum_seed, 0x270, from the UUID it was made with. The present UUID is written afterwards.
    let seed = has(made, "metadata_csum_seed").then(|| number(0x270));
    let uuid = seed.filter(|_| sb.is_some()).map(uuid_of_seed).or(uuid);
    args.pair("-U", uuid.unwrap_or_else(|| "clear".to_owned()));
    let block = made.block_bytes.filter(|bytes| bytes.is_power_of_two());
    if let Some(bytes) = block {
        args.pair("-b", bytes.to_string());
    }
    if let Some(bytes) = made.inode_bytes {
        args.pair("-I", bytes.to_string());
    }
    if let Some(bytes) = made.cluster_bytes {
        args.pair("-C", bytes.to_string());
    }
    if let Some(inodes) = made.inodes {
        args.pair("-N", inodes_for(inodes, wanted, holds).to_string());
    }
    if let (Some(reserved), Some(block), Some(was)) = (made.reserved_blocks, block, holds.size_bytes) {
        // To a hundredth of a percent; the exact number is written with the other settings.
        let blocks = was / u64::from(block);
        if let Some(hundredths) = reserved.checked_mul(10_000).and_then(|part| part.checked_div(blocks)) {
            let hundredths = hundredths.min(5_000);
            args.pair("-m", format!("{}.{:02}", hundredths / 100, hundredths % 100));
        }
    }
    if sb.is_some() {
        if let (Some(blocks), Some(block)) = (made.journal_blocks, block) {
            // mke2fs adds the blocks for fast commits: one per 64 (`ext2fs_add_journal_device`,
            // `figure_journal_size`), unless it is told how many.
            let is_fast = has(made, "fast_commit");
            let fast = made.fast_commit_blocks.filter(|fast| is_fast && *fast < blocks);
            let usual = if is_fast { blocks / 65 } else { 0 };
            let plain = blocks - fast.unwrap_or(usual);
            let mut journal = format!("size={}", journal_mib(plain, block, wanted));
            if let Some(fast) = fast.filter(|fast| *fast != plain / 64 && !wanted.shrunk) {
                journal += &format!(",fast_commit_size={}", fast.saturating_mul(block.into()) / 1024);
            }
            args.pair("-J", journal);
        }
        // s_blocks_per_group, 0x20; with clusters it follows from theirs. mke2fs's default is the number of bits in
        // a bitmap.
        let in_group = number(0x20);
        if block.is_some_and(|block| made.cluster_bytes.is_none() && in_group != 8 * block && in_group % 8 == 0) {
            args.pair("-g", in_group.to_string());
        }
        // s_log_groups_per_flex, 0x174.
        let flex = number(0x174) & 0xff;
        if has(made, "flex_bg") && flex < 31 {
            args.pair("-G", (1_u32 << flex).to_string());
        }
        if number(0x4c) == 0 {
            args.pair("-r", "0");
        }
        let extended = extended_options(made, wanted, &number, &number16);
        if !extended.is_empty() {
            args.pair("-E", extended.join(","));
        }
        if number(0x48) == HURD {
            differs.push("it was made for the Hurd, whose inodes have another form: it is made for Linux".to_owned());
        }
        if has(made, "has_journal") && number(0xe0) == 0 {
            differs.push("its journal was on another device: it gets one of its own".to_owned());
        }
    }
    let is_made = |name: &&str| is_word(name) && !SET_LATER.contains(name) && !NOT_MADE.contains(name);
    let features: Vec<&str> = made.features.iter().map(String::as_str).filter(is_made).collect();
    if !features.is_empty() || sb.is_some() {
        args.pair("-O", ["none"].iter().chain(&features).copied().collect::<Vec<_>>().join(","));
    }
    for name in made.features.iter().filter(|name| NOT_MADE.contains(&name.as_str())) {
        differs
            .push(format!("it is made without the feature {name}: blocks that its files shared are each file's own"));
    }
}

/// As many inodes per byte as before, and enough for the archive's entries.
fn inodes_for(inodes: u64, wanted: &Wanted, holds: &Holds) -> u64 {
    match holds.size_bytes {
        Some(was) if wanted.shrunk && was > 0 => {
            let scaled = u128::from(inodes) * u128::from(wanted.size_bytes) / u128::from(was);
            let entries = wanted.entries;
            u64::try_from(scaled).unwrap_or(inodes).max(entries + entries / 16 + 1024)
        }
        _ => inodes,
    }
}

/// The journal's length, rounded up. In a smaller filesystem, at most mke2fs's default for its size.
fn journal_mib(blocks: u64, block_bytes: u32, wanted: &Wanted) -> u64 {
    let bytes = blocks.saturating_mul(u64::from(block_bytes));
    let bytes = if wanted.shrunk { bytes.min(default_journal_bytes(wanted.size_bytes)) } else { bytes };
    bytes.div_ceil(1 << 20).max(1)
}

/// mke2fs's default journal length for a filesystem of this size (`ext2fs_default_journal_size`), with blocks of 4
/// KiB.
pub(crate) fn default_journal_bytes(size_bytes: u64) -> u64 {
    match size_bytes >> 20 {
        0..128 => 4 << 20,
        128..1_024 => 16 << 20,
        1_024..2_048 => 32 << 20,
        2_048..16_384 => 64 << 20,
        16_384..32_768 => 128 << 20,
        32_768..65_536 => 256 << 20,
        65_536..131_072 => 512 << 20,
        _ => 1 << 30,
    }
}

/// mke2fs's `-E`. Offsets are those of the superblock.
fn extended_options(
    made: &MadeWith,
    wanted: &Wanted,
    number: &dyn Fn(usize) -> u32,
    number16: &dyn Fn(usize) -> u32,
) -> Vec<String> {
    let mut options = Vec::new();
    // s_raid_stride, 0x164; s_raid_stripe_width, 0x170.
    for (name, value) in [("stride", number16(0x164)), ("stripe_width", number(0x170))] {
        if value > 0 {
            options.push(format!("{name}={value}"));
        }
    }
    if has(made, "casefold") {
        // s_encoding, 0x27c: 1 is utf8-12.1, the only one defined; bit 0 of s_encoding_flags is `strict`.
        options.push("encoding=utf8-12.1".to_owned());
        if number16(0x27e) & 1 != 0 {
            options.push("encoding_flags=strict".to_owned());
        }
    }
    if has(made, "sparse_super2") {
        // s_backup_bgs, 0x24c.
        let copies = [0x24c, 0x250].into_iter().filter(|at| number(*at) != 0).count();
        options.push(format!("num_backup_sb={copies}"));
    }
    // mke2fs refuses more than `EXT4_MMP_MAX_UPDATE_INTERVAL`; the exact number is written with the other settings.
    if has(made, "mmp") && (1..=300).contains(&number16(0x166)) {
        options.push(format!("mmp_update_interval={}", number16(0x166)));
    }
    if has(made, "resize_inode")
        && let Some(blocks) = largest_resize(made, wanted, number, number16)
    {
        options.push(format!("resize={blocks}"));
    }
    options
}

/// The number of blocks to which the filesystem may grow while mounted, from the reserved descriptor blocks
/// (s_reserved_gdt_blocks, 0xce); `None` if mke2fs cannot reserve that many.
fn largest_resize(
    made: &MadeWith,
    wanted: &Wanted,
    number: &dyn Fn(usize) -> u32,
    number16: &dyn Fn(usize) -> u32,
) -> Option<u64> {
    let block = u64::from(made.block_bytes?);
    // With clusters, mke2fs here counts the groups as if there were none.
    let in_group = if made.cluster_bytes.is_some() { 8 * block } else { u64::from(number(0x20)) };
    let descriptor_bytes = if has(made, "64bit") { u64::from(number16(0xfe)).max(32) } else { 32 };
    let in_block = block / descriptor_bytes;
    let blocks = wanted.size_bytes / block;
    let groups = blocks.checked_sub(u64::from(number(0x14)))?.div_ceil(in_group.max(1));
    let descriptor_blocks = groups.div_ceil(in_block.max(1));
    let reserved = Some(u64::from(number16(0xce))).filter(|reserved| *reserved > 0)?;
    let most = (descriptor_blocks + reserved).checked_mul(in_block)?.checked_mul(in_group)?;
    (most > blocks && u32::try_from(most).is_ok()).then_some(most)
}
