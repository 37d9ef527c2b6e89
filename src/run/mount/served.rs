//! What is served: an inode number for each list, backup and entry, and open files and directories by their handles.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo};

use super::attributes::{device_bits, file_type, system_time};
use super::contents::Contents;
use super::entries::{Facts, OpenFile};
use super::shelf::{Number, Shelf};
use super::tree::ROOT;
use crate::archive::read::head::HeadKind;
use crate::events::{Observer, Severity};
use crate::run::collect::tell;

/// How long the kernel caches answers about a backup, which never changes.
const OF_BACKUP: Duration = Duration::from_secs(3600);
/// The same for lists of volumes and backups, and for what a name in them stands for.
const OF_LIST: Duration = Duration::from_secs(1);
/// The maximum number of files named in messages: a hostile archive could fill the log.
const MAX_TOLD: usize = 1000;

/// Something with an inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The list of volumes.
    Volumes,
    /// The list of a volume's backups.
    Backups(Number),
    /// An entry of a backup.
    Entry(Number, u32),
}

/// The file system.
pub(super) struct Served {
    shelf: Shelf,
    observer: Arc<dyn Observer>,
    handles: Mutex<HashMap<u64, Open>>,
    next_handle: AtomicU64,
    /// The entries already reported as damaged.
    told: Mutex<HashSet<(Number, u32)>>,
    /// The user who mounts owns the lists.
    owner: (u32, u32),
}

#[derive(Clone)]
pub(super) enum Open {
    Directory(Arc<Vec<Listed>>),
    File(FileOfBackup),
}

#[derive(Clone)]
pub(super) struct FileOfBackup {
    pub(super) contents: Arc<Contents>,
    pub(super) opened: Arc<OpenFile>,
    /// The backup, and the entry in it.
    pub(super) entry: (Number, u32),
}

pub(super) struct Listed {
    pub(super) ino: INodeNo,
    pub(super) kind: FileType,
    pub(super) name: Vec<u8>,
}

/// The kernel's number for an error.
fn refused(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::ENOENT,
        _ => Errno::EIO,
    }
}

