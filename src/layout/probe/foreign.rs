//! Filesystems that are recognised by name only, so that messages can say what a raw image holds: F2FS, JFS,
//! ReiserFS, NILFS2, HFS+, UFS2, EROFS, VMFS, bcachefs. No reader supports them. Offsets are from the kernel's
//! headers where they exist.

use super::signature::Signature;
use crate::field::{be16, be32, le16, le32, le64, uuid};
use crate::layout::HoldsKind;
use crate::layout::text::{label, utf16le};
use crate::layout::window::Window;

fn filesystem(name: &str, magic_at: u64) -> Signature {
    Signature::opaque(HoldsKind::Filesystem, name, magic_at)
}

/// `struct f2fs_super_block`, include/linux/f2fs_fs.h; at 1024.
pub(super) fn probe_f2fs(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(1024, 3072)?;
    if le32(&sb, 0)? != 0xf2f5_2010 {
        return None;
    }
    let log_blocksize = le32(&sb, 16)?;
    if !(12..=16).contains(&log_blocksize) {
        return None;
    }
    let name = utf16le(sb.get(124..124 + 1024)?);
    Some(
        filesystem("f2fs", 1024)
            .with_uuid(uuid(&sb, 108))
            .with_label((!name.is_empty()).then_some(name))
            .with_version(format!("{}.{}", le16(&sb, 4)?, le16(&sb, 6)?))
            .with_size(le64(&sb, 36)?.checked_mul(1 << log_blocksize), window),
    )
}

/// `struct jfs_superblock`, fs/jfs/jfs_superblock.h; at 32 KiB.
pub(super) fn probe_jfs(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(32 << 10, 184)?;
    let s_bsize = le32(&sb, 16)?;
    let s_l2bsize = u32::from(le16(&sb, 20)?);
    if sb.get(..4)? != b"JFS1" || s_l2bsize > 16 || s_bsize != 1 << s_l2bsize {
        return None;
    }
    Some(filesystem("jfs", 32 << 10).with_uuid(uuid(&sb, 136)).with_label(label(sb.get(152..168)?)))
}

/// `struct reiserfs_super_block`, fs/reiserfs/reiserfs.h; at 64 KiB.
pub(super) fn probe_reiserfs(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(64 << 10, 204)?;
    let magic = sb.get(52..61)?;
    if !magic.starts_with(b"ReIsErFs") && magic != b"ReIsEr2Fs" && magic != b"ReIsEr3Fs" {
        return None;
    }
    let blocksize = le16(&sb, 44)?;
    if !blocksize.is_power_of_two() || blocksize < 512 {
        return None;
    }
    let size = u64::from(le32(&sb, 0)?) * u64::from(blocksize);
    Some(
        filesystem("reiserfs", (64 << 10) + 52)
            .with_uuid(uuid(&sb, 84))
            .with_label(label(sb.get(100..116)?))
            .with_size(Some(size).filter(|size| *size > 0), window),
    )
}

/// `struct nilfs_super_block`, include/uapi/linux/nilfs2_ondisk.h; at 1024.
pub(super) fn probe_nilfs2(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(1024, 1024)?;
    let bytes = usize::from(le16(&sb, 8)?);
    if le16(&sb, 6)? != 0x3434 || !(20..=1024).contains(&bytes) || le32(&sb, 20)? > 6 {
        return None;
    }
    Some(filesystem("nilfs2", 1030).with_uuid(uuid(&sb, 152)).with_label(label(sb.get(168..248)?)))
}

/// Apple Technical Note TN1150, volume header; at 1024, big-endian.
pub(super) fn probe_hfsplus(window: &Window<'_>) -> Option<Signature> {
    let header = window.read(1024, 512)?;
    let version = be16(&header, 2)?;
    if !matches!((header.get(..2)?, version), (b"H+", 4) | (b"HX", 5)) {
        return None;
    }
    let block_size = be32(&header, 40)?;
    if !block_size.is_power_of_two() || block_size < 512 {
        return None;
    }
    let size = u64::from(block_size) * u64::from(be32(&header, 44)?);
    Some(filesystem("hfsplus", 1024).with_size(Some(size), window))
}

