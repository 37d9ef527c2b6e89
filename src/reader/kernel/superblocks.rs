//! The few fields of superblocks on which a mount by the kernel depends.

use std::io;

use rustix::io::Errno;

use crate::outside::BlockRead;

/// Whether a mount failed because the journal needs a replay and the device is read-only. The kernel then returns
/// EROFS, and EIO for btrfs.
pub(super) fn needs_replay(fs: &str, error: &io::Error, blocks: &dyn BlockRead, start: u64) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::ROFS) => true,
        // Btrfs on-disk format, superblock at 64 KiB: log_root at 0x60, 0 without a log tree.
        Some(Errno::IO) if fs == "btrfs" => {
            field(blocks, start, 0x1_0000 + 0x60, 8).is_some_and(|log_root| log_root != [0; 8])
        }
        _ => false,
    }
}

/// Whether an ext filesystem was in use when the source was frozen: its journal needs a replay or, without a
/// journal, it is not marked clean. `None` for other filesystems.
pub(super) fn was_in_use(fs: &str, blocks: &dyn BlockRead, start: u64) -> Option<bool> {
    if !fs.starts_with("ext") {
        return None;
    }
    // ext4 disk layout, super block: s_state 0x3A (0x1 is clean), s_feature_incompat 0x60 (RECOVER 0x4).
    let superblock = field(blocks, start, 1024, 1024)?;
    Some(superblock[0x60] & 0x4 != 0 || superblock[0x3A] & 0x1 == 0)
}

/// `len` bytes at `offset` of the region that starts at `start`; `None` if they cannot be read.
fn field(blocks: &dyn BlockRead, start: u64, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    blocks.read_at(start.checked_add(offset)?, &mut bytes).ok().map(|()| bytes)
}

/// Why the kernel must not mount the filesystem: its superblock names devices outside its region. A tenant could
/// point it at the data of another tenant.
pub(super) fn reaches_outside(fs: &str, blocks: &dyn BlockRead, start: u64) -> Option<&'static str> {
    let field = |offset: u64, len: usize| field(blocks, start, offset, len);
    match fs {
        "ext2" | "ext3" | "ext4" => {
            // ext4 disk layout, super block: s_feature_compat 0x5C (HAS_JOURNAL 0x4), s_journal_inum 0xE0,
            // s_mount_opts 0x200. The block starts at byte 1024.
            let superblock = field(1024, 1024)?;
            let has_journal = superblock[0x5C] & 0x4 != 0;
            let internal = superblock[0xE0..0xE4] != [0; 4];
            if has_journal && !internal {
                return Some("its journal lies on another device");
            }
            superblock[0x200..0x240]
                .windows(8)
                .any(|bytes| bytes == b"journal_")
                .then_some("its mount options name a journal device")
        }
        // Btrfs on-disk format, superblock at 64 KiB: num_devices at 0x88.
        "btrfs" => (field(0x1_0000 + 0x88, 8)? != 1_u64.to_le_bytes()).then_some("it spreads over several devices"),
        _ => None,
    }
}
