//! Directories and inodes through the kernel, by descriptors below a root directory.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::fs::{FileType, Mode, Statx};
use rustix::io::Errno;

use super::btrfs::Subvolumes;
use super::list::list;
use super::open_file::WalkedFile;
use super::scout::Scouts;
use super::stat::{DIR_FLAGS, device_number, device_of, is_encrypted, metadata_of, statx_of};
use super::subvolumes::ROOT_INODE;
use crate::entry::{EntryKind, Metadata, Xattr};
use crate::events::Severity;
use crate::outside::inode_flags::fat::{EXFAT_SUPER_MAGIC, MSDOS_SUPER_MAGIC};
use crate::outside::inode_flags::{self, FlagSource};
use crate::reader::exclude::Excludes;
use crate::reader::listing::{Item, Listing};
use crate::reader::walk::{LookError, Looked, OpenDirectory, Position, Tree, Walk};
use crate::shown;

/// Linux' `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`: the maximum length of a list of names and of a value.
const XATTR_MAX_BYTES: usize = 65536;
/// The maximum size of all attributes of one inode. XFS allows half a gigabyte, which could exhaust memory.
const XATTRS_MAX_BYTES: usize = 8 << 20;

/// The maximum number of excluded snapshots in a message.
const NAMED_LEFT_OUT: usize = 3;

/// How many directories ahead are prefetched.
const SCOUTED_DIRECTORIES: usize = 24;
/// Only every 64th file is prefetched, since neighbouring inodes share a block.
const SCOUTED_FILE_STEP: usize = 64;
/// How many files ahead are prefetched.
const SCOUTED_FILES: usize = 512;

/// The kernel's `include/uapi/linux/magic.h`.
const EXT_SUPER_MAGIC: rustix::fs::FsWord = 0xef53;
const XFS_SUPER_MAGIC: rustix::fs::FsWord = 0x5846_5342;
const BTRFS_SUPER_MAGIC: rustix::fs::FsWord = 0x9123_683e;

/// A walk over a directory tree through the kernel.
pub type TreeWalk = Walk<KernelTree>;

/// A directory tree read through the kernel.
pub struct KernelTree {
    root: Arc<OwnedFd>,
    /// False for FAT, where the kernel invents new inode numbers at each mount.
    has_inode_numbers: bool,
    /// Device of an ext or XFS filesystem: there a directory's inode numbers are those that its names lead to.
    listed_inodes_of: Option<u64>,
    flag_source: FlagSource,
    xattr_buf: Vec<u8>,
    dirent_buf: Vec<MaybeUninit<u8>>,
    scouts: Scouts,
    /// Set for btrfs.
    subvolumes: Option<Arc<Subvolumes>>,
    left_out: LeftOut,
    /// The last queried directory, and whether its files may have flags that statx(2) does not show.
    flagged: (Weak<OwnedFd>, bool),
}

/// Excluded snapshots: the paths of the first, and the total number.
#[derive(Default)]
struct LeftOut {
    first: Vec<String>,
    count: u64,
}

impl TreeWalk {
    /// Walks from the directory `root`; see [`Walk::over`].
    pub fn new(root: OwnedFd, excludes: Excludes, max_directories: Option<u64>) -> Self {
        Self::over(KernelTree::new(root, None), excludes, max_directories)
    }
}

impl KernelTree {
    pub(super) fn new(root: OwnedFd, subvolumes: Option<Arc<Subvolumes>>) -> Self {
        Self {
            root: Arc::new(root),
            has_inode_numbers: true,
            listed_inodes_of: None,
            flag_source: FlagSource::Both,
            xattr_buf: vec![0; XATTR_MAX_BYTES],
            dirent_buf: vec![MaybeUninit::uninit(); 64 * 1024],
            scouts: Scouts::new(),
            subvolumes,
            left_out: LeftOut::default(),
            flagged: (Weak::new(), false),
        }
    }

    fn opened(&mut self, dir: OwnedFd, facts: &Statx, complaints: &mut Vec<String>) -> OpenDirectory<Arc<OwnedFd>> {
        let xattrs = self.xattrs_of_open(&dir, complaints);
        let mut metadata = metadata_of(facts);
        (metadata.flags, metadata.project) = inode_flags::of_open_by(self.flag_source, &dir);
        let directory = Arc::new(dir);
        // Its files are next.
        self.flagged = (Arc::downgrade(&directory), is_flagged(metadata.flags, metadata.project));
        OpenDirectory { directory, metadata, xattrs, is_sealed: is_encrypted(facts) }
    }

