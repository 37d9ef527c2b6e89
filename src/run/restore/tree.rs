//! The target directory, and access to it: one component at a time, never through a symbolic link, never outside.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::attributes::{AttributeError, Attributes, Restorer, modified};
use crate::entry::Timestamp;

/// The prefix of names of incomplete files, in their final directory. A random part follows, so that a file of the
/// archive with such a name is not taken for one.
pub const TEMPORARY_PREFIX: &str = ".volbak-tmp.restore-";
/// How many directories of the current path stay open.
const MAX_OPEN: usize = 64;
/// The mode of directories without an entry in the archive, subject to the umask.
const IMPLIED_MODE: u32 = 0o755;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The attributes that a directory gets when it is complete.
#[derive(Debug)]
enum Finish {
    Nothing,
    /// The time that it had before.
    Time(Timestamp),
    Attributes(Box<Attributes>),
}

impl Finish {
    fn carry_out(self, fd: &OwnedFd, restorer: &mut Restorer) -> Result<(), AttributeError> {
        match self {
            Self::Nothing => Ok(()),
            // Only the owner of a directory may set its times. Other times are no fault of the restore.
            Self::Time(time) => match rustix::fs::futimens(fd, &modified(time)) {
                Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::ROFS) => Ok(()),
                Err(error) => Err(AttributeError::TimeBack(error)),
            },
            Self::Attributes(attributes) => attributes.set_open(fd, restorer),
        }
    }
}

#[derive(Debug)]
struct OpenDirectory {
    name: Vec<u8>,
    /// `None` if it was closed to save descriptors; `..` of its child reopens it.
    fd: Option<OwnedFd>,
    id: (u64, u64),
    finish: Finish,
    fresh: bool,
    default_acl: bool,
    /// Digests of the names in it; `None` before the first query.
    names: RefCell<Option<HashSet<u64>>>,
}

/// The target directory, and the current path in it.
#[derive(Debug)]
pub struct Tree {
    levels: Vec<OpenDirectory>,
    /// Whether it was empty at the start: then every directory in it is from the archive.
    pub was_empty: bool,
    /// Whether it was created by this restore.
    pub was_made: bool,
    /// The temporary name of this run.
    pub temporary: Vec<u8>,
    /// Attributes of directories that could not be set: path and reason.
    pub failures: Vec<(Vec<u8>, AttributeError)>,
    /// Why a filesystem that is mounted below may not have on its disk what was put into it.
    unsynced: Option<Errno>,
    hasher: RandomState,
    /// The last name that referred to an entry of another name.
    alias: RefCell<Option<Vec<u8>>>,
}

impl Tree {
    /// Opens the directory `root`, or creates it, accessible only to its owner.
    pub fn open(root: &Path) -> Result<Self, Errno> {
        let was_made = match rustix::fs::mkdir(root, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error),
        };
        // The user's own path may contain links.
        let fd = rustix::fs::open(root, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())?;
        let was_empty = rustix::fs::Dir::read_from(&fd)?
            .filter_map(Result::ok)
            .all(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."));
        let facts = rustix::fs::fstat(&fd)?;
        let root = OpenDirectory {
            name: Vec::new(),
            id: (facts.st_dev, facts.st_ino),
            finish: if was_made { Finish::Nothing } else { Finish::Time(mtime_of(&facts)) },
            fresh: was_empty,
            default_acl: has_default_acl(&fd),
            names: RefCell::default(),
            fd: Some(fd),
        };
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let own = format!("{TEMPORARY_PREFIX}{}-{}-{}", std::process::id(), now.tv_sec, now.tv_nsec);
        Ok(Self {
            levels: vec![root],
            was_empty,
            was_made,
            temporary: own.into_bytes(),
            failures: Vec::new(),
            unsynced: None,
            hasher: RandomState::new(),
            alias: RefCell::default(),
        })
    }

