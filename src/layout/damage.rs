//! Damage recorded in a filesystem's own headers: errors logged by the guest's kernel, and headers that contradict
//! each other. The kernel mounts most of these without a message.
//!
//! Each check is a bounded pass over headers, never a walk. A snapshot shows a filesystem in use: a journal to
//! replay, an "in use" flag, copies that are one write apart. None of that is damage, so the checks use only fields
//! that are valid at every moment.

mod btrfs;
mod fat;
mod lines;
mod windows;
mod xfs;

use crate::layout::window::Window;
use crate::outside::BlockRead;
use lines::Damage;

/// Signs of damage in the headers of the filesystem `fs` on `blocks`, one line each. Empty for a filesystem without
/// a check. For ext the reader reports the record.
///
/// | filesystem | what | source |
/// | --- | --- | --- |
/// | xfs | `needsrepair`, `sb_inprogress`, summary counters that the kernel never writes, headers of the allocation groups | XFS Algorithms & Data Structures, 3rd edition, "Superblocks", "AG Free Space Management", "AG Inode Management" |
/// | btrfs | the error flag, copies of the superblock | btrfs documentation, "On-disk format", "Superblock" |
/// | vfat | the hard error bit of FAT\[1\], bit 1 of the state in the boot sector, FATs that differ | Microsoft FAT Specification, 2005, sections 3.3 and 4.1; `fsck.fat` and Linux' `msdos_fs.h` for the state |
/// | exfat | `MediaFailure` of `VolumeFlags` | Microsoft exFAT specification, section 3.1.13.3 |
/// | ntfs | the dirty flag of `$VOLUME_INFORMATION` | Linux' `fs/ntfs3/ntfs.h`, `VOLUME_FLAG_DIRTY` |
pub fn recorded_damage(fs: &str, blocks: &dyn BlockRead) -> Vec<String> {
    let window = Window::new(blocks);
    let mut damage = Damage::default();
    // A field past the end of the region ends the check: the probe has reported the truncation.
    let _ = match fs {
        "xfs" => xfs::look_at(&window, &mut damage),
        "btrfs" => btrfs::look_at(&window, &mut damage),
        "vfat" => fat::look_at(&window, &mut damage),
        "exfat" => windows::look_at_exfat(&window, &mut damage),
        "ntfs" => windows::look_at_ntfs(&window, &mut damage),
        _ => None,
    };
    let mut lines = damage.finish();
    lines.extend(window.read_error().map(|error| format!("a part of its headers {error}")));
    lines
}