/// `struct fs`, FreeBSD sys/ufs/ffs/fs.h; its superblock at 64 KiB with the magic at its end, in either byte order.
pub(super) fn probe_ufs2(window: &Window<'_>) -> Option<Signature> {
    const SUPERBLOCK_AT: u64 = 64 << 10;
    let sb = window.read(SUPERBLOCK_AT, 1376)?;
    let is_ufs2 = le32(&sb, 1372)? == 0x1954_0119 || be32(&sb, 1372)? == 0x1954_0119;
    is_ufs2.then(|| filesystem("ufs", SUPERBLOCK_AT + 1372))
}

/// `struct erofs_super_block`, fs/erofs/erofs_fs.h; at 1024.
pub(super) fn probe_erofs(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(1024, 128)?;
    let blkszbits = *sb.get(12)?;
    if le32(&sb, 0)? != 0xe0f5_e1e2 || !(9..=16).contains(&blkszbits) {
        return None;
    }
    Some(filesystem("erofs", 1024).with_uuid(uuid(&sb, 48)).with_label(label(sb.get(64..80)?)))
}

/// VMware's volume header, as in libblkid's probes and vmfs-tools: at 1 MiB for a member, 2 MiB for a filesystem.
pub(super) fn probe_vmfs(window: &Window<'_>) -> Option<Signature> {
    if le32(&window.read(1 << 20, 4)?, 0)? == 0xc001_d00d {
        return Some(Signature::opaque(HoldsKind::Unknown, "VMFS_volume_member", 1 << 20));
    }
    (le32(&window.read(2 << 20, 4)?, 0)? == 0x2fab_f15e).then(|| filesystem("VMFS", 2 << 20))
}

/// `struct bch_sb`, fs/bcachefs/bcachefs_format.h; at 4096, with a checksum of one of several kinds.
pub(super) fn probe_bcachefs(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(4096, 752)?;
    if sb.get(24..40)? != b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef" {
        return None;
    }
    Some(
        Signature::opaque(HoldsKind::Filesystem, "bcachefs", 4096 + 24)
            .with_uuid(uuid(&sb, 56))
            .with_label(label(sb.get(72..104)?)),
    )
}

#[cfg(test)]
mod tests {
    use super::{Window, probe_erofs, probe_f2fs, probe_hfsplus, probe_jfs, probe_nilfs2, probe_reiserfs, probe_ufs2};

    fn disk(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut disk = vec![0; 128 << 10];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        disk
    }

    #[test]
    fn a_magic_alone_is_not_enough() {
        assert_eq!(probe_f2fs(&Window::new(&disk(1024, &0xf2f5_2010_u32.to_le_bytes()))), None);
        assert_eq!(probe_jfs(&Window::new(&disk(32 << 10, b"JFS1"))), None);
        assert_eq!(probe_reiserfs(&Window::new(&disk((64 << 10) + 52, b"ReIsEr2Fs"))), None);
        assert_eq!(probe_nilfs2(&Window::new(&disk(1030, &[0x34, 0x34]))), None);
        assert_eq!(probe_hfsplus(&Window::new(&disk(1024, b"H+\0\x04"))), None);
        assert_eq!(probe_erofs(&Window::new(&disk(1024, &0xe0f5_e1e2_u32.to_le_bytes()))), None);
    }

    #[test]
    fn with_the_numbers_that_go_with_it_it_is() {
        let mut jfs = disk(32 << 10, b"JFS1");
        (jfs[(32 << 10) + 17], jfs[(32 << 10) + 20]) = (0x10, 12);
        assert!(probe_jfs(&Window::new(&jfs)).is_some());
        let ufs = disk((64 << 10) + 1372, &0x1954_0119_u32.to_be_bytes());
        assert!(probe_ufs2(&Window::new(&ufs)).is_some());
    }
}