    /// Reads a file's flags that statx(2) does not show, and its project id. Files inherit both from their
    /// directory, so a file is opened for this only if its directory has any. FAT attributes are not inherited.
    fn flags_of_file(&mut self, directory: &Arc<OwnedFd>, name: &CString, metadata: &mut Metadata) {
        let is_fat = self.flag_source == FlagSource::Fat;
        if !is_fat && !std::ptr::eq(Weak::as_ptr(&self.flagged.0), Arc::as_ptr(directory)) {
            let (flags, project) = inode_flags::of_open_by(self.flag_source, directory);
            self.flagged = (Arc::downgrade(directory), is_flagged(flags, project));
        }
        if (is_fat || self.flagged.1)
            && let Ok(file) = rustix::fs::openat(directory, name, super::open_file::FILE_FLAGS, Mode::empty())
            && statx_of(&file, c"").is_ok_and(|facts| facts.stx_ino == metadata.ino)
        {
            (metadata.flags, metadata.project) = inode_flags::of_open_by(self.flag_source, &file);
        }
    }

    fn xattrs_of_open(&mut self, file: &OwnedFd, complaints: &mut Vec<String>) -> Vec<Xattr> {
        let list = rustix::fs::flistxattr(file, &mut self.xattr_buf[..]);
        self.collect_xattrs(list, complaints, |name, buf| rustix::fs::fgetxattr(file, name, buf))
    }

    fn xattrs_of_name(&mut self, path: &CString, complaints: &mut Vec<String>) -> Vec<Xattr> {
        let list = rustix::fs::llistxattr(path, &mut self.xattr_buf[..]);
        self.collect_xattrs(list, complaints, |name, buf| rustix::fs::lgetxattr(path, name, buf))
    }

    fn collect_xattrs(
        &mut self,
        list: rustix::io::Result<usize>,
        complaints: &mut Vec<String>,
        get: impl Fn(&CString, &mut [u8]) -> rustix::io::Result<usize>,
    ) -> Vec<Xattr> {
        let list_len = match list {
            Ok(0) | Err(Errno::NOTSUP) => return Vec::new(),
            Ok(len) => len,
            Err(error) => {
                complaints.push(format!("its extended attributes cannot be listed, archived without them: {error}"));
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
            // XFS also shows its ACLs in its own form, which would be meaningless on another filesystem.
            if name.starts_with(b"trusted.SGI_ACL_") {
                continue;
            }
            // The list was split at NUL bytes, so the name contains none.
            let Ok(c_name) = CString::new(name.as_slice()) else { continue };
            match get(&c_name, &mut self.xattr_buf[..]) {
                Ok(len) if len <= room => {
                    room -= len;
                    xattrs.push(Xattr { name, value: self.xattr_buf[..len].to_vec() });
                }
                Ok(_) => {
                    let name = shown::path(&name);
                    complaints.push(format!("has more than 8 MiB of extended attributes, archived without {name}"));
                }
                Err(Errno::NODATA) => {}
                Err(error) => {
                    let name = shown::path(&name);
                    complaints
                        .push(format!("its extended attribute {name} cannot be read, archived without it: {error}"));
                }
            }
        }
        xattrs.sort_unstable();
        xattrs
    }
}

impl Tree for KernelTree {
    type Directory = Arc<OwnedFd>;

    const OPEN_DIRECTORIES: usize = 64;

    fn root(&mut self, complaints: &mut Vec<String>) -> io::Result<OpenDirectory<Arc<OwnedFd>>> {
        // The walk closes its descriptor when it goes deep; files are opened from this one.
        let root = rustix::fs::openat(&self.root, c".", DIR_FLAGS, Mode::empty())?;
        let facts = statx_of(&root, c"")?;
        let fs_type = rustix::fs::fstatfs(&root).map_or(0, |facts| facts.f_type);
        self.has_inode_numbers = fs_type != MSDOS_SUPER_MAGIC;
        self.listed_inodes_of = matches!(fs_type, EXT_SUPER_MAGIC | XFS_SUPER_MAGIC).then(|| device_of(&facts));
        self.flag_source = match fs_type {
            XFS_SUPER_MAGIC => FlagSource::Xflags,
            BTRFS_SUPER_MAGIC => FlagSource::Flags,
            MSDOS_SUPER_MAGIC | EXFAT_SUPER_MAGIC => FlagSource::Fat,
            _ => FlagSource::Both,
        };
        Ok(self.opened(root, &facts, complaints))
    }

    fn list(&mut self, directory: &Arc<OwnedFd>) -> Result<Listing, (Listing, io::Error)> {
        list(directory, &mut self.dirent_buf, self.has_inode_numbers)
    }

