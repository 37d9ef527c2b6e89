//! BitLocker (libbde, "BitLocker Drive Encryption format specification", volume header).

use super::signature::Signature;
use crate::field::le16;
use crate::layout::HoldsKind;
use crate::layout::window::Window;

pub(super) fn probe(window: &Window<'_>) -> Option<Signature> {
    let sector = window.read(0, 512)?;
    let on_a_disk = sector.get(3..11)? == b"-FVE-FS-";
    // BitLocker To Go keeps a FAT boot sector; its own identifier is at 424.
    let to_go = sector.get(3..11)? == b"MSWIN4.1"
        && sector.get(424..440)? == b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
    if !(on_a_disk || to_go) || le16(&sector, 510)? != 0xaa55 {
        return None;
    }
    Some(Signature::opaque(HoldsKind::Unknown, "BitLocker", 3))
}
