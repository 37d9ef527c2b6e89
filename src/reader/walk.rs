//! Walks a directory tree of the kernel's, from a descriptor of its root.
//!
//! Within a directory the files come first and the subdirectories after them, each sorted by inode number and name:
//! that is close to the order in which they lie on the disk, and the same every night. Memory is one listing for each
//! level of the path that the walk is in; where those grow too large, the outer ones are dropped and read again when
//! the walk returns to them. Only a bounded number of directories is held open.

use std::collections::VecDeque;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::exclude::Excludes;
use super::listing::{Item, Listing, list};
use super::open_file::WalkedFile;
use super::scout::Scouts;
use super::{DeviceNumber, Entry, EntryKind, Found, FsReader, Metadata, Timestamp, Xattr};
use crate::events::{Problem, Severity};
use crate::shown;

/// A directory's path may be this long, in bytes. What lies deeper than this is reported and left out, so that a chain of directories that a tenant made endless does not make the archive so.
const MAX_PATH_BYTES: usize = 64 * 1024;
/// How many directories of the current path are held open.
const MAX_OPEN_DIRS: usize = 64;
/// How many names the listings of the current path may hold together before the outer ones are dropped.
const MAX_LISTED_NAMES: usize = 1 << 20;
/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of Linux: no list of names and no value is longer.
const XATTR_MAX_BYTES: usize = 65536;
/// The attributes of one inode may have this much together. XFS takes half a gigabyte, which would be memory's end.
const XATTRS_MAX_BYTES: usize = 8 << 20;

/// So many directories ahead the next one is looked at beforehand.
const SCOUTED_DIRECTORIES: usize = 24;
/// One in so many files is looked at beforehand, since an inode comes with its neighbours: those of the next files.
const SCOUTED_FILE_STEP: usize = 64;
/// So many files ahead.
const SCOUTED_FILES: usize = 512;

/// The kernel's `include/uapi/linux/magic.h`.
const MSDOS_SUPER_MAGIC: rustix::fs::FsWord = 0x4d44;

pub(super) const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The walk. See the module.
pub struct TreeWalk {
    root: Arc<OwnedFd>,
    is_started: bool,
    excludes: Excludes,
    frames: Vec<Frame>,
    /// The path of the innermost frame's current entry.
    path: Vec<u8>,
    /// What the listing says of that entry: whether it is a directory, and its inode.
    current: (bool, u64),
    /// FAT has no inode numbers; the kernel makes some up, others each time.
    has_inode_numbers: bool,
    ready: VecDeque<Found>,
    listed_names: usize,
    xattr_buf: Vec<u8>,
    dirent_buf: Vec<MaybeUninit<u8>>,
    directories_left: Option<u64>,
    scouts: Scouts,
}

/// A directory that the walk is in.
struct Frame {
    /// `None` when it was closed to save descriptors; `..` of its child leads back.
    dir: Option<Arc<OwnedFd>>,
    dev: u64,
    ino: u64,
    path_len: usize,
    /// `None` before it is read, and when it was dropped to save memory.
    listing: Option<Listing>,
    /// The next name in `listing`.
    position: usize,
    /// The last name that was dealt with, to go on from when the listing is read again.
    last_done: Option<(bool, u64, Vec<u8>)>,
}

impl TreeWalk {
    /// A walk from the directory `root` on. `max_directories` ends it with a problem when it finds more directories:
    /// a damaged filesystem can show one directory in many places.
    pub fn new(root: OwnedFd, excludes: Excludes, max_directories: Option<u64>) -> Self {
        Self {
            root: Arc::new(root),
            is_started: false,
            excludes,
            frames: Vec::new(),
            path: Vec::new(),
            current: (false, 0),
            has_inode_numbers: true,
            ready: VecDeque::new(),
            listed_names: 0,
            xattr_buf: vec![0; XATTR_MAX_BYTES],
            dirent_buf: vec![MaybeUninit::uninit(); 64 * 1024],
            directories_left: max_directories,
            scouts: Scouts::new(),
        }
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.ready.push_back(Found::Problem(Problem::new(Severity::Error, shown::path(&self.path), what)));
    }

    fn start(&mut self) {
        // The descriptor that is walked is closed when the walk goes deep; files are opened from the other one.
        let opened = rustix::fs::openat(&self.root, c".", DIR_FLAGS, Mode::empty());
        let (root, facts) = match opened.and_then(|root| Ok((statx_of(&root, c"")?, root))) {
            Ok((facts, root)) => (root, facts),
            Err(error) => return self.problem(format!("the root directory cannot be read: {error}")),
        };
        self.has_inode_numbers = rustix::fs::fstatfs(&root).is_ok_and(|facts| facts.f_type != MSDOS_SUPER_MAGIC);
        self.enter(root, &facts);
    }

