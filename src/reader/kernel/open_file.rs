//! A regular file that is opened through the kernel at its first use.
//!
//! A file that is carried forward is never opened. A file is therefore identified by its path from the root of the
//! walk: a directory descriptor per waiting file would have no upper bound.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Advice, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use super::stat::{device_of, statx_of};
use crate::entry::{FileContent, Metadata};
use crate::outside::inode_flags::{self, FlagSource};
use crate::units::ByteRange;

/// The maximum length of a file that is prefetched.
const AHEAD_BYTES: u64 = 1 << 20;
/// A smaller file with all its blocks allocated is not checked for holes.
const SMALL_FILE_BYTES: u64 = 64 * 1024;
/// Long paths are resolved in pieces of at most this length: `PATH_MAX` is 4096 with the final NUL.
const PATH_PIECE_BYTES: usize = 4000;

pub(super) const FILE_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const PIECE_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// A regular file found by the walk.
pub(super) struct WalkedFile {
    root: Arc<OwnedFd>,
    path: Vec<u8>,
    /// The device at walk time: the opened file must have the same.
    dev: u64,
    ino: u64,
    size: u64,
    /// Whether as many blocks are allocated as its size requires.
    has_all_blocks: bool,
    flag_source: FlagSource,
    open: RefCell<Option<Opened>>,
}

struct Opened {
    file: File,
    size: u64,
    /// Whether to query holes: a small file with all its blocks has none.
    may_have_holes: bool,
}

impl WalkedFile {
    pub(super) fn new(
        root: Arc<OwnedFd>,
        path: Vec<u8>,
        metadata: &Metadata,
        has_all_blocks: bool,
        flag_source: FlagSource,
    ) -> Self {
        let Metadata { dev, ino, size, .. } = *metadata;
        Self { root, path, dev, ino, size, has_all_blocks, flag_source, open: RefCell::new(None) }
    }

    /// Calls `using` with the open file.
    fn with<T>(&self, using: impl FnOnce(&Opened) -> io::Result<T>) -> io::Result<T> {
        let mut open = self.open.borrow_mut();
        match &*open {
            Some(opened) => using(opened),
            None => using(open.insert(self.open()?)),
        }
    }

    fn open(&self) -> io::Result<Opened> {
        let file = open_beneath(&self.root, &self.path)?;
        let facts = statx_of(&file, c"")?;
        if (device_of(&facts), facts.stx_ino) != (self.dev, self.ino) {
            return Err(Errno::STALE.into());
        }
        let is_small = self.size < SMALL_FILE_BYTES;
        let is_dense = self.has_all_blocks
            && (is_small || rustix::fs::seek(&file, SeekFrom::Hole(0)).is_ok_and(|hole| hole >= self.size));
        Ok(Opened { file: File::from(file), size: facts.stx_size, may_have_holes: !is_dense })
    }
}

/// Opens the file at `path` below `root`. Follows no link and never leaves `root`.
fn open_beneath(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let mut outer: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > PATH_PIECE_BYTES {
        // A name has at most 255 bytes, so each piece contains a separator.
        let border = rest[..PATH_PIECE_BYTES].iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let next = open_piece(outer.as_ref(), root, &rest[..border], PIECE_FLAGS)?;
        outer = Some(next);
        rest = &rest[border + 1..];
    }
    open_piece(outer.as_ref(), root, rest, FILE_FLAGS)
}

fn open_piece(outer: Option<&OwnedFd>, root: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let from: BorrowedFd<'_> = outer.map_or(root.as_fd(), AsFd::as_fd);
    Ok(rustix::fs::openat2(from, path, flags, Mode::empty(), BENEATH)?)
}

