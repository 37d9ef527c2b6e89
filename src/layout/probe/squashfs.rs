//! SquashFS 4 (the kernel's fs/squashfs/squashfs_fs.h, `struct squashfs_super_block`).

use super::signature::Signature;
use crate::field::{le16, le32, le64};
use crate::layout::HoldsKind;
use crate::layout::window::Window;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(0, 96)?;
    if sb.get(..4)? != b"hsqs" {
        return None;
    }
    let block_size = le32(&sb, 12)?;
    let block_log = u32::from(le16(&sb, 22)?);
    let (major, minor) = (le16(&sb, 28)?, le16(&sb, 30)?);
    if major != 4 || !(12..=20).contains(&block_log) || block_size != 1 << block_log {
        return None;
    }
    Some(
        Signature::opaque(HoldsKind::Filesystem, "squashfs", 0)
            .with_version(format!("{major}.{minor}"))
            .with_size(Some(le64(&sb, 40)?).filter(|bytes_used| *bytes_used >= 96), window),
    )
}

#[cfg(test)]
mod tests {
    use super::{Window, probe};

    #[test]
    fn one_wrong_field_each() {
        let mut disk = vec![0; 4096];
        disk[..4].copy_from_slice(b"hsqs");
        disk[14] = 2;
        disk[22] = 17;
        disk[28] = 4;
        disk[41] = 16;
        assert!(probe(&Window::new(&disk)).expect("found").doubts.is_empty());
        for at in [0, 13, 22, 28] {
            let mut disk = disk.clone();
            disk[at] ^= 1;
            assert_eq!(probe(&Window::new(&disk)), None, "{at}");
        }
        disk[42] = 1;
        assert_eq!(probe(&Window::new(&disk)).expect("found").doubts.len(), 1);
    }
}
