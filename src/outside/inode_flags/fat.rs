//! The attributes of FAT and exFAT: read-only, hidden, system and archive. They use bits of [`Metadata::flags`]
//! that no kept flag has, plus [`KNOWN`] if they differ from those of a new file.
//!
//! One of six files with `unsafe`: rustix has no form of these ioctls. Source: the kernel's
//! `include/uapi/linux/msdos_fs.h`.
//!
//! [`Metadata::flags`]: crate::entry::Metadata::flags

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::fs::FsWord;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

const GET: Opcode = opcode::read::<u32>(b'r', 0x10);
const SET: Opcode = opcode::write::<u32>(b'r', 0x11);

/// `MSDOS_SUPER_MAGIC`, of the kernel's `include/uapi/linux/magic.h`.
pub const MSDOS_SUPER_MAGIC: FsWord = 0x4d44;
/// `EXFAT_SUPER_MAGIC`, of the same.
pub const EXFAT_SUPER_MAGIC: FsWord = 0x2011_bab0;

/// `ATTR_DIR`.
const DIRECTORY: u32 = 0x10;
/// `ATTR_ARCH`: set on new files, not on new directories.
const ARCHIVE: u32 = 0x20;

/// The attributes differ from those of a new file or directory.
pub const KNOWN: u32 = 0x8000_0000;
/// Each attribute: its bit in the flags, `ATTR_…`, and the letter of attrib(1) and fatattr(1).
pub const ATTRIBUTES: [(u32, u32, char); 4] =
    [(0x0100_0000, 0x1, 'r'), (0x0400_0000, 0x2, 'h'), (0x0800_0000, 0x4, 's'), (0x1000_0000, ARCHIVE, 'a')];
/// All of these bits.
pub const ALL: u32 = KNOWN | 0x0100_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000;

/// The attributes of an open file or directory as flags; 0 for those of a new one, and without attributes.
pub fn of_open(file: impl AsFd) -> u32 {
    let Ok(attributes) = get(file) else { return 0 };
    let of_new = if attributes & DIRECTORY == 0 { ARCHIVE } else { 0 };
    let all = ATTRIBUTES.iter().fold(0, |all, (_, attribute, _)| all | attribute);
    if attributes & all == of_new {
        return 0;
    }
    let set = ATTRIBUTES.iter().filter(|(_, attribute, _)| attributes & attribute != 0);
    set.fold(KNOWN, |flags, (bit, ..)| flags | bit)
}

/// Whether this filesystem has readable attributes.
pub fn has_some(file: impl AsFd) -> bool {
    get(file).is_ok()
}

/// Sets the attributes in these flags, and clears the others.
pub fn set(file: impl AsFd, flags: u32) -> rustix::io::Result<()> {
    let before = get(&file)?;
    let wanted = ATTRIBUTES.iter().fold(
        before,
        |all, (bit, attribute, _)| {
            if flags & bit == 0 { all & !attribute } else { all | attribute }
        },
    );
    if wanted != before {
        // SAFETY: the kernel reads a 32-bit number.
        unsafe { ioctl(&file, Setter::<SET, u32>::new(wanted)) }?;
    }
    Ok(())
}

fn get(file: impl AsFd) -> rustix::io::Result<u32> {
    let fs = rustix::fs::fstatfs(&file)?.f_type;
    if fs != MSDOS_SUPER_MAGIC && fs != EXFAT_SUPER_MAGIC {
        // Another filesystem may use this ioctl number for something else.
        return Err(Errno::NOTTY);
    }
    let mut attributes = 0_u32;
    // SAFETY: the kernel writes a 32-bit number.
    unsafe { ioctl(file, Updater::<GET, u32>::new(&mut attributes)) }?;
    Ok(attributes)
}

/// The attributes in the archive: their letters, or `-` for none.
pub fn letters(flags: u32) -> String {
    let set: String = ATTRIBUTES.iter().filter(|(bit, ..)| flags & bit != 0).map(|(_, _, letter)| letter).collect();
    if set.is_empty() { "-".to_owned() } else { set }
}

/// Parses the result of [`letters`].
pub fn from_letters(letters: &str) -> u32 {
    let set = ATTRIBUTES.iter().filter(|(_, _, letter)| letters.contains(*letter));
    set.fold(KNOWN, |flags, (bit, ..)| flags | bit)
}

#[cfg(test)]
mod tests {
    use super::{ALL, ATTRIBUTES, KNOWN, from_letters, letters, of_open, set};
    use crate::outside::inode_flags::{IN_STATX, KEPT};

    #[test]
    fn no_inode_flag_has_one_of_their_bits() {
        assert_eq!(ALL & (KEPT | IN_STATX), 0);
        assert_eq!(ATTRIBUTES.iter().fold(KNOWN, |all, (bit, ..)| all | bit), ALL);
        for flags in [KNOWN, KNOWN | 0x0400_0000, ALL] {
            assert_eq!(from_letters(&letters(flags)), flags);
        }
    }

    #[test]
    fn another_filesystem_has_none() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(of_open(&file), 0);
        assert_eq!(set(&file, ALL), Err(rustix::io::Errno::NOTTY));
    }
}