    /// Queues the directory's own entry and makes it the innermost one.
    fn enter(&mut self, dir: OwnedFd, facts: &Statx) {
        let xattrs = self.xattrs_of_open(&dir);
        let metadata = metadata_of(facts);
        self.ready.push_back(Found::Entry(Entry {
            path: self.path.clone(),
            kind: EntryKind::Directory,
            metadata,
            xattrs,
        }));
        self.frames.push(Frame {
            dir: Some(Arc::new(dir)),
            dev: metadata.dev,
            ino: metadata.ino,
            path_len: self.path.len(),
            listing: None,
            position: 0,
            last_done: None,
        });
        if self.frames.len() > MAX_OPEN_DIRS {
            let outermost_open = self.frames.len() - 1 - MAX_OPEN_DIRS;
            self.frames[outermost_open].dir = None;
        }
    }

    /// Goes one step on in the innermost directory. False when there is none left.
    fn step(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else { return false };
        self.path.truncate(frame.path_len);
        if frame.listing.is_none() && !self.read_listing() {
            return true;
        }
        let Some(frame) = self.frames.last_mut() else { return false };
        let Some(listing) = &frame.listing else { return true };
        let Some(item) = listing.items.get(frame.position) else {
            self.leave();
            return true;
        };
        frame.position += 1;
        if let (Some(dir), Some(ahead)) = (&frame.dir, scouted_at(listing, frame.position, item.is_directory)) {
            self.scouts.look_at(dir, listing.name(ahead));
        }
        let name = listing.name(item).to_vec();
        let (is_directory, ino) = (item.is_directory, item.ino);
        self.current = (is_directory, ino);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&name);
        if !self.excludes.leaves_out(&self.path, is_directory) {
            self.visit(&name);
        }
        true
    }

    /// Queues the entry `name` of the innermost directory; its path is in `self.path`.
    fn visit(&mut self, name: &[u8]) {
        let Ok(name) = CString::new(name) else { return };
        let Some(dir) = self.frames.last().and_then(|frame| frame.dir.as_ref()) else { return };
        let facts = match statx_of(dir, &name) {
            Ok(facts) => facts,
            Err(error) => return self.problem(format!("cannot be read, left out: {error}")),
        };
        let kind = match FileType::from_raw_mode(facts.stx_mode.into()) {
            FileType::Directory => {
                match rustix::fs::openat(dir, &name, DIR_FLAGS, Mode::empty()) {
                    Ok(child) => self.visit_directory(child, &facts, &name),
                    Err(error) => self.problem(format!("the directory cannot be opened, left out: {error}")),
                }
                return;
            }
            FileType::RegularFile => {
                let has_all_blocks = facts.stx_blocks.saturating_mul(512) >= facts.stx_size;
                let (root, path) = (Arc::clone(&self.root), self.path.clone());
                EntryKind::File(Box::new(WalkedFile::new(root, path, &metadata_of(&facts), has_all_blocks)))
            }
            FileType::Symlink => match rustix::fs::readlinkat(dir, &name, Vec::new()) {
                Ok(target) => EntryKind::Symlink(target.into_bytes()),
                Err(error) => return self.problem(format!("the symbolic link cannot be read, left out: {error}")),
            },
            FileType::CharacterDevice => EntryKind::CharDevice(device_number(&facts)),
            FileType::BlockDevice => EntryKind::BlockDevice(device_number(&facts)),
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::Unknown => return self.problem("is of a type that is not known, left out"),
        };
        // Files are opened only where they are read; opening the others would follow them, block on them or reach a
        // device. So the attributes go by the name.
        let by_name =
            CString::new([format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name.as_bytes()].concat());
        let xattrs = by_name.map_or_else(|_| Vec::new(), |by_name| self.xattrs_of_name(&by_name));
        self.queue(kind, &facts, xattrs);
    }

    fn visit_directory(&mut self, child: OwnedFd, facts: &Statx, name: &CString) {
        if self.path.len() >= MAX_PATH_BYTES {
            return self.problem(format!("lies deeper than {MAX_PATH_BYTES} bytes of path, left out with all in it"));
        }
        if let Some(left) = &mut self.directories_left {
            let Some(one_less) = left.checked_sub(1) else {
                self.problem("more directories than the filesystem has inodes: it is damaged, the rest is left out");
                self.frames.clear();
                return;
            };
            *left = one_less;
        }
        // This listing may be dropped while the directory is walked.
        let (is_directory, ino) = self.current;
        if let Some(frame) = self.frames.last_mut() {
            frame.last_done = Some((is_directory, ino, name.as_bytes().to_vec()));
        }
        self.enter(child, facts);
    }

    fn queue(&mut self, kind: EntryKind, facts: &Statx, xattrs: Vec<Xattr>) {
        let path = self.path.clone();
        self.ready.push_back(Found::Entry(Entry { path, kind, metadata: metadata_of(facts), xattrs }));
    }

    /// Reads the innermost directory's names. False when it could not be read and was left.
    fn read_listing(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else { return false };
        let Some(dir) = &frame.dir else { return false };
        let listing = match list(dir, &mut self.dirent_buf, self.has_inode_numbers) {
            Ok(listing) => listing,
            Err((listing, error)) => {
                let problem = format!("the directory cannot be read, names may be missing: {error}");
                let location = shown::path(&self.path);
                self.ready.push_back(Found::Problem(Problem::new(Severity::Error, location, problem)));
                listing
            }
        };
        frame.position = match &frame.last_done {
            Some((is_directory, ino, name)) => {
                let done = (*is_directory, *ino, name.as_slice());
                listing.items.partition_point(|item| listing.key(item) <= done)
            }
            None => 0,
        };
        self.listed_names += listing.items.len();
        let first_directory = listing.items.partition_point(|item| !item.is_directory).max(frame.position);
        let files =
            listing.items[frame.position..first_directory].iter().take(SCOUTED_FILES).step_by(SCOUTED_FILE_STEP);
        for item in files.chain(listing.items[first_directory..].iter().take(SCOUTED_DIRECTORIES)) {
            self.scouts.look_at(dir, listing.name(item));
        }
        frame.listing = Some(listing);
        let innermost = self.frames.len() - 1;
        for outer in &mut self.frames[..innermost] {
            if self.listed_names <= MAX_LISTED_NAMES {
                break;
            }
            if let Some(dropped) = outer.listing.take() {
                self.listed_names -= dropped.items.len();
            }
        }
        true
    }

    /// Leaves the innermost directory, and opens the one around it again if it was closed.
    fn leave(&mut self) {
        let Some(left) = self.frames.pop() else { return };
        self.listed_names -= left.listing.map_or(0, |listing| listing.items.len());
        let Some(frame) = self.frames.last_mut() else { return };
        if frame.dir.is_some() {
            return;
        }
        let reopened = left.dir.ok_or(Errno::BADF).and_then(|child| {
            let dir = rustix::fs::openat(&child, c"..", DIR_FLAGS, Mode::empty())?;
            let metadata = metadata_of(&statx_of(&dir, c"")?);
            if (metadata.dev, metadata.ino) == (frame.dev, frame.ino) { Ok(Arc::new(dir)) } else { Err(Errno::STALE) }
        });
        match reopened {
            Ok(dir) => frame.dir = Some(dir),
            Err(error) => {
                self.path.truncate(frame.path_len);
                self.problem(format!("the way back to this directory is lost, the rest is left out: {error}"));
                self.frames.clear();
            }
        }
    }

    fn xattrs_of_open(&mut self, file: &OwnedFd) -> Vec<Xattr> {
        let list = rustix::fs::flistxattr(file, &mut self.xattr_buf[..]);
        self.collect_xattrs(list, |name, buf| rustix::fs::fgetxattr(file, name, buf))
    }

    fn xattrs_of_name(&mut self, path: &CString) -> Vec<Xattr> {
        let list = rustix::fs::llistxattr(path, &mut self.xattr_buf[..]);
        self.collect_xattrs(list, |name, buf| rustix::fs::lgetxattr(path, name, buf))
    }

    fn collect_xattrs(
        &mut self,
        list: rustix::io::Result<usize>,
        get: impl Fn(&CString, &mut [u8]) -> rustix::io::Result<usize>,
    ) -> Vec<Xattr> {
        let list_len = match list {
            Ok(0) | Err(Errno::NOTSUP) => return Vec::new(),
            Ok(len) => len,
            Err(error) => {
                self.problem(format!("its extended attributes cannot be listed, archived without them: {error}"));
                return Vec::new();
            }
        };
        let names: Vec<Vec<u8>> = self.xattr_buf[..list_len]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(Vec::from)
            .collect();
        let mut xattrs = Vec::with_capacity(names.len());
        let mut room = XATTRS_MAX_BYTES;
        for name in names {
            // The ACLs of XFS, shown a second time in its own form: restored on another filesystem they would be junk.
            if name.starts_with(b"trusted.SGI_ACL_") {
                continue;
            }
            // A name comes from a list that was split at its zero bytes, so it holds none.
            let Ok(c_name) = CString::new(name.as_slice()) else { continue };
            match get(&c_name, &mut self.xattr_buf[..]) {
                Ok(len) if len <= room => {
                    room -= len;
                    xattrs.push(Xattr { name, value: self.xattr_buf[..len].to_vec() });
                }
                Ok(_) => {
                    let name = shown::path(&name);
                    self.problem(format!("has more than 8 MiB of extended attributes, archived without {name}"));
                }
                Err(Errno::NODATA) => {}
                Err(error) => {
                    let name = shown::path(&name);
                    self.problem(format!("its extended attribute {name} cannot be read, archived without it: {error}"));
                }
            }
        }
        xattrs.sort_unstable();
        xattrs
    }
}