    /// The target directory.
    pub fn root(&self) -> Option<BorrowedFd<'_>> {
        self.levels.first().and_then(|level| level.fd.as_ref()).map(AsFd::as_fd)
    }

    /// The current directory.
    pub fn here(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.levels.last().and_then(|level| level.fd.as_ref()).map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Whether the current directory was created by this restore, so that it contains nothing foreign.
    pub fn is_fresh(&self) -> bool {
        self.levels.last().is_some_and(|level| level.fresh)
    }

    /// Whether new entries here inherit an ACL from the directory.
    pub fn gives_acl(&self) -> bool {
        self.levels.last().is_some_and(|level| level.default_acl)
    }

    /// Enters the directory with these components, leaving others on the way; creates missing ones.
    pub fn enter(&mut self, parts: &[&[u8]], restorer: &mut Restorer) -> Result<(), Errno> {
        let common = self.levels[1..].iter().zip(parts).take_while(|(level, part)| level.name == **part).count();
        while self.levels.len() > common + 1 {
            self.leave(restorer)?;
        }
        for part in &parts[common..] {
            self.go_down(part)?;
        }
        Ok(())
    }

    fn go_down(&mut self, name: &[u8]) -> Result<(), Errno> {
        let here = self.here()?;
        match open_directory(here, name) {
            Ok(fd) => {
                self.check_own_name(name)?;
                let facts = rustix::fs::fstat(&fd)?;
                let finish = Finish::Time(mtime_of(&facts));
                self.push(name, fd, &facts, finish, false);
                Ok(())
            }
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(here, name, Mode::from_raw_mode(IMPLIED_MODE))?;
                self.note_name(name);
                let fd = open_directory(here, name)?;
                let facts = rustix::fs::fstat(&fd)?;
                self.push(name, fd, &facts, Finish::Nothing, true);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn push(&mut self, name: &[u8], fd: OwnedFd, facts: &Stat, finish: Finish, fresh: bool) {
        // A new directory inherits its parent's default ACL; an existing one is queried.
        let default_acl = if fresh { self.gives_acl() } else { has_default_acl(&fd) };
        let id = (facts.st_dev, facts.st_ino);
        let names = RefCell::default();
        self.levels.push(OpenDirectory { name: name.to_vec(), fd: Some(fd), id, finish, fresh, default_acl, names });
        let outermost_open = self.levels.len().checked_sub(1 + MAX_OPEN).filter(|level| *level > 0);
        if let Some(level) = outermost_open {
            self.levels[level].fd = None;
        }
    }

    /// Creates or opens the directory `name` here, and enters it. Its attributes are set when it is left;
    /// `attributes` decides on them, given whether the directory is new.
    pub fn make_directory(
        &mut self,
        name: &[u8],
        attributes: impl FnOnce(bool) -> Option<Box<Attributes>>,
    ) -> Result<(), Errno> {
        let here = self.here()?;
        let fresh = match rustix::fs::mkdirat(here, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error),
        };
        if fresh {
            self.note_name(name);
        } else {
            self.check_own_name(name)?;
        }
        let fd = open_directory(here, name)?;
        let facts = rustix::fs::fstat(&fd)?;
        if fresh && self.gives_acl() {
            // The archive's own ACL, if any, is set with the attributes.
            for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
                let _ = rustix::fs::fremovexattr(&fd, acl);
            }
        }
        let finish = attributes(fresh).map_or_else(|| Finish::Time(mtime_of(&facts)), Finish::Attributes);
        self.push(name, fd, &facts, finish, fresh);
        if let (true, Some(level)) = (fresh, self.levels.last_mut()) {
            level.default_acl = false;
        }
        Ok(())
    }

    /// Removes the incomplete file of an interrupted restore from the current directory. Call it before anything is
    /// put there: a file of the archive with such a name is then restored again.
    pub fn remove_remains(&self) -> Result<(), Errno> {
        let here = self.here()?;
        let mut remains = Vec::new();
        for entry in rustix::fs::Dir::read_from(here)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.starts_with(TEMPORARY_PREFIX.as_bytes()) {
                remains.push(name.to_vec());
            }
        }
        for name in remains {
            if stat_here(here, &name)?.is_some_and(|facts| !is_directory(&facts)) {
                rustix::fs::unlinkat(here, name.as_slice(), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// The attributes that the target directory gets at the end. Otherwise an existing one is not changed.
    pub fn set_root_attributes(&mut self, attributes: Box<Attributes>) {
        if let Some(root) = self.levels.first_mut() {
            root.finish = Finish::Attributes(attributes);
        }
    }

    /// Leaves the innermost directory: sets its attributes, the time last.
    fn leave(&mut self, restorer: &mut Restorer) -> Result<(), Errno> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let Some(fd) = level.fd else { return Err(Errno::BADF) };
        if let Some(outer) = self.levels.last_mut().filter(|outer| outer.fd.is_none()) {
            let reopened = rustix::fs::openat(&fd, c"..", DIRECTORY, Mode::empty())?;
            let facts = rustix::fs::fstat(&reopened)?;
            if (facts.st_dev, facts.st_ino) != outer.id {
                return Err(Errno::STALE);
            }
            outer.fd = Some(reopened);
        }
        if let Err(what) = level.finish.carry_out(&fd, restorer) {
            let mut path = Vec::new();
            for name in self.levels[1..].iter().map(|level| &level.name).chain([&level.name]) {
                path.push(b'/');
                path.extend_from_slice(name);
            }
            self.failures.push((path, what));
        }
        // The sync at the end is of the target's own filesystem.
        if self.levels.last().is_some_and(|outer| outer.id.0 != level.id.0)
            && let Err(error) = rustix::fs::syncfs(&fd)
        {
            self.unsynced.get_or_insert(error);
        }
        Ok(())
    }

    /// Leaves all directories and sets the attributes of the outermost one. Fails if a filesystem below it was not synced.
    pub fn finish(mut self, restorer: &mut Restorer) -> Result<Vec<(Vec<u8>, AttributeError)>, Errno> {
        while self.levels.len() > 1 {
            self.leave(restorer)?;
        }
        if let Some(OpenDirectory { fd: Some(fd), finish, .. }) = self.levels.pop()
            && let Err(what) = finish.carry_out(&fd, restorer)
        {
            self.failures.push((b"/".to_vec(), what));
        }
        self.unsynced.map_or(Ok(()), Err)?;
        Ok(self.failures)
    }

    /// Opens the directory with these components, from the root, without entering it.
    pub fn open_path(&self, parts: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let mut fd = rustix::io::fcntl_dupfd_cloexec(self.root().ok_or(Errno::BADF)?, 0)?;
        for part in parts {
            let next = open_directory(fd.as_fd(), part)?;
            self.check_name_in(fd.as_fd(), part)?;
            fd = next;
        }
        Ok(fd)
    }

    /// Checks an existing name: `NOTUNIQ` if its entry has another name, since the filesystem treats both as equal
    /// (case, Unicode normalisation, short names of FAT). It lists the directory, so call it only for an existing
    /// name.
    pub fn check_own_name(&self, name: &[u8]) -> Result<(), Errno> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let mut names = level.names.borrow_mut();
        let names = match &mut *names {
            Some(names) => names,
            unknown => unknown.insert(self.list(self.here()?)?),
        };
        if names.contains(&self.hasher.hash_one(name)) {
            return Ok(());
        }
        *self.alias.borrow_mut() = Some(name.to_vec());
        Err(Errno::NOTUNIQ)
    }

    /// Whether some name of this restore referred to an entry of another name.
    fn has_aliases(&self) -> bool {
        self.alias.borrow().is_some()
    }

    /// The same for a name in any directory. Skipped as long as no name referred to an entry of another name.
    pub fn check_name_in(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        if !self.has_aliases() || self.list(directory)?.contains(&self.hasher.hash_one(name)) {
            return Ok(());
        }
        Err(Errno::NOTUNIQ)
    }

    /// Records that an entry of that name was created in the current directory.
    pub fn note_name(&self, name: &[u8]) {
        if let Some(level) = self.levels.last()
            && let Some(names) = &mut *level.names.borrow_mut()
        {
            names.insert(self.hasher.hash_one(name));
        }
    }

    /// Keyed digests of the names in a directory.
    fn list(&self, directory: BorrowedFd<'_>) -> Result<HashSet<u64>, Errno> {
        let entries = rustix::fs::Dir::read_from(directory)?;
        entries.map(|entry| Ok(self.hasher.hash_one(entry?.file_name().to_bytes()))).collect()
    }
}

fn open_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(at, name, DIRECTORY, Mode::empty(), resolve) {
        // A sandbox may block the call. A single component with O_NOFOLLOW is as safe.
        Err(Errno::NOSYS) => rustix::fs::openat(at, name, DIRECTORY, Mode::empty()),
        opened => opened,
    }
}

/// stat(2) of this name here, without following a link; `None` if it does not exist.
pub fn stat_here(at: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(facts) => Ok(Some(facts)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is a directory.
pub fn is_directory(facts: &Stat) -> bool {
    FileType::from_raw_mode(facts.st_mode) == FileType::Directory
}

/// The modification time.
pub fn mtime_of(facts: &Stat) -> Timestamp {
    Timestamp { sec: facts.st_mtime, nsec: u32::try_from(facts.st_mtime_nsec).unwrap_or(0) }
}

fn has_default_acl(fd: &OwnedFd) -> bool {
    rustix::fs::fgetxattr_query(fd, "system.posix_acl_default").is_ok_and(|len| len > 0)
}
