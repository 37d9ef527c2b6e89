//! Sets immutable and append-only flags after everything else: such a directory accepts no entries, and such a file
//! cannot be renamed or linked.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::attributes::Restorer;
use crate::outside::inode_flags;

/// The maximum length of all paths together.
const PATHS_BYTES_MAX: usize = 64 << 20;

/// Paths from the tree's root, with their flags.
#[derive(Debug, Default)]
pub struct Locks {
    all: Vec<(Vec<Vec<u8>>, u32)>,
    bytes: usize,
}

impl Locks {
    /// Adds a path.
    pub fn note(&mut self, parts: &[&[u8]], flags: u32, restorer: &mut Restorer) {
        self.bytes += parts.iter().map(|part| part.len() + size_of::<Vec<u8>>()).sum::<usize>() + 64;
        if self.bytes > PATHS_BYTES_MAX {
            return restorer
                .fell_short("inode flags (chattr +i, +a) were not set: there are too many of them".to_owned());
        }
        self.all.push((parts.iter().map(|part| part.to_vec()).collect(), flags));
    }

    /// Sets the flags in reverse order: a directory after its content.
    pub fn set(self, root: BorrowedFd<'_>, restorer: &mut Restorer) {
        for (parts, flags) in self.all.into_iter().rev() {
            match open(root, &parts) {
                Ok(file) => restorer.flags_fell_short(inode_flags::add(&file, flags)),
                Err(error) => restorer.flags_fell_short((flags, Some(error))),
            }
        }
    }
}

/// Opens this path without following links or leaving the tree.
fn open(root: BorrowedFd<'_>, parts: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
    let mut at = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    let Some((name, parents)) = parts.split_last() else { return Ok(at) };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for part in parents {
        at = rustix::fs::openat(at.as_fd(), part.as_slice(), directory, Mode::empty())?;
    }
    // Does not block on a fifo that has taken its place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(at.as_fd(), name.as_slice(), flags, Mode::empty())
}
