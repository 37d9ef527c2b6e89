//! Shares blocks between files instead of copying, where the filesystem supports reflinks (XFS, btrfs and others).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::archive::members::LEAST_SHARED_BLOCKS;

/// The alignment of shared ranges in both files. Filesystems with longer blocks are not used for sharing.
pub(super) const BLOCK_BYTES: usize = 4096;
/// Shorter ranges are copied.
const LEAST_BYTES: usize = LEAST_SHARED_BLOCKS * BLOCK_BYTES;
/// The maximum length per call.
const MOST_BYTES: u64 = 64 << 20;

/// A range of another file that is consecutive in both files and starts at a block boundary in both.
#[derive(Debug)]
pub(super) struct Stretch {
    source: Arc<File>,
    from: u64,
    len: u64,
    /// The bytes after the last whole block.
    rest: Vec<u8>,
}

/// The length before the first whole block of `bytes`, which are at `offset` in the source; `None` if sharing is
/// not worth it.
pub(super) fn before_first_block(bytes: &[u8], offset: u64) -> Option<usize> {
    let within = usize::try_from(offset % BLOCK_BYTES as u64).ok()?;
    let before = (BLOCK_BYTES - within) % BLOCK_BYTES;
    (bytes.len() >= before + LEAST_BYTES).then_some(before)
}

impl Stretch {
    pub(super) fn new(source: &Arc<File>, from: u64) -> Self {
        Self { source: Arc::clone(source), from, len: 0, rest: Vec::new() }
    }

    /// Whether `offset` of `source` continues this range.
    pub(super) fn goes_on_at(&self, source: &Arc<File>, offset: u64) -> bool {
        Arc::ptr_eq(&self.source, source) && self.from.checked_add(self.len) == Some(offset)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        let rest_len = usize::try_from(self.len % BLOCK_BYTES as u64).unwrap_or(0);
        let (_, tail) = bytes.split_at(bytes.len().saturating_sub(rest_len));
        // Either these bytes contain the whole remainder, or they extend it.
        self.rest.truncate(if tail.len() == rest_len { 0 } else { rest_len - tail.len() });
        self.rest.extend_from_slice(tail);
    }

    /// Whether it is long enough to be shared now.
    pub(super) fn is_long(&self) -> bool {
        self.len >= MOST_BYTES
    }

    /// The bytes after the last whole block, which must be written.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Shares its whole blocks with `file` at the current position; returns their length.
    pub(super) fn share_with(&self, file: &File) -> io::Result<usize> {
        let mut from = self.from;
        let all = self.len - self.rest.len() as u64;
        let mut left = all;
        while left > 0 {
            // The filesystem was tested to share. Where it does not, the kernel copies.
            let len = usize::try_from(left).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(&self.source, Some(&mut from), file, None, len) {
                Ok(0) => return Err(io::Error::other("the previous archive is shorter than it was a moment ago")),
                Ok(done) => left = left.saturating_sub(done as u64),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(usize::try_from(all).unwrap_or(usize::MAX))
    }
}

/// Whether files in this directory can share blocks of [`BLOCK_BYTES`], tested with two unnamed files.
pub(super) fn is_possible_in(directory: &OwnedFd) -> bool {
    let unnamed = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR).map(File::from)
    };
    let in_such_blocks = rustix::fs::fstatvfs(directory).is_ok_and(|facts| facts.f_bsize <= BLOCK_BYTES as u64);
    let (true, Ok(one), Ok(other)) = (in_such_blocks, unnamed(), unnamed()) else { return false };
    let copies = || rustix::fs::copy_file_range(&one, Some(&mut 0), &other, None, BLOCK_BYTES);
    (&one).write_all(&[1; BLOCK_BYTES]).is_ok()
        && rustix::fs::ioctl_ficlone(&other, &one).is_ok()
        && copies() == Ok(BLOCK_BYTES)
}

/// Whether both are on the same filesystem.
pub(super) fn are_beside(source: &File, directory: &OwnedFd) -> bool {
    let device = |stat: rustix::io::Result<rustix::fs::Stat>| stat.ok().map(|stat| stat.st_dev);
    let of_source = device(rustix::fs::fstat(source));
    of_source.is_some() && of_source == device(rustix::fs::fstat(directory))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{BLOCK_BYTES, Stretch};

    #[test]
    fn the_rest_is_what_is_behind_the_last_whole_block() {
        let bytes: Vec<u8> = (0..40_000_u32).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        let source = Arc::new(tempfile::tempfile().unwrap());
        for step in [1, 100, 4095, 4096, 5000, 9000] {
            let mut stretch = Stretch::new(&source, 8192);
            let mut at = 0;
            for piece in bytes.chunks(step) {
                assert!(stretch.goes_on_at(&source, 8192 + at as u64));
                stretch.add(piece);
                at += piece.len();
                assert_eq!(stretch.rest(), &bytes[at - at % BLOCK_BYTES..at], "{step}");
            }
        }
    }
}
