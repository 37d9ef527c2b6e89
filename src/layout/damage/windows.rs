//! NTFS and exFAT. They are archived as images; their own records of damage matter after a restore.

use super::lines::Damage;
use crate::field::le16;
use crate::layout::probe::ntfs;
use crate::layout::window::Window;

/// `VOLUME_IS_DIRTY` of `$VOLUME_INFORMATION`.
const VOLUME_IS_DIRTY: u16 = 0x1;
/// `VolumeFlags` of the main boot sector, section 3.1.13 of the specification; `VolumeDirty`, 0x2, is set while it is
/// mounted.
const MEDIA_FAILURE: u16 = 0x4;

pub(super) fn look_at_exfat(window: &Window<'_>, damage: &mut Damage) -> Option<()> {
    if le16(&window.read(0, 512)?, 106)? & MEDIA_FAILURE != 0 {
        damage.add(
            "the system that it belongs to has recorded a failure of its medium; fsck.exfat or chkdsk there mends it",
        );
    }
    Some(())
}

/// Windows sets the flag only after errors, not while the volume is mounted, since NTFS has a log.
pub(super) fn look_at_ntfs(window: &Window<'_>, damage: &mut Damage) -> Option<()> {
    if ntfs::volume_flags(window)? & VOLUME_IS_DIRTY != 0 {
        damage.add(
            "its volume is marked as dirty: Windows found errors in it and will run chkdsk, or Linux has it mounted for \
             writing",
        );
    }
    Some(())
}
