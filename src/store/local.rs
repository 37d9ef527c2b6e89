//! A store in a directory of this host, or of a share mounted on it.

mod file;
mod share;
mod staged_writer;
mod syncing_writer;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use self::file::LocalFile;
use super::api::{Folder, Listing, Lock, RunLock, Store, StoreFile, Writers};
use super::error::StoreError;
use super::open::{OpenError, open_known, open_regular};
use super::presence::Space;
use crate::manifest::ObjectRecord;
use crate::outside::BlockRead;
use crate::outside::file_lock::FileLock;
use crate::shown;

/// The prefix of a staged file's name. No other file has it.
pub const TEMPORARY_PREFIX: &str = ".volbak-tmp.";
const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE_FLAGS: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const HOLDER_MAX_BYTES: u64 = 512;
const HOLDER_WRITES_WITHIN: Duration = Duration::from_millis(200);

/// One directory.
#[derive(Debug)]
pub struct LocalStore {
    path: PathBuf,
    /// `None` if entries are reached by path.
    directory: Option<OwnedFd>,
}

impl LocalStore {
    /// Opens the directory `root`, which must exist: creating it could fill the disk below a missing mount.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        // The destination itself may be a symbolic link; its entries may not.
        let flags = DIRECTORY_FLAGS.difference(OFlags::NOFOLLOW);
        match rustix::fs::open(root, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { path: root.to_owned(), directory: Some(directory) }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(StoreError::Missing(root.to_owned())),
            Err(error) => Err(StoreError::errno("opening", root)(error)),
        }
    }

    /// The directory at `path`, which need not exist. Opened only when it is used.
    pub fn by_path(path: &Path) -> Self {
        Self { path: path.to_owned(), directory: None }
    }

    /// The arguments of a system call on file `name`.
    fn at(&self, name: &str) -> (BorrowedFd<'_>, PathBuf) {
        match &self.directory {
            Some(directory) => (directory.as_fd(), name.into()),
            None => (CWD, self.path.join(name)),
        }
    }

    /// Calls `work` with the directory's descriptor.
    fn with_directory<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &self.directory {
            Some(directory) => work(directory.as_fd()),
            None => work(Self::open(&self.path)?.directory.as_ref().map_or(CWD, AsFd::as_fd)),
        }
    }

    fn create_new(&self, name: &str) -> Result<File, StoreError> {
        let (directory, at) = self.at(name);
        rustix::fs::openat(directory, at, NEW_FILE_FLAGS, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(StoreError::errno("making", &self.path.join(name)))
    }

    fn unlink(&self, name: &str) -> Result<(), StoreError> {
        let (directory, at) = self.at(name);
        match rustix::fs::unlinkat(directory, at, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(StoreError::errno("removing", &self.path.join(name))(error)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let ((directory, from), (_, to)) = (self.at(from), self.at(to));
        rustix::fs::renameat(directory, from, directory, to)
    }

    fn existing_folder(&self, name: &str) -> Result<Option<Folder>, StoreError> {
        let (path, (parent, at)) = (self.path.join(name), self.at(name));
        match rustix::fs::openat(parent, at, DIRECTORY_FLAGS, Mode::empty()) {
            Ok(directory) => Ok(Some(Arc::new(Self { path, directory: Some(directory) }))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(StoreError::errno("opening", &path)(error)),
        }
    }

    fn made_folder(&self, name: &str) -> Result<Folder, StoreError> {
        let (path, (parent, at)) = (self.path.join(name), self.at(name));
        match rustix::fs::mkdirat(parent, &at, Mode::RWXU) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(StoreError::errno("making", &path)(error)),
        }
        let directory = rustix::fs::openat(parent, at, DIRECTORY_FLAGS, Mode::empty())
            .map_err(StoreError::errno("opening", &path))?;
        self.check_name(name, &directory, &path)?;
        Ok(Arc::new(Self { path, directory: Some(directory) }))
    }

    /// Fails if a folder's stored name differs from the name used, as on a filesystem that ignores case or Unicode
    /// normalisation.
    fn check_name(&self, name: &str, folder: &OwnedFd, path: &Path) -> Result<(), StoreError> {
        let swapped: String = name
            .chars()
            .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        let look = |name: &str| {
            let (directory, at) = self.at(name);
            rustix::fs::statat(directory, at, AtFlags::SYMLINK_NOFOLLOW)
        };
        // Listing all folders is expensive with thousands of volumes, so do it only where a difference is
        // possible.
        let is_plain = name.is_ascii() && !name.ends_with(['.', ' ']);
        if is_plain && (swapped == name || look(&swapped).is_err()) {
            return Ok(());
        }
        let folders = self.list()?.folders;
        if folders.iter().any(|there| there == name) {
            return Ok(());
        }
        let own = rustix::fs::fstat(folder).map_err(StoreError::errno("asking", path))?;
        let is_it = |there: &String| look(there).is_ok_and(|facts| inode(&facts) == inode(&own));
        match folders.into_iter().find(is_it) {
            None => Ok(()),
            Some(is) => Err(StoreError::SameName { path: path.to_owned(), is }),
        }
    }
}

impl Store for LocalStore {
    fn path(&self) -> &Path {
        &self.path
    }

    fn path_of_staged(&self, name: &str) -> PathBuf {
        self.path.join(staged(name))
    }

    fn detached(&self) -> Folder {
        Arc::new(Self::by_path(&self.path))
    }

    fn folder(&self, name: &str, make: bool) -> Result<Option<Folder>, StoreError> {
        if make { self.made_folder(name).map(Some) } else { self.existing_folder(name) }
    }

    fn list(&self) -> Result<Listing, StoreError> {
        let failed = || StoreError::errno("listing", &self.path);
        let mut listing = Listing::default();
        self.with_directory(|directory| {
            for entry in Dir::read_from(directory).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                let is_folder = match entry.file_type() {
                    FileType::Directory => true,
                    // Some filesystems do not report the type.
                    FileType::Unknown => rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Directory),
                    _ => false,
                };
                match name.strip_prefix(TEMPORARY_PREFIX) {
                    _ if matches!(name, "." | "..") => {}
                    Some(staged) => listing.staged.push(staged.to_owned()),
                    None if is_folder => listing.folders.push(name.to_owned()),
                    None => listing.files.push(name.to_owned()),
                }
            }
            Ok(())
        })?;
        Ok(listing.settled())
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        let (directory, at) = self.at(name);
        let path = self.path.join(name);
        // A path from the user may be a device by mistake, so its type is checked before it is opened. Within a
        // destination that check is skipped: it would cost a round trip per file on a network share.
        if self.directory.is_some() { open_known(directory, &at, &path) } else { open_regular(&path) }
    }

    fn open_staged(&self, name: &str) -> Result<Arc<dyn BlockRead>, OpenError> {
        // Staged names are names in the same directory.
        self.open(&staged(name))
    }

    fn create(&self, name: &str) -> Result<Box<dyn StoreFile>, StoreError> {
        let staged = staged(name);
        let file = self.create_new(&staged)?;
        // Without the descriptor blocks are not shared.
        let directory = self.directory.as_ref().and_then(|directory| directory.try_clone().ok());
        Ok(Box::new(LocalFile::new(file, self.path.join(staged), directory)))
    }

    fn resume(&self, name: &str) -> Result<Option<Box<dyn StoreFile>>, StoreError> {
        let staged = staged(name);
        let (path, (directory, at)) = (self.path.join(&staged), self.at(&staged));
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::openat(directory, at, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // Not there, a link, or a fifo that nothing reads.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Ok(None),
            Err(error) => return Err(StoreError::errno("opening", &path)(error)),
        };
        let is_file = file.metadata().map_err(StoreError::io("asking", &path))?.is_file();
        if !is_file {
            return Ok(None);
        }
        file.seek(SeekFrom::End(0)).map_err(StoreError::io("opening", &path))?;
        let directory = self.directory.as_ref().and_then(|directory| directory.try_clone().ok());
        Ok(Some(Box::new(LocalFile::new(file, path, directory))))
    }

    fn publish(&self, name: &str) -> Result<Option<ObjectRecord>, StoreError> {
        let ((directory, from), (_, to)) = (self.at(&staged(name)), self.at(name));
        let renamed = match rustix::fs::renameat_with(directory, &from, directory, &to, RenameFlags::NOREPLACE) {
            // Not every filesystem supports the flag (NFS). A hard link does not replace an existing file
            // either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                // A remaining temporary name is removed with the others.
                let linked = rustix::fs::linkat(directory, &from, directory, &to, AtFlags::empty());
                if linked.is_ok() {
                    let _ = rustix::fs::unlinkat(directory, &from, AtFlags::empty());
                }
                linked
            }
            renamed => renamed,
        };
        renamed.map_err(StoreError::errno("renaming to", &self.path.join(name)))?;
        Ok(None)
    }

    /// Whether both names are one file: the publication by link and unlink was interrupted between the steps.
    fn is_half_published(&self, name: &str) -> bool {
        let facts = |name: &str| {
            let (directory, at) = self.at(name);
            rustix::fs::statat(directory, at, AtFlags::SYMLINK_NOFOLLOW).ok().map(|facts| inode(&facts))
        };
        let published = facts(name);
        published.is_some() && published == facts(&staged(name))
    }

    fn set_aside(&self, name: &str) -> Result<(), StoreError> {
        self.rename(name, &staged(name)).map_err(StoreError::errno("removing", &self.path.join(name)))
    }

    fn put(&self, name: &str, bytes: &[u8], writers: Writers) -> Result<(), StoreError> {
        let temporary = match writers {
            Writers::One => staged(name),
            Writers::Many => staged(&format!("{name}.{}", std::process::id())),
        };
        // Left by an interrupted process.
        self.unlink(&temporary)?;
        let mut file = self.create_new(&temporary)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(StoreError::io("writing", &self.path.join(&temporary)))
            .and_then(|()| {
                self.rename(&temporary, name).map_err(StoreError::errno("renaming to", &self.path.join(name)))
            });
        if let Err(error) = written {
            // The error is reported; remains are removed with the next file of this name.
            let _ = self.unlink(&temporary);
            return Err(error);
        }
        self.sync()
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.unlink(name)
    }

    fn discard(&self, name: &str) -> Result<(), StoreError> {
        self.unlink(&staged(name))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.with_directory(|directory| match rustix::fs::fsync(directory) {
            // Some network filesystems do not support fsync of directories.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(StoreError::errno("syncing", &self.path)(error)),
        })
    }

    fn remove_if_empty(&self) -> Result<bool, StoreError> {
        match rustix::fs::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(StoreError::errno("removing", &self.path)(error)),
        }
    }

    fn lock(&self, name: &str, holder: &str) -> Result<Lock, StoreError> {
        let path = self.path.join(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let (directory, at) = self.at(name);
        let mut file = rustix::fs::openat(directory, at, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(StoreError::errno("opening", &path))?;
        let copy = file.try_clone().map_err(StoreError::io("opening", &path))?;
        let lock = match FileLock::try_take(copy) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                // A new holder may not have written its description yet.
                std::thread::sleep(HOLDER_WRITES_WITHIN);
                let mut by = Vec::new();
                // A read error only shortens the message.
                let _ = file.take(HOLDER_MAX_BYTES).read_to_end(&mut by);
                return Ok(Lock::Held { by: shown::bytes(by.trim_ascii()) });
            }
            Err(error) => return Err(StoreError::errno("locking", &path)(error)),
        };
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(holder.as_bytes()))
            .map_err(StoreError::io("writing", &path))?;
        Ok(Lock::Taken(RunLock::new(lock)))
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.with_directory(|directory| {
            let facts = rustix::fs::fstatvfs(directory).map_err(StoreError::errno("asking", &self.path))?;
            let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
            Ok(Some(Space {
                used_bytes: bytes(facts.f_blocks.saturating_sub(facts.f_bfree)),
                available_bytes: bytes(facts.f_bavail),
            }))
        })
    }

    fn free_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<bool, StoreError> {
        let (path, (directory, at)) = (self.path.join(name), self.at(name));
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(directory, at, flags, Mode::empty()).map_err(StoreError::errno("opening", &path))?;
        for Range { start, end } in ranges {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&file, hole, *start, end - start) {
                Ok(()) => {}
                // NFS before 4.2 and others.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
                Err(error) => return Err(StoreError::errno("freeing room in", &path)(error)),
            }
        }
        Ok(true)
    }

    fn hold(&self, alone: bool) -> Option<RunLock> {
        let how = if alone { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
        let (directory, at) = self.at(".");
        let Ok(opened) = rustix::fs::openat(directory, at, DIRECTORY_FLAGS, Mode::empty()) else {
            // Gone: there is nothing to be freed, and nothing to be read.
            return (!alone).then(|| RunLock::new(()));
        };
        match rustix::fs::flock(&opened, how) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => None,
            // Some network filesystems have no locks of directories. Then a reader that is overtaken finds zeros, and says so.
            _ => Some(RunLock::new(opened)),
        }
    }

    fn is_still_there(&self) -> Result<bool, StoreError> {
        let Some(directory) = &self.directory else { return Ok(self.path.is_dir()) };
        let opened = rustix::fs::fstat(directory).map_err(StoreError::errno("asking", &self.path))?;
        Ok(rustix::fs::stat(&self.path).is_ok_and(|now| inode(&now) == inode(&opened)))
    }
}

/// The name of a staged file.
fn staged(name: &str) -> String {
    format!("{TEMPORARY_PREFIX}{name}")
}

fn inode(facts: &rustix::fs::Stat) -> (u64, u64) {
    (facts.st_dev, facts.st_ino)
}
