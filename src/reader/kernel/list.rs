//! Lists a directory through the kernel.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, RawDir, SeekFrom};

use super::stat::statx_of;
use crate::reader::listing::{Listing, Reach};

/// Lists a directory, sorted. An error comes with the names read before it.
pub(super) fn list(
    dir: &OwnedFd,
    buf: &mut [MaybeUninit<u8>],
    has_inode_numbers: bool,
) -> Result<Listing, (Listing, io::Error)> {
    let ino_of = |name: &[u8]| {
        let name = std::ffi::CString::new(name).ok()?;
        statx_of(dir, &name).ok().filter(|_| has_inode_numbers).map(|facts| facts.stx_ino)
    };
    // Only FAT has no inode numbers.
    let reach = Reach::ByName { ino_of: &ino_of, ignores_case: !has_inode_numbers };
    let mut listing = Listing::default();
    let mut failed = rustix::fs::seek(dir, SeekFrom::Start(0)).err();
    let mut entries = RawDir::new(dir.as_fd(), buf);
    while failed.is_none()
        && let Some(entry) = entries.next()
    {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => statx_of(dir, entry.file_name())
                .is_ok_and(|facts| FileType::from_raw_mode(facts.stx_mode.into()) == FileType::Directory),
            _ => false,
        };
        if let Err(error) = listing.add(name, if has_inode_numbers { entry.ino() } else { 0 }, is_directory) {
            return listing.finish(Some(error), &reach);
        }
    }
    listing.finish(failed.map(io::Error::from), &reach)
}
