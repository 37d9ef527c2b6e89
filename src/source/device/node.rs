//! The node behind a path.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeviceNumber {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DeviceNumber {
    pub(crate) fn of_rdev(rdev: u64) -> Self {
        Self { major: rustix::fs::major(rdev), minor: rustix::fs::minor(rdev) }
    }

    /// Parses `8:1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// Its directory in sysfs.
    pub(crate) fn sysfs(self) -> PathBuf {
        PathBuf::from(format!("/sys/dev/block/{}:{}", self.major, self.minor))
    }
}

/// A node held by an `O_PATH` descriptor, which neither reads it nor keeps it busy. A later open gets exactly the
/// node that was examined.
#[derive(Debug)]
pub(crate) struct Node {
    held: File,
    pub(crate) path: PathBuf,
    pub(crate) metadata: fs::Metadata,
}

/// The type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    File,
    BlockDevice(DeviceNumber),
    Other(&'static str),
}

impl Node {
    /// Opens a path as a node, following symbolic links.
    pub(crate) fn look(path: &Path) -> io::Result<Self> {
        let held = File::from(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        let metadata = held.metadata()?;
        Ok(Self { held, path: path.to_owned(), metadata })
    }

    pub(crate) fn kind(&self) -> NodeKind {
        let kind = self.metadata.file_type();
        if kind.is_file() {
            NodeKind::File
        } else if kind.is_block_device() {
            NodeKind::BlockDevice(DeviceNumber::of_rdev(self.metadata.rdev()))
        } else if kind.is_dir() {
            NodeKind::Other("a directory")
        } else if kind.is_char_device() {
            NodeKind::Other("a character device")
        } else if kind.is_fifo() {
            NodeKind::Other("a fifo")
        } else if kind.is_socket() {
            NodeKind::Other("a socket")
        } else {
            NodeKind::Other("no file and no block device")
        }
    }

    /// Opens exactly this node for reading. Call it for files and block devices only.
    pub(crate) fn open(&self, more: OFlags) -> io::Result<File> {
        let through = format!("/proc/self/fd/{}", self.held.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
        Ok(File::from(rustix::fs::open(through, flags, Mode::empty())?))
    }
}

/// The length of an open block device or file, in bytes.
pub(crate) fn length_bytes(file: &File) -> io::Result<u64> {
    let mut file = file;
    file.seek(SeekFrom::End(0))
}

/// The logical sector size of an open block device, in bytes.
pub(crate) fn sector_size_bytes(file: &File) -> io::Result<u32> {
    Ok(rustix::fs::ioctl_blksszget(file)?)
}

#[cfg(test)]
mod tests {
    use super::{Node, NodeKind};
    use std::path::Path;

    #[test]
    fn looking_at_odd_nodes_does_not_hang() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(Node::look(&fifo).unwrap().kind(), NodeKind::Other("a fifo"));
        assert_eq!(Node::look(Path::new("/dev/null")).unwrap().kind(), NodeKind::Other("a character device"));
        assert_eq!(Node::look(directory.path()).unwrap().kind(), NodeKind::Other("a directory"));
    }
}
