//! What a filesystem holds, one entry at a time: the words in which readers, the archive and restores speak of files.

use std::io;

use crate::units::ByteRange;

/// A file, directory or special file.
pub struct Entry {
    /// Its path from the filesystem's root, as raw bytes, without a `/` at either end; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Its inode's facts.
    pub metadata: Metadata,
    /// Its extended attributes as the kernel gives them, POSIX ACLs included (`system.posix_acl_access`), by name.
    pub xattrs: Vec<Xattr>,
}

impl Entry {
    /// How much its extended attributes take, names and values.
    pub(crate) fn xattr_bytes(&self) -> usize {
        self.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum()
    }
}

/// What an [`Entry`] is.
pub enum EntryKind {
    /// A regular file and its data.
    File(Box<dyn FileContent>),
    /// A directory.
    Directory,
    /// A symbolic link and its target, as raw bytes.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket, which no archive format holds.
    Socket,
}

/// A device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The driver's device.
    pub minor: u32,
}

/// The facts that an inode holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The permission bits, set-id and sticky bits included: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// A regular file's length in bytes; 0 for the others.
    pub size: u64,
    /// When the data was last changed.
    pub mtime: Timestamp,
    /// When the inode was last changed.
    pub ctime: Timestamp,
    /// The filesystem that the inode lies in: btrfs has one for each subvolume.
    pub dev: u64,
    /// The inode's number, unique within `dev`.
    pub ino: u64,
    /// How many names it has.
    pub nlink: u32,
    /// Of files and directories, the flags that chattr(1) sets: those of `FLAGS` of `outside/inode_flags.rs`.
    pub flags: u32,
    /// Of files and directories, the project that their blocks are counted for; 0 for none.
    pub project: u32,
}

/// A point in time: seconds since 1970-01-01 UTC, negative before, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub sec: i64,
    /// 0 to 999,999,999.
    pub nsec: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Its whole name (`user.comment`), as raw bytes.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// A regular file's data.
pub trait FileContent: Send {
    /// Reads into `buf` from byte `offset` on and says how much; 0 means that the file ends there.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Whether it holds bytes beyond `size`.
    fn is_longer_than(&self, size: u64) -> bool {
        matches!(self.read_at(size, &mut [0]), Ok(1..))
    }

    /// The first run of data at or after `from`, holes skipped; `None` when only a hole follows up to the end. What
    /// lies outside the runs reads as zeros. A file without holes gives one run up to its end.
    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>>;

    /// Opens it and has its beginning read ahead, without waiting for that. What is not opened by this is by the first
    /// of the other calls.
    fn prefetch(&self) -> io::Result<()> {
        Ok(())
    }

    /// Its flags and project id, where those have to be asked of the open file; see [`Metadata::flags`].
    fn inode_flags(&self) -> Option<(u32, u32)> {
        None
    }

    /// Lets go of what it holds while it is open; the next call opens it again.
    fn close(&self) {}
}