    fn look_at(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        ino: u64,
        path: &[u8],
        complaints: &mut Vec<String>,
    ) -> Result<Looked<Arc<OwnedFd>>, LookError> {
        let name = CString::new(name).map_err(|_| LookError::ZeroByte)?;
        let facts = statx_of(directory, &name).map_err(|error| LookError::Inode(error.into()))?;
        if self.listed_inodes_of == Some(device_of(&facts)) && facts.stx_ino != ino {
            return Err(LookError::OtherInode { listed: ino, found: facts.stx_ino });
        }
        if is_encrypted(&facts)
            && matches!(FileType::from_raw_mode(facts.stx_mode.into()), FileType::RegularFile | FileType::Symlink)
        {
            return Ok(Looked::Sealed);
        }
        let kind = match FileType::from_raw_mode(facts.stx_mode.into()) {
            FileType::Directory => {
                let child = rustix::fs::openat(directory, &name, DIR_FLAGS, Mode::empty())
                    .map_err(|error| LookError::Directory(error.into()))?;
                if facts.stx_ino == ROOT_INODE
                    && self.subvolumes.as_ref().is_some_and(|subvolumes| subvolumes.leaves_out(&child))
                {
                    self.left_out.add(path);
                    return Ok(Looked::LeftOut);
                }
                return Ok(Looked::Directory(self.opened(child, &facts, complaints)));
            }
            FileType::RegularFile => {
                let has_all_blocks = facts.stx_blocks.saturating_mul(512) >= facts.stx_size;
                let root = Arc::clone(&self.root);
                let (path, metadata) = (path.to_vec(), metadata_of(&facts));
                EntryKind::File(Box::new(WalkedFile::new(root, path, &metadata, has_all_blocks, self.flag_source)))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, &name, Vec::new())
                    .map_err(|error| LookError::Symlink(error.into()))?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => EntryKind::CharDevice(device_number(&facts)),
            FileType::BlockDevice => EntryKind::BlockDevice(device_number(&facts)),
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::Unknown => return Err(LookError::UnknownType),
        };
        // Attributes are read by name: opening other types could follow a link, block on a FIFO or reach a
        // device.
        let by_name =
            CString::new([format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.as_bytes()].concat());
        let xattrs = by_name.map_or_else(|_| Vec::new(), |by_name| self.xattrs_of_name(&by_name, complaints));
        let mut metadata = metadata_of(&facts);
        if matches!(kind, EntryKind::File(_)) {
            self.flags_of_file(directory, &name, &mut metadata);
        }
        Ok(Looked::Other(kind, metadata, xattrs))
    }

    fn parent_of(&mut self, child: Arc<OwnedFd>, dev: u64, ino: u64) -> io::Result<Arc<OwnedFd>> {
        let dir = rustix::fs::openat(&child, c"..", DIR_FLAGS, Mode::empty())?;
        let metadata = metadata_of(&statx_of(&dir, c"")?);
        if (metadata.dev, metadata.ino) == (dev, ino) { Ok(Arc::new(dir)) } else { Err(Errno::STALE.into()) }
    }

    fn at_end(&mut self, _is_whole: bool) -> Vec<(Severity, String)> {
        let LeftOut { first, count } = &self.left_out;
        if *count == 0 {
            return Vec::new();
        }
        let more = if *count > first.len() as u64 { ", …" } else { "" };
        let what = format!(
            "{count} read-only snapshots of subvolumes that are archived are left out ({}{more}); \
             read_only_snapshots = true in [archive], or --read-only-snapshots, brings them in",
            first.join(", ")
        );
        vec![(Severity::Notice, what)]
    }

    fn look_ahead(&mut self, directory: &Arc<OwnedFd>, listing: &Listing, position: Position) {
        let look_at = |item| self.scouts.look_at(directory, listing.name(item));
        match position {
            Position::At(position) => {
                if let Some(ahead) = scouted_at(listing, position) {
                    look_at(ahead);
                }
            }
            Position::Start(position) => {
                let first_directory = listing.items.partition_point(|item| !item.is_directory).max(position);
                let files =
                    listing.items[position..first_directory].iter().take(SCOUTED_FILES).step_by(SCOUTED_FILE_STEP);
                files.chain(listing.items[first_directory..].iter().take(SCOUTED_DIRECTORIES)).for_each(look_at);
            }
        }
    }
}

/// Whether files that were made in a directory with these may have flags which statx(2) does not show, or a project.
fn is_flagged(flags: u32, project: u32) -> bool {
    flags & !inode_flags::IN_STATX != 0 || project != 0
}

impl LeftOut {
    fn add(&mut self, path: &[u8]) {
        self.count += 1;
        if self.first.len() < NAMED_LEFT_OUT {
            self.first.push(shown::path(path));
        }
    }
}

/// The name to prefetch when the walk reaches `position`.
fn scouted_at(listing: &Listing, position: usize) -> Option<&Item> {
    let is_directory = listing.items.get(position)?.is_directory;
    let next = position + 1;
    if is_directory {
        listing.items.get(next + SCOUTED_DIRECTORIES)
    } else if next.is_multiple_of(SCOUTED_FILE_STEP) {
        listing.items.get(next + SCOUTED_FILES)
    } else {
        None
    }
}