impl FileContent for WalkedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.with(|opened| opened.file.read_at(buf, offset))
    }

    /// Compares with the size at opening. The filesystem is mounted read-only, and another read at the end of each
    /// small file would cost as much as reading its data.
    fn is_longer_than(&self, size: u64) -> bool {
        self.with(|opened| Ok(opened.size > size)).unwrap_or(false)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        if from >= self.size {
            return Ok(None);
        }
        self.with(|opened| {
            if !opened.may_have_holes {
                return Ok(Some(ByteRange::new(from, self.size - from)));
            }
            let start = match rustix::fs::seek(&opened.file, SeekFrom::Data(from)) {
                Ok(start) => start,
                Err(Errno::NXIO) => return Ok(None),
                // A filesystem without support for holes: the rest is data.
                Err(Errno::INVAL | Errno::NOTSUP) => from,
                Err(error) => return Err(error.into()),
            };
            let end = match rustix::fs::seek(&opened.file, SeekFrom::Hole(start)) {
                // An invalid answer: treat the rest as data.
                Ok(end) if end > start => end.min(self.size),
                Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::NOTSUP) => self.size,
                Err(error) => return Err(error.into()),
            };
            Ok(end.checked_sub(start).filter(|len| *len > 0).map(|len| ByteRange::new(start, len)))
        })
    }

    fn prefetch(&self) -> io::Result<()> {
        if self.open.borrow().is_some() {
            return Ok(());
        }
        self.with(|opened| {
            // Only files without holes: prefetched pages over preallocated blocks would be reported as data.
            if let Some(len) = NonZero::new(self.size.min(AHEAD_BYTES)).filter(|_| !opened.may_have_holes) {
                // A hint; failure costs time only.
                let _ = rustix::fs::fadvise(&opened.file, 0, Some(len), Advice::WillNeed);
            }
            Ok(())
        })
    }

    fn inode_flags(&self) -> Option<(u32, u32)> {
        self.with(|opened| Ok(inode_flags::of_open_by(self.flag_source, &opened.file))).ok()
    }

    fn close(&self) {
        *self.open.borrow_mut() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::sync::Arc;

    use super::{FlagSource, WalkedFile};
    use crate::entry::{FileContent, Metadata};

    fn walked(root: &Path, path: &str) -> WalkedFile {
        let facts = fs::metadata(root.join(path)).unwrap();
        let dev = u64::from(rustix::fs::major(facts.dev())) << 32 | u64::from(rustix::fs::minor(facts.dev()));
        let metadata = Metadata { dev, ino: facts.ino(), size: facts.len(), ..Metadata::default() };
        let root = Arc::new(OwnedFd::from(fs::File::open(root).unwrap()));
        WalkedFile::new(root, path.into(), &metadata, true, FlagSource::Both)
    }

    #[test]
    fn a_replaced_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let path = dir.path().join("d/file");
        fs::write(&path, "first").unwrap();
        let file = walked(dir.path(), "d/file");
        fs::rename(&path, dir.path().join("d/kept")).unwrap();
        assert!(file.prefetch().is_err());
        fs::write(&path, "other").unwrap();
        assert!(file.read_at(0, &mut [0; 5]).is_err());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("kept", &path).unwrap();
        assert!(file.read_at(0, &mut [0; 5]).is_err());
        fs::rename(dir.path().join("d/kept"), &path).unwrap();
        let mut bytes = [0; 5];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 5);
        assert_eq!(&bytes, b"first");
        file.close();
        assert_eq!(file.read_at(1, &mut bytes).unwrap(), 4);
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_opened_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::File::open(dir.path()).unwrap();
        let name = "n".repeat(250);
        let mut at = OwnedFd::from(top);
        let mut path = String::new();
        for _ in 0..40 {
            rustix::fs::mkdirat(&at, &name, 0o700.into()).unwrap();
            at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
            path.push_str(&name);
            path.push('/');
        }
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        let file = rustix::fs::openat(&at, "file", flags, 0o600.into()).unwrap();
        rustix::io::write(&file, b"deep").unwrap();
        let facts = rustix::fs::fstat(&file).unwrap();
        let dev = u64::from(rustix::fs::major(facts.st_dev)) << 32 | u64::from(rustix::fs::minor(facts.st_dev));
        let metadata = Metadata { dev, ino: facts.st_ino, size: 4, ..Metadata::default() };
        let root = Arc::new(OwnedFd::from(fs::File::open(dir.path()).unwrap()));
        let walked = WalkedFile::new(root, (path + "file").into_bytes(), &metadata, true, FlagSource::Both);
        let mut bytes = [0; 4];
        assert_eq!(walked.read_at(0, &mut bytes).unwrap(), 4);
        assert_eq!(&bytes, b"deep");
    }
}