impl FsReader for TreeWalk {
    fn next_found(&mut self) -> Option<Found> {
        if !self.is_started {
            self.is_started = true;
            self.start();
        }
        while self.ready.is_empty() && self.step() {}
        self.ready.pop_front()
    }
}

/// What is looked at beforehand when the walk has come to `position`, where it found a directory or something else.
fn scouted_at(listing: &Listing, position: usize, is_directory: bool) -> Option<&Item> {
    if is_directory {
        listing.items.get(position + SCOUTED_DIRECTORIES)
    } else if position.is_multiple_of(SCOUTED_FILE_STEP) {
        listing.items.get(position + SCOUTED_FILES)
    } else {
        None
    }
}

pub(super) fn statx_of(dir: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)
}

fn metadata_of(facts: &Statx) -> Metadata {
    let is_file = FileType::from_raw_mode(facts.stx_mode.into()) == FileType::RegularFile;
    let timestamp =
        |time: rustix::fs::StatxTimestamp| Timestamp { sec: time.tv_sec, nsec: time.tv_nsec.min(999_999_999) };
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
    }
}

/// The filesystem that an inode lies in, as [`Metadata::dev`] has it.
pub(super) fn device_of(facts: &Statx) -> u64 {
    u64::from(facts.stx_dev_major) << 32 | u64::from(facts.stx_dev_minor)
}

