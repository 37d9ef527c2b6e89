//! Attributes as FUSE has them.

use std::time::{Duration, SystemTime};

use fuser::FileType;

use crate::archive::index::IndexedKind;
use crate::entry::{DeviceNumber, Timestamp};

/// The type of an entry by the index; a hard link's is not known from it.
pub(super) fn file_type(kind: IndexedKind) -> FileType {
    match kind {
        IndexedKind::Directory => FileType::Directory,
        IndexedKind::Symlink => FileType::Symlink,
        IndexedKind::CharDevice => FileType::CharDevice,
        IndexedKind::BlockDevice => FileType::BlockDevice,
        IndexedKind::Fifo => FileType::NamedPipe,
        IndexedKind::File | IndexedKind::SparseFile | IndexedKind::RawImage | IndexedKind::HardLink => {
            FileType::RegularFile
        }
    }
}

/// A device's number as FUSE has it (`new_encode_dev` of Linux).
pub(super) fn device_bits(DeviceNumber { major, minor }: DeviceNumber) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// A time as the system has it; the epoch if it has no such time.
pub(super) fn system_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let whole = if time.sec < 0 { epoch.checked_sub(seconds) } else { epoch.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nsec.into()))).unwrap_or(epoch)
}