impl Served {
    pub(super) fn new(shelf: Shelf, observer: Arc<dyn Observer>) -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (handles, told) = (Mutex::default(), Mutex::default());
        Self { shelf, observer, handles, next_handle: AtomicU64::new(1), told, owner }
    }

    pub(super) fn handles(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers of a destination: 1, its volumes from 2 on, and in the upper half the number of a backup from 1 on with that of
    /// an entry in the lower. A single backup's root is 1.
    fn place(&self, ino: INodeNo) -> Option<Place> {
        let (upper, lower) = (ino.0 >> 32, u32::try_from(ino.0 & u64::from(u32::MAX)).ok()?);
        match (upper, lower) {
            (0, 1) if self.shelf.is_backup() => Some(Place::Entry(0, ROOT)),
            (0, 1) => Some(Place::Volumes),
            (0, 2..) => Some(Place::Backups(lower - 2)),
            (0, 0) => None,
            (upper, entry) => Some(Place::Entry(Number::try_from(upper - 1).ok()?, entry)),
        }
    }

    fn number(&self, place: Place) -> INodeNo {
        INodeNo(match place {
            Place::Volumes => 1,
            Place::Backups(volume) => u64::from(volume) + 2,
            Place::Entry(0, ROOT) if self.shelf.is_backup() => 1,
            Place::Entry(backup, entry) => (u64::from(backup) + 1) << 32 | u64::from(entry),
        })
    }

    /// Logs why an entry cannot be read, and answers with an I/O error.
    pub(super) fn unreadable(&self, contents: &Contents, (backup, entry): (Number, u32), error: &io::Error) -> Errno {
        self.tell_once((backup, entry), || format!("{}: {error}", contents.shown(entry)));
        refused(error)
    }

    fn tell_once(&self, what: (Number, u32), say: impl FnOnce() -> String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_TOLD && told.insert(what) {
            tell(&*self.observer, Severity::Error, self.shelf.shown(what.0), say());
        }
    }

    fn list_attr(&self, place: Place) -> FileAttr {
        let now = SystemTime::now();
        FileAttr {
            ino: self.number(place),
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind: FileType::Directory,
            perm: 0o755,
            nlink: 2,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// An entry's attributes. A hard link has the number of its target.
    fn entry_attr(&self, backup: Number, entry: u32) -> Result<FileAttr, Errno> {
        let contents = self.shelf.contents(backup).map_err(|error| refused(&error))?;
        let facts = contents.facts(entry).map_err(|error| self.unreadable(&contents, (backup, entry), &error))?;
        let facts = facts.ok_or(Errno::ENOENT)?;
        let began = || self.shelf.origin(backup).map_or(SystemTime::UNIX_EPOCH, |(_, began)| began);
        let time = facts.mtime.map_or_else(began, system_time);
        let Facts { number, kind, mode, uid, gid, mut size, stored_bytes, links, .. } = facts;
        let (kind, rdev) = match kind {
            HeadKind::Directory => (FileType::Directory, 0),
            HeadKind::Symlink(target) => {
                size = target.len() as u64;
                (FileType::Symlink, 0)
            }
            HeadKind::CharDevice(device) => (FileType::CharDevice, device_bits(device)),
            HeadKind::BlockDevice(device) => (FileType::BlockDevice, device_bits(device)),
            HeadKind::Fifo => (FileType::NamedPipe, 0),
            HeadKind::File | HeadKind::HardLink(_) | HeadKind::Other(_) => (FileType::RegularFile, 0),
        };
        Ok(FileAttr {
            ino: self.number(Place::Entry(backup, number)),
            size,
            blocks: stored_bytes.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: u16::try_from(mode & 0o7777).unwrap_or(0),
            nlink: links,
            uid: u32::try_from(uid).unwrap_or(u32::MAX),
            gid: u32::try_from(gid).unwrap_or(u32::MAX),
            rdev,
            blksize: 4096,
            flags: 0,
        })
    }

    pub(super) fn attr(&self, ino: INodeNo) -> Result<(Duration, FileAttr), Errno> {
        match self.place(ino).ok_or(Errno::ENOENT)? {
            Place::Backups(volume) if !self.shelf.is_volume(volume) => Err(Errno::ENOENT),
            place @ (Place::Volumes | Place::Backups(_)) => Ok((OF_LIST, self.list_attr(place))),
            Place::Entry(backup, entry) => Ok((OF_BACKUP, self.entry_attr(backup, entry)?)),
        }
    }

    pub(super) fn look_up(&self, parent: INodeNo, name: &[u8]) -> Result<(Duration, FileAttr), Errno> {
        let find = |list: io::Result<Vec<(Number, String)>>| {
            let list = list.map_err(|error| refused(&error))?;
            let found = list.into_iter().find(|(_, listed)| listed.as_bytes() == name);
            found.map(|(number, _)| number).ok_or(Errno::ENOENT)
        };
        match self.place(parent).ok_or(Errno::ENOENT)? {
            Place::Volumes => {
                let volume = find(self.shelf.volumes())?;
                Ok((OF_LIST, self.list_attr(Place::Backups(volume))))
            }
            Place::Backups(volume) => {
                let backup = find(self.shelf.backups(volume))?;
                Ok((OF_LIST, self.entry_attr(backup, ROOT)?))
            }
            Place::Entry(backup, directory) => {
                let contents = self.shelf.contents(backup).map_err(|error| refused(&error))?;
                let entry = contents.child(directory, name).ok_or(Errno::ENOENT)?;
                Ok((OF_BACKUP, self.entry_attr(backup, entry)?))
            }
        }
    }

    /// A directory's entries, with `.` and `..`.
    pub(super) fn listed(&self, ino: INodeNo) -> Result<Vec<Listed>, Errno> {
        let place = self.place(ino).ok_or(Errno::ENOENT)?;
        let directory =
            |place, name: &[u8]| Listed { ino: self.number(place), kind: FileType::Directory, name: name.to_vec() };
        let above = match place {
            Place::Volumes | Place::Backups(_) => Place::Volumes,
            Place::Entry(backup, ROOT) if self.shelf.is_backup() => Place::Entry(backup, ROOT),
            Place::Entry(backup, ROOT) => Place::Backups(self.shelf.origin(backup).ok_or(Errno::ENOENT)?.0),
            Place::Entry(backup, entry) => {
                let contents = self.shelf.contents(backup).map_err(|error| refused(&error))?;
                Place::Entry(backup, contents.parent(entry))
            }
        };
        let mut listed = vec![directory(place, b"."), directory(above, b"..")];
        let all = |list: io::Result<Vec<(Number, String)>>| list.map_err(|error| refused(&error));
        match place {
            Place::Volumes => {
                let volumes = all(self.shelf.volumes())?.into_iter();
                listed.extend(volumes.map(|(volume, name)| directory(Place::Backups(volume), name.as_bytes())));
            }
            Place::Backups(volume) => {
                let backups = all(self.shelf.backups(volume))?.into_iter();
                listed.extend(backups.map(|(backup, name)| directory(Place::Entry(backup, ROOT), name.as_bytes())));
            }
            Place::Entry(backup, entry) => {
                let contents = self.shelf.contents(backup).map_err(|error| refused(&error))?;
                for child in contents.listed(entry) {
                    // A link whose target is not there is shown, and cannot be read.
                    let kind = contents.kind(child).map_or(FileType::RegularFile, file_type);
                    let (ino, name) = (self.number(Place::Entry(backup, child)), contents.name(child).to_vec());
                    listed.push(Listed { ino, kind, name });
                }
            }
        }
        Ok(listed)
    }

    pub(super) fn add_handle(&self, open: Open) -> FileHandle {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles().insert(number, open);
        FileHandle(number)
    }

    pub(super) fn open_file(&self, ino: INodeNo) -> Result<FileHandle, Errno> {
        let Some(Place::Entry(backup, entry)) = self.place(ino) else { return Err(Errno::EISDIR) };
        let contents = self.shelf.contents(backup).map_err(|error| refused(&error))?;
        let opened = contents.open(entry).map_err(|error| self.unreadable(&contents, (backup, entry), &error))?;
        if contents.is_damaged(entry) {
            self.tell_once((backup, entry), || {
                format!(
                    "{}: a part of it could not be read when it was backed up, or it changed then",
                    contents.shown(entry)
                )
            });
        }
        let opened = Arc::new(opened.ok_or(Errno::EINVAL)?);
        Ok(self.add_handle(Open::File(FileOfBackup { contents, opened, entry: (backup, entry) })))
    }

    pub(super) fn file(&self, handle: FileHandle) -> Result<FileOfBackup, Errno> {
        match self.handles().get(&handle.0) {
            Some(Open::File(file)) => Ok(file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn facts(&self, ino: INodeNo) -> Result<Option<Facts>, Errno> {
        let Some(Place::Entry(backup, entry)) = self.place(ino) else { return Ok(None) };
        let contents = self.shelf.contents(backup).map_err(|error| refused(&error))?;
        contents.facts(entry).map_err(|error| self.unreadable(&contents, (backup, entry), &error))
    }
}
