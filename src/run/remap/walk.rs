//! Walks a tree: each entry is opened, no symbolic link is followed, and no mount point is crossed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};
use rustix::io::Errno;

use super::error::RemapError;

/// Directories of the path to the present one that are kept open. Others are opened again through `..`, and must be the same
/// inode then.
const MOST_OPEN: usize = 200;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const STAY: ResolveFlags = ResolveFlags::NO_XDEV.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// The directory whose tree is changed.
pub(super) struct Root {
    pub(super) fd: OwnedFd,
    /// Its path, absolute, for the journal.
    pub(super) path: Vec<u8>,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Root {
    pub(super) fn open(directory: &Path) -> Result<Self, RemapError> {
        let failed = |why| RemapError::Directory { directory: shown_path(directory), why };
        // The user may name the directory through a symbolic link; within it none is followed.
        let fd = openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        let path = std::fs::canonicalize(directory)
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let path = path.into_os_string().into_encoded_bytes();
        Ok(Self { fd, path, device: stat.st_dev, inode: stat.st_ino })
    }

    /// Opens an inode below it by its path; the empty path is the root.
    pub(super) fn look(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut at = look_at(&self.fd, c".")?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if name == b".." {
                return Err(Errno::INVAL);
            }
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            at = look_at(&at, &name)?;
        }
        Ok(at)
    }
}

/// Opens an entry, whatever it is, without following it. A mount point is `XDEV`.
fn look_at(directory: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    // NO_SYMLINKS refuses the entry itself if it is a link, though it would not be followed.
    let stay = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    match openat2(&directory, name, LOOK, Mode::empty(), stay) {
        // Interrupted by a rename or a mount.
        Err(Errno::AGAIN) => openat2(&directory, name, LOOK, Mode::empty(), stay),
        other => other,
    }
}

/// What the walk meets.
pub(super) enum Found {
    Inode { path: Vec<u8>, fd: OwnedFd },
    OtherFilesystem,
    Problem { path: Vec<u8>, what: String },
}

struct Level {
    fd: Option<OwnedFd>,
    device: u64,
    inode: u64,
    names: Vec<CString>,
    /// Bytes of the path of this directory.
    path_len: usize,
}

pub(super) struct Walk {
    levels: Vec<Level>,
    path: Vec<u8>,
    device: u64,
    first: Option<OwnedFd>,
    waiting: Vec<Found>,
}

impl Walk {
    pub(super) fn new(root: &Root) -> Result<Self, RemapError> {
        let first =
            root.look(b"").map_err(|why| RemapError::Directory { directory: crate::shown::bytes(&root.path), why })?;
        Ok(Self { levels: Vec::new(), path: Vec::new(), device: root.device, first: Some(first), waiting: Vec::new() })
    }

    /// The next entry: a directory before what lies in it.
    pub(super) fn next(&mut self) -> Option<Found> {
        if let Some(waiting) = self.waiting.pop() {
            return Some(waiting);
        }
        if let Some(first) = self.first.take() {
            let copy = rustix::io::fcntl_dupfd_cloexec(&first, 0);
            self.enter(&first);
            return Some(match copy {
                Ok(fd) => Found::Inode { path: Vec::new(), fd },
                Err(error) => Found::Problem { path: Vec::new(), what: error.to_string() },
            });
        }
        loop {
            let level = self.levels.last_mut()?;
            self.path.truncate(level.path_len);
            let Some(name) = level.names.pop() else {
                self.leave();
                continue;
            };
            let Some(directory) = &level.fd else {
                // It could not be opened again, which was reported.
                level.names.clear();
                continue;
            };
            let fd = look_at(directory, &name);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            let path = self.path.clone();
            let fd = match fd {
                Ok(fd) => fd,
                Err(Errno::XDEV) => return Some(Found::OtherFilesystem),
                // Deleted since its directory was read.
                Err(Errno::NOENT) => continue,
                Err(error) => return Some(Found::Problem { path, what: error.to_string() }),
            };
            match fstat(&fd) {
                // A subvolume of btrfs is another filesystem without a mount.
                Ok(stat) if stat.st_dev != self.device => return Some(Found::OtherFilesystem),
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => self.enter(&fd),
                Ok(_) => {}
                Err(error) => return Some(Found::Problem { path, what: error.to_string() }),
            }
            return Some(Found::Inode { path, fd });
        }
    }

    /// Reads a directory's names, and makes it the present one.
    fn enter(&mut self, look: &OwnedFd) {
        match names(look) {
            Ok((fd, device, inode, names)) => {
                let far = self.levels.len().checked_sub(MOST_OPEN);
                if let Some(level) = far.and_then(|far| self.levels.get_mut(far)) {
                    level.fd = None;
                }
                self.levels.push(Level { fd: Some(fd), device, inode, names, path_len: self.path.len() });
            }
            Err(error) => {
                let what = format!("its entries cannot be read: {error}");
                self.waiting.push(Found::Problem { path: self.path.clone(), what });
            }
        }
    }

    fn leave(&mut self) {
        let Some(left) = self.levels.pop() else { return };
        let Some(parent) = self.levels.last_mut().filter(|parent| parent.fd.is_none()) else { return };
        let opened = left.fd.ok_or(Errno::BADF).and_then(|fd| {
            let above = openat2(&fd, c"..", LOOK | OFlags::DIRECTORY, Mode::empty(), STAY)?;
            let stat = fstat(&above)?;
            // Moved elsewhere meanwhile.
            if (stat.st_dev, stat.st_ino) == (parent.device, parent.inode) { Ok(above) } else { Err(Errno::STALE) }
        });
        match opened {
            Ok(fd) => parent.fd = Some(fd),
            Err(error) => {
                let path = self.path.get(..parent.path_len).unwrap_or_default().to_vec();
                let what = format!("the rest of its entries is not reached, since the directory moved: {error}");
                self.waiting.push(Found::Problem { path, what });
            }
        }
    }
}

type Names = (OwnedFd, u64, u64, Vec<CString>);

fn names(look: &OwnedFd) -> Result<Names, Errno> {
    let stat = statat(look, c"", AtFlags::EMPTY_PATH)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Reading the names does not change the directory's access time, where the owner or root asks for that.
    let fd = match openat(look, c".", flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(look, c".", flags, Mode::empty())?,
        other => other?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    // Taken from the end.
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok((fd, stat.st_dev, stat.st_ino, names))
}

/// A directory, for messages.
pub(super) fn shown_path(path: &Path) -> String {
    crate::shown::bytes(path.as_os_str().as_encoded_bytes())
}
