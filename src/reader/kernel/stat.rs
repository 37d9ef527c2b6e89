//! Converts statx(2) results to the types of [`crate::entry`].

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, OFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

use crate::entry::{DeviceNumber, Metadata, Timestamp};
use crate::outside::inode_flags;

/// Flags to open a directory that may have been replaced by a symbolic link.
pub(super) const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// statx(2) of `name` in `dir`, or of `dir` itself if `name` is empty. Does not follow a symbolic link.
pub(super) fn statx_of(dir: &OwnedFd, name: &CStr) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)
}

/// Whether it is encrypted by fscrypt or NTFS. A mount made by volbak has no keys.
pub(super) fn is_encrypted(facts: &Statx) -> bool {
    facts.stx_attributes.contains(StatxAttributes::ENCRYPTED)
}

pub(super) fn metadata_of(facts: &Statx) -> Metadata {
    let is_file = FileType::from_raw_mode(facts.stx_mode.into()) == FileType::RegularFile;
    let has_flags = is_file || FileType::from_raw_mode(facts.stx_mode.into()) == FileType::Directory;
    let timestamp = |time: StatxTimestamp| Timestamp { sec: time.tv_sec, nsec: time.tv_nsec.min(999_999_999) };
    Metadata {
        mode: u32::from(facts.stx_mode) & 0o7777,
        uid: facts.stx_uid,
        gid: facts.stx_gid,
        size: if is_file { facts.stx_size } else { 0 },
        mtime: timestamp(facts.stx_mtime),
        ctime: timestamp(facts.stx_ctime),
        dev: device_of(facts),
        ino: facts.stx_ino,
        nlink: facts.stx_nlink,
        flags: if has_flags { low_bits(facts.stx_attributes.bits()) & inode_flags::IN_STATX } else { 0 },
        project: 0,
    }
}

/// The low 32 bits.
fn low_bits(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// The device of the inode's filesystem, as in [`Metadata::dev`].
pub(super) fn device_of(facts: &Statx) -> u64 {
    u64::from(facts.stx_dev_major) << 32 | u64::from(facts.stx_dev_minor)
}

pub(super) fn device_number(facts: &Statx) -> DeviceNumber {
    DeviceNumber { major: facts.stx_rdev_major, minor: facts.stx_rdev_minor }
}