fn device_number(facts: &Statx) -> DeviceNumber {
    DeviceNumber { major: facts.stx_rdev_major, minor: facts.stx_rdev_minor }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use super::TreeWalk;
    use crate::reader::exclude::Excludes;
    use crate::reader::{EntryKind, Found, FsReader};

    fn walk(root: &Path, max_directories: Option<u64>) -> (Vec<String>, Vec<String>) {
        let root = OwnedFd::from(fs::File::open(root).unwrap());
        let mut walk = TreeWalk::new(root, Excludes::new::<&str>(&[]).unwrap(), max_directories);
        let (mut paths, mut problems) = (Vec::new(), Vec::new());
        while let Some(found) = walk.next_found() {
            match found {
                Found::Entry(entry) => paths.push(crate::shown::path(&entry.path)),
                Found::Problem(problem) => problems.push(problem.to_string()),
            }
        }
        (paths, problems)
    }

    #[test]
    fn files_come_before_directories_and_parents_before_children() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/deep"), "x").unwrap();
        fs::write(dir.path().join("top"), "x").unwrap();
        let (paths, problems) = walk(dir.path(), None);
        assert_eq!(paths, ["/", "top", "a", "a/b", "a/b/deep"]);
        assert!(problems.is_empty());
    }

    #[test]
    fn a_path_deeper_than_the_open_directories_is_walked_to_its_end_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut deepest = dir.path().to_owned();
        for level in 0..200 {
            deepest.push(format!("d{level}"));
            fs::create_dir(&deepest).unwrap();
            fs::write(deepest.join("file"), "x").unwrap();
            fs::create_dir(deepest.join("z")).unwrap();
        }
        let (paths, problems) = walk(dir.path(), None);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(paths.len(), 1 + 200 * 3);
    }

    #[test]
    fn more_directories_than_allowed_end_the_walk_with_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..5 {
            fs::create_dir(dir.path().join(name.to_string())).unwrap();
        }
        let (paths, problems) = walk(dir.path(), Some(3));
        assert_eq!(paths.len(), 1 + 3);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_fifo_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let root = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        let mut walk = TreeWalk::new(root, Excludes::nothing(), None);
        walk.next_found();
        assert!(matches!(walk.next_found(), Some(Found::Entry(entry)) if matches!(entry.kind, EntryKind::Fifo)));
    }
}
