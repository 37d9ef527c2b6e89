//! Block layers with their superblock beside the data of another: bcache (the kernel's include/uapi/linux/bcache.h
//! until 5.15, `struct cache_sb_disk`) and DRBD (drbd 8.4 `struct md_on_disk_08`, drbd 9 `struct
//! meta_data_on_disk_9`).

use super::signature::Signature;
use crate::field::{be32, le64, uuid};
use crate::layout::HoldsKind;
use crate::layout::window::Window;

const BCACHE_MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHE_AT: u64 = 4096;

pub(super) fn probe_bcache(window: &Window<'_>) -> Option<Signature> {
    let sb = window.read(BCACHE_AT, 208)?;
    // `offset` is the superblock's own sector.
    if sb.get(24..40)? != BCACHE_MAGIC || le64(&sb, 8)? != 8 {
        return None;
    }
    Some(
        Signature::opaque(HoldsKind::Unknown, "bcache", BCACHE_AT + 24)
            .with_uuid(uuid(&sb, 40))
            .with_version(le64(&sb, 16)?.to_string()),
    )
}

/// Internal metadata: in the last 4 KiB of the device, big-endian.
pub(super) fn probe_drbd(window: &Window<'_>) -> Option<Signature> {
    let at = (window.len() & !4095).checked_sub(4096)?;
    let metadata = window.read(at, 4096)?;
    let version = match be32(&metadata, 60)? {
        0x8374_026b | 0x8374_026c => "v08",
        0x8374_026d => "v09",
        _ => return None,
    };
    Some(Signature::opaque(HoldsKind::Unknown, "drbd", at + 60).with_version(version))
}

#[cfg(test)]
mod tests {
    use super::{BCACHE_MAGIC, Window, probe_bcache, probe_drbd};

    #[test]
    fn bcache_must_say_where_it_is() {
        let mut disk = vec![0; 64 << 10];
        disk[4096 + 24..4096 + 40].copy_from_slice(BCACHE_MAGIC);
        assert_eq!(probe_bcache(&Window::new(&disk)), None);
        disk[4096 + 8] = 8;
        disk[4096 + 16] = 1;
        let found = probe_bcache(&Window::new(&disk)).expect("found");
        assert_eq!(found.holds.version.as_deref(), Some("1"));
    }

    #[test]
    fn drbd_is_at_the_end() {
        let mut disk = vec![0; (64 << 10) + 512];
        disk[(60 << 10) + 60..(60 << 10) + 64].copy_from_slice(&0x8374_026b_u32.to_be_bytes());
        assert_eq!(probe_drbd(&Window::new(&disk)).expect("found").holds.version.as_deref(), Some("v08"));
        disk[(60 << 10) + 63] = 0;
        assert_eq!(probe_drbd(&Window::new(&disk)), None);
    }
}
