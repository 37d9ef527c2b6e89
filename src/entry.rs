//! The entries of a filesystem: the types shared by readers, the archive and restores.

use std::io;

use crate::units::ByteRange;

/// A file, directory or special file.
pub struct Entry {
    /// Its path from the filesystem's root, as raw bytes, without a `/` at either end; empty for the root itself.
    pub path: Vec<u8>,
    /// Its type, with the data of the type.
    pub kind: EntryKind,
    /// Its inode's metadata.
    pub metadata: Metadata,
    /// Its extended attributes by name, in the kernel's form, including POSIX ACLs (`system.posix_acl_access`).
    pub xattrs: Vec<Xattr>,
}

impl Entry {
    /// The total length of the extended attributes, names and values.
    pub(crate) fn xattr_bytes(&self) -> usize {
        self.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum()
    }
}

/// The type of an [`Entry`].
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
    /// A socket; no archive format can hold one.
    Socket,
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The driver's device.
    pub minor: u32,
}

/// Metadata of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The permission bits with set-id and sticky bits: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// A regular file's length in bytes; 0 for other types.
    pub size: u64,
    /// When the data was last changed.
    pub mtime: Timestamp,
    /// When the inode was last changed.
    pub ctime: Timestamp,
    /// The device number of the inode's filesystem; btrfs has one per subvolume.
    pub dev: u64,
    /// The inode's number, unique within `dev`.
    pub ino: u64,
    /// The link count.
    pub nlink: u32,
    /// Files and directories: the flags of chattr(1), limited to `FLAGS` of `outside/inode_flags.rs`.
    pub flags: u32,
    /// Files and directories: the project id for quotas; 0 for none.
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
    /// Its full name (`user.comment`), as raw bytes.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// A regular file's data.
pub trait FileContent: Send {
    /// Reads into `buf` from byte `offset`; returns the number of bytes, 0 at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Whether the file has more than `size` bytes.
    #[doc(hidden)]
    fn is_longer_than(&self, size: u64) -> bool {
        matches!(self.read_at(size, &mut [0]), Ok(1..))
    }

    /// The first run of data at or after `from`; `None` if only a hole follows. Bytes outside the runs are zero. A
    /// file without holes has one run up to its end.
    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>>;

    /// Opens the file and prefetches its first bytes, without waiting. Without this call, the first of the other
    /// calls opens it.
    #[doc(hidden)]
    fn prefetch(&self) -> io::Result<()> {
        Ok(())
    }

    /// Flags and project id that only an open file can provide; see [`Metadata::flags`].
    #[doc(hidden)]
    fn inode_flags(&self) -> Option<(u32, u32)> {
        None
    }

    /// Closes the file; the next call opens it again.
    #[doc(hidden)]
    fn close(&self) {}
}
