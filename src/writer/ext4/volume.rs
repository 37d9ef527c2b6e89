//! The filesystem's shape and features, and its superblock: ext4 layout, "Super Block".

use super::bytes::{high32, low32, put};
use super::error::WriteError;
use super::output::Output;
use crate::field::ext::{Features, LEN, START, checksum_of, compat, incompat, ro_compat};
use crate::field::{le16, le32};
use crate::reader::ext4::{Kind, NameHash, Superblock};

/// `EXT4_FEATURE_COMPAT_EXT_ATTR`.
const EXT_ATTR: u32 = 0x8;
/// What the writer knows. Everything else is left to the kernel.
const COMPAT: u32 = compat::HAS_JOURNAL | EXT_ATTR | compat::RESIZE_INODE | compat::DIR_INDEX | compat::ORPHAN_FILE;
const INCOMPAT: u32 =
    incompat::FILETYPE | incompat::EXTENTS | incompat::HAS_64BIT | incompat::FLEX_BG | incompat::CSUM_SEED;
const RO_COMPAT: u32 = ro_compat::SPARSE_SUPER
    | ro_compat::LARGE_FILE
    | ro_compat::HUGE_FILE
    | ro_compat::DIR_NLINK
    | ro_compat::EXTRA_ISIZE
    | ro_compat::METADATA_CSUM;
/// Without these the files would have another form.
const NEEDED: u32 = incompat::FILETYPE | incompat::EXTENTS;
/// The descriptors of so many groups are kept in memory: 16 MiB, for 32 TiB with blocks of 4 KiB.
const GROUPS_MAX: u64 = 1 << 18;
/// `s_state`: cleanly unmounted.
const CLEAN: u16 = 1;
/// `struct ext4_inode` of Linux 6: 160 bytes, of which 128 are in each inode.
const EXTRA_BYTES: u16 = 32;

/// A filesystem.
pub(super) struct Volume {
    pub(super) facts: Superblock,
    superblock: [u8; LEN],
    pub(super) block_bytes: usize,
    pub(super) seed: Option<u32>,
    /// `i_extra_isize` of new inodes.
    pub(super) extra_bytes: u16,
    /// How directories are indexed.
    pub(super) hash: Option<NameHash>,
    pub(super) has_huge_files: bool,
    pub(super) has_many_links: bool,
}

impl Volume {
    /// Reads the superblock. A filesystem that has a feature that is not known here is left to the kernel.
    pub(super) fn read(output: &mut Output) -> Result<Self, WriteError> {
        let mut superblock = [0; LEN];
        output.read(START, &mut superblock)?;
        let facts = Superblock::parse(&superblock, output.len_bytes())
            .map_err(|why| WriteError::left(format!("its superblock: {why}")))?;
        let cut = || WriteError::left("its superblock is cut off");
        let features = Features::of(&superblock).ok_or_else(cut)?;
        let unknown = [features.compat & !COMPAT, features.incompat & !INCOMPAT, features.ro_compat & !RO_COMPAT];
        if features.is_old || unknown != [0; 3] {
            let [compat, incompat, ro] = unknown;
            return Err(WriteError::left(format!(
                "it has features that volbak does not write (compat {compat:#x}, incompat {incompat:#x}, ro_compat {ro:#x})"
            )));
        }
        if features.incompat & NEEDED != NEEDED {
            return Err(WriteError::left("its files have no extents, or its directories no file types"));
        }
        let half = |at| le16(&superblock, at).ok_or_else(cut);
        if half(0x3A)? != CLEAN || facts.needs_replay || facts.last_orphan != 0 {
            return Err(WriteError::left("it is in use, or was not left clean"));
        }
        if facts.block_bytes > 4096 || facts.groups > GROUPS_MAX || !facts.blocks_per_group.is_multiple_of(8) {
            return Err(WriteError::left("its blocks or groups have a size that volbak does not write"));
        }
        let inode_bytes = u16::try_from(facts.inode_bytes).unwrap_or(0);
        // ext4_fill_super(): s_want_extra_isize and s_min_extra_isize can only raise it.
        let wanted = EXTRA_BYTES.max(half(0x15C)?).max(half(0x15E)?);
        let room = inode_bytes.saturating_sub(128);
        let extra_bytes = if wanted <= room { wanted } else { EXTRA_BYTES.min(room) };
        let kind = match superblock.get(0xFC) {
            Some(0) => Some(Kind::Legacy),
            Some(1) => Some(Kind::HalfMd4),
            Some(2) => Some(Kind::Tea),
            _ => None,
        };
        let hash = kind.filter(|_| facts.has_indexes).map(|kind| NameHash {
            kind,
            seed: facts.hash_seed,
            is_signed: facts.hash_is_signed,
        });
        // Casefold and SipHash have other kinds.
        if facts.has_indexes && hash.is_none() {
            return Err(WriteError::left("the hash of its directories is not known"));
        }
        let block_bytes = usize::try_from(facts.block_bytes).unwrap_or(0);
        Ok(Self {
            superblock,
            block_bytes,
            seed: facts.checksum_seed,
            extra_bytes,
            hash,
            has_huge_files: features.ro_compat & ro_compat::HUGE_FILE != 0,
            has_many_links: features.ro_compat & ro_compat::DIR_NLINK != 0,
            facts,
        })
    }

    /// The first byte of a block.
    pub(super) fn byte_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.facts.block_bytes)
    }

    /// Whether a file is longer than the kernel's limit.
    pub(super) fn is_too_long(&self, size: u64) -> bool {
        size > self.facts.max_sizes[0]
    }

    /// Takes the signature away, so that nothing mounts the filesystem before it is complete.
    pub(super) fn withdraw(&self, output: &mut Output) -> Result<(), WriteError> {
        let mut superblock = self.superblock;
        put(&mut superblock, 0x38, [0; 2]);
        output.write_now(START, &superblock)?;
        // It must reach the disk before anything else does.
        Ok(output.sync()?)
    }

    /// Writes the superblock with its counts, and its signature.
    pub(super) fn publish(
        &mut self,
        output: &Output,
        free_blocks: u64,
        free_inodes: u64,
        now: i64,
        has_large_file: bool,
    ) -> Result<(), WriteError> {
        let superblock = &mut self.superblock;
        put(superblock, 0xC, low32(free_blocks));
        if self.facts.has_64_bits {
            put(superblock, 0x158, high32(free_blocks));
        }
        put(superblock, 0x10, low32(free_inodes));
        // s_wtime, and its bits 32 to 39.
        let now = now.cast_unsigned();
        put(superblock, 0x30, low32(now));
        superblock[0x274] = high32(now)[0];
        if has_large_file {
            let features = le32(superblock, 0x64).unwrap_or(0) | ro_compat::LARGE_FILE;
            put(superblock, 0x64, features.to_le_bytes());
        }
        if self.seed.is_some() {
            let checksum = checksum_of(superblock).unwrap_or(0);
            put(superblock, 0x3FC, checksum.to_le_bytes());
        }
        Ok(output.write_now(START, superblock)?)
    }
}
