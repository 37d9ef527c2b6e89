//! A directory's names, in the order of the walk.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, RawDir, SeekFrom};

use super::kernel_tree::statx_of;

/// No directory has more: ext4 holds some 12 million without `large_dir`. Who made the disk could make it so that
/// its names fill the memory.
const MAX_NAMES: usize = 16 << 20;

/// The names of a directory, all in one stretch of memory.
#[derive(Default)]
pub struct Listing {
    names: Vec<u8>,
    /// Sorted.
    pub(super) items: Vec<Item>,
}

#[derive(Clone, Copy)]
pub(super) struct Item {
    pub(super) ino: u64,
    name_start: usize,
    name_len: u16,
    pub(super) is_directory: bool,
}

impl Listing {
    /// Adds a name. One that is too long for every filesystem of Linux is not taken; one too many is an error.
    pub(super) fn add(&mut self, name: &[u8], ino: u64, is_directory: bool) -> io::Result<()> {
        if self.items.len() >= MAX_NAMES {
            return Err(io::Error::other(format!("it has more than {MAX_NAMES} names")));
        }
        let Ok(name_len) = u16::try_from(name.len()) else { return Ok(()) };
        self.items.push(Item { ino, name_start: self.names.len(), name_len, is_directory });
        self.names.extend_from_slice(name);
        Ok(())
    }

    /// All names in the order of the walk; with the error that kept others out, if there was one.
    pub(super) fn finish(mut self, failed: Option<io::Error>) -> Result<Self, (Self, io::Error)> {
        let Self { names, items } = &mut self;
        let name_of = |item: &Item| &names[item.name_start..item.name_start + usize::from(item.name_len)];
        items.sort_unstable_by(|a, b| (a.is_directory, a.ino, name_of(a)).cmp(&(b.is_directory, b.ino, name_of(b))));
        match failed {
            None => Ok(self),
            Some(error) => Err((self, error)),
        }
    }

    pub(super) fn name(&self, item: &Item) -> &[u8] {
        &self.names[item.name_start..item.name_start + usize::from(item.name_len)]
    }

    pub(super) fn key(&self, item: &Item) -> (bool, u64, &[u8]) {
        (item.is_directory, item.ino, self.name(item))
    }
}

/// Lists a directory, sorted. With an error comes what was read before it.
pub(super) fn list(
    dir: &OwnedFd,
    buf: &mut [MaybeUninit<u8>],
    has_inode_numbers: bool,
) -> Result<Listing, (Listing, io::Error)> {
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
            return listing.finish(Some(error));
        }
    }
    listing.finish(failed.map(io::Error::from))
}
