//! Inode flags (chattr(1)) and project ids of open files and directories.
//!
//! One of six files with `unsafe`: rustix has no safe form of `FS_IOC_FSGETXATTR`. Source: the kernel's
//! `include/uapi/linux/fs.h`.

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::fs::IFlags;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

pub mod fat;

const GET: Opcode = opcode::read::<Fsxattr>(b'X', 31);
const SET: Opcode = opcode::write::<Fsxattr>(b'X', 32);

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL`: they prevent renaming and most other changes.
pub const LOCKS: u32 = 0x30;
/// `FS_VERITY_FL`: can be read but not set.
pub const VERITY: u32 = 0x10_0000;
/// `FS_COMPR_FL`, `FS_NOCOMP_FL`, `FS_JOURNAL_DATA_FL`, `FS_NOCOW_FL`, `FS_DAX_FL`: they control how data is
/// written; some can be set only while a file is empty.
pub const OF_DATA: u32 = 0x4 | 0x400 | 0x4000 | 0x80_0000 | 0x200_0000;
/// `FS_CASEFOLD_FL`: can be set only while a directory is empty.
pub const CASEFOLD: u32 = 0x4000_0000;
/// The flags reported by statx(2), whose bits have the same values: compressed, immutable, append, nodump, verity.
pub const IN_STATX: u32 = 0x4 | LOCKS | 0x40 | VERITY;

/// Immutable, append, nodump and noatime, which nearly all filesystems support, including tmpfs.
pub const COMMON: u32 = LOCKS | 0x40 | 0x80;

/// The flags that are kept: bit, chattr's letter, and libarchive's name in `SCHILY.fflags`.
pub const FLAGS: [(u32, char, Option<&str>); 18] = [
    (0x1, 's', Some("secdel")),
    (0x2, 'u', Some("undel")),
    (0x4, 'c', Some("compress")),
    (0x8, 'S', Some("sync")),
    (0x10, 'i', Some("schg")),
    (0x20, 'a', Some("sappnd")),
    (0x40, 'd', Some("nodump")),
    (0x80, 'A', Some("noatime")),
    (0x400, 'm', None),
    (0x4000, 'j', None),
    (0x8000, 't', Some("notail")),
    (0x1_0000, 'D', Some("dirsync")),
    (0x2_0000, 'T', Some("topdir")),
    (VERITY, 'V', None),
    (0x80_0000, 'C', Some("nocow")),
    (0x200_0000, 'x', None),
    (0x2000_0000, 'P', None),
    (CASEFOLD, 'F', None),
];

/// All kept flags.
pub const KEPT: u32 = {
    let mut all = 0;
    let mut at = 0;
    while at < FLAGS.len() {
        all |= FLAGS[at].0;
        at += 1;
    }
    all
};

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// The letters of these flags for chattr.
pub fn letters(flags: u32) -> String {
    FLAGS.iter().filter(|(bit, ..)| flags & bit != 0).map(|(_, letter, _)| letter).collect()
}

/// The ioctls that provide flags and project id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlagSource {
    /// Both ioctls: ext has flags that `FS_IOC_FSGETXATTR` does not show, and its project id is shown only there.
    #[default]
    Both,
    /// `FS_IOC_FSGETXATTR` only: on XFS it shows all flags.
    Xflags,
    /// The attributes of FAT and exFAT, which have no other flags.
    Fat,
    /// `FS_IOC_GETFLAGS` only: btrfs has no project ids.
    Flags,
}

/// `FS_XFLAG_…` with the `FS_…_FL` of the same meaning: immutable, append, sync, noatime, nodump, projinherit, dax.
const OF_XFLAGS: [(u32, u32); 7] =
    [(0x8, 0x10), (0x10, 0x20), (0x20, 0x8), (0x40, 0x80), (0x80, 0x40), (0x200, 0x2000_0000), (0x8000, 0x200_0000)];

/// Flags and project id of an open file or directory; zero if its filesystem has none.
pub fn of_open(file: impl AsFd) -> (u32, u32) {
    of_open_by(FlagSource::Both, file)
}

/// Like [`of_open`], for a known filesystem.
pub fn of_open_by(source: FlagSource, file: impl AsFd) -> (u32, u32) {
    // Keeps bits that rustix has no name for.
    let flags = || rustix::fs::ioctl_getflags(&file).map_or(0, |flags| flags.bits() & KEPT);
    match source {
        FlagSource::Fat => (fat::of_open(&file), 0),
        FlagSource::Flags => (flags(), 0),
        FlagSource::Both => (flags(), attributes(&file).map_or(0, |attributes| attributes.projid)),
        FlagSource::Xflags => attributes(&file).map_or((0, 0), |attributes| {
            let flags = OF_XFLAGS.iter().filter(|(xflag, _)| attributes.xflags & xflag != 0);
            (flags.fold(0, |all, (_, flag)| all | flag), attributes.projid)
        }),
    }
}

fn attributes(file: impl AsFd) -> rustix::io::Result<Fsxattr> {
    let mut attributes = Fsxattr::default();
    // SAFETY: the kernel fills a structure of this layout and length, for which every bit pattern is valid.
    unsafe { ioctl(file, Updater::<GET, Fsxattr>::new(&mut attributes)) }?;
    Ok(attributes)
}

/// Sets the flags in `wanted` and keeps the others; returns those that could not be set.
pub fn add(file: impl AsFd, wanted: u32) -> (u32, Option<Errno>) {
    let wanted = wanted & KEPT;
    let is = |flags: IFlags| flags.bits() & wanted;
    let before = match rustix::fs::ioctl_getflags(&file) {
        Ok(before) => before,
        Err(error) => return (wanted, Some(error)),
    };
    if is(before) == wanted {
        return (0, None);
    }
    let mut refused = None;
    let settable = wanted & !VERITY;
    if rustix::fs::ioctl_setflags(&file, IFlags::from_bits_retain(before.bits() | settable)).is_err() {
        // The filesystem rejects one of them: set the others one at a time.
        for (bit, ..) in FLAGS.iter().filter(|(bit, ..)| settable & bit != 0) {
            let set = rustix::fs::ioctl_getflags(&file)
                .and_then(|now| rustix::fs::ioctl_setflags(&file, IFlags::from_bits_retain(now.bits() | bit)));
            refused = set.err().or(refused);
        }
    }
    // Some filesystems silently accept flags that they do not support.
    let missing = rustix::fs::ioctl_getflags(&file).map_or(wanted, |now| wanted & !is(now));
    (missing, refused.filter(|_| missing != 0))
}

/// Clears flags.
pub fn remove(file: impl AsFd, flags: u32) -> rustix::io::Result<()> {
    let before = rustix::fs::ioctl_getflags(&file)?;
    rustix::fs::ioctl_setflags(&file, IFlags::from_bits_retain(before.bits() & !flags))
}

/// Sets the project id.
pub fn set_project(file: impl AsFd, project: u32) -> rustix::io::Result<()> {
    let mut attributes = attributes(&file)?;
    if attributes.projid == project {
        return Ok(());
    }
    attributes.projid = project;
    // SAFETY: the kernel reads a structure of this layout and length.
    unsafe { ioctl(file, Setter::<SET, Fsxattr>::new(attributes)) }
}

#[cfg(test)]
mod tests {
    use super::{FLAGS, KEPT, letters};

    #[test]
    fn each_flag_has_its_bit_and_its_letter() {
        assert_eq!(KEPT.count_ones() as usize, FLAGS.len());
        assert_eq!(letters(KEPT).chars().collect::<std::collections::BTreeSet<_>>().len(), FLAGS.len());
        assert_eq!(letters(0x10 | 0x80_0000), "iC");
    }
}
