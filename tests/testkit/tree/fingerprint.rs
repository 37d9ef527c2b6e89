//! Every attribute of every entry of a tree, in a form that compares.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Paths relative to the tree's root, which itself is `.`, as raw bytes.
pub type Tree = BTreeMap<Vec<u8>, Attributes>;

/// What kind of entry it is, with what only that kind has.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    File {
        size: u64,
        /// SHA-256 over each 4 KiB block that is not all zeros, with its offset: equal for equal bytes, however
        /// they are spread over extents and holes.
        content: String,
        /// How many bytes lie outside holes, as `SEEK_DATA` tells. Two filesystems differ a little here, so it is
        /// compared by [`assert_equal_trees`] and not by `==`.
        data: DataBytes,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

/// A number of bytes that `==` leaves alone.
#[derive(Clone, Copy, Eq)]
pub struct DataBytes(pub u64);

impl PartialEq for DataBytes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Everything about an entry that a backup has to bring back.
#[derive(Clone, PartialEq, Eq)]
pub struct Attributes {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    /// Raw values, POSIX ACLs among them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first of the names, in byte order, that lead to this inode.
    pub same_inode_as: Vec<u8>,
}

/// Reads the whole tree below `root`, over mounts and subvolumes too.
pub fn fingerprint(root: &Path) -> Tree {
    let top = open(rustix::fs::CWD, root.as_os_str().as_encoded_bytes(), OFlags::DIRECTORY);
    let mut walk = Walk { tree: Tree::new(), first_names: HashMap::new() };
    let stat = rustix::fs::fstat(&top).unwrap();
    let mut attributes = common_attributes(&stat, Kind::Directory);
    attributes.xattrs = xattrs_of(&format!("/proc/self/fd/{}/.", top.as_raw_fd()).into_bytes());
    walk.insert(b".".to_vec(), &stat, attributes);
    walk.directory(&top, b"");
    walk.name_links();
    walk.tree
}

/// Fails with a list of what differs. A file in `actual` may have a little more data
/// outside its holes than in `expected` (a filesystem's blocks are larger than a tar record), but a hole that was
/// filled in is a difference.
pub fn assert_equal_trees(expected: &Tree, actual: &Tree) {
    let mut report = String::new();
    let mut differences = 0_usize;
    let mut note = |line: fmt::Arguments<'_>| {
        differences += 1;
        if differences <= 40 {
            let _ = writeln!(report, "  {line}");
        }
    };
    for (path, wanted) in expected {
        match actual.get(path) {
            None => note(format_args!("{}: missing ({:?})", shown(path), wanted.kind)),
            Some(found) => {
                for difference in differences_of(wanted, found) {
                    note(format_args!("{}: {difference}", shown(path)));
                }
            }
        }
    }
    for (path, found) in actual {
        if !expected.contains_key(path) {
            note(format_args!("{}: not expected ({:?})", shown(path), found.kind));
        }
    }
    assert!(differences == 0, "the trees differ in {differences} places ({} entries):\n{report}", expected.len());
}

/// A path or value that reads well in a message, whatever bytes it has.
pub fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() <= 160 {
        return text;
    }
    format!("{}…{} ({} bytes)", &text[..80], &text[text.len() - 40..], bytes.len())
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { size, content, .. } => write!(f, "file of {size} bytes, {}", &content[..12]),
            Self::Directory => write!(f, "directory"),
            Self::Symlink { target } => write!(f, "symlink to {}", shown(target)),
            Self::CharDevice { major, minor } => write!(f, "character device {major}:{minor}"),
            Self::BlockDevice { major, minor } => write!(f, "block device {major}:{minor}"),
            Self::Fifo => write!(f, "fifo"),
            Self::Socket => write!(f, "socket"),
        }
    }
}

fn differences_of(wanted: &Attributes, found: &Attributes) -> Vec<String> {
    let mut all = Vec::new();
    let mut compare = |what: &str, wanted: &dyn fmt::Debug, found: &dyn fmt::Debug, equal: bool| {
        if !equal {
            all.push(format!("{what} is {found:?}, not {wanted:?}"));
        }
    };
    compare("it", &wanted.kind, &found.kind, wanted.kind == found.kind);
    let octal = |mode: u32| format!("{mode:04o}");
    compare("mode", &octal(wanted.mode), &octal(found.mode), wanted.mode == found.mode);
    compare("uid", &wanted.uid, &found.uid, wanted.uid == found.uid);
    compare("gid", &wanted.gid, &found.gid, wanted.gid == found.gid);
    compare("mtime", &wanted.mtime, &found.mtime, wanted.mtime == found.mtime);
    let links = (shown(&wanted.same_inode_as), shown(&found.same_inode_as));
    compare("the same inode", &links.0, &links.1, wanted.same_inode_as == found.same_inode_as);
    let names: std::collections::BTreeSet<_> = wanted.xattrs.keys().chain(found.xattrs.keys()).collect();
    for name in names {
        let (a, b) = (wanted.xattrs.get(name), found.xattrs.get(name));
        let text = |value: Option<&Vec<u8>>| value.map_or_else(|| "missing".to_owned(), |value| shown(value));
        compare(&format!("xattr {}", shown(name)), &text(a), &text(b), a == b);
    }
    if let (Kind::File { data: wanted, .. }, Kind::File { data: found, .. }) = (&wanted.kind, &found.kind) {
        let bound = wanted.0 + wanted.0 / 16 + 64 * 1024;
        compare("data outside holes", &format!("at most {bound}"), &found.0, found.0 <= bound);
    }
    all
}

struct Walk {
    tree: Tree,
    /// (device, inode) to the names that lead to it.
    first_names: HashMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Walk {
    fn insert(&mut self, path: Vec<u8>, stat: &Stat, attributes: Attributes) {
        if stat.st_nlink > 1 && attributes.kind != Kind::Directory {
            self.first_names.entry((stat.st_dev, stat.st_ino)).or_default().push(path.clone());
        }
        self.tree.insert(path, attributes);
    }

    fn directory(&mut self, fd: &OwnedFd, prefix: &[u8]) {
        let mut names = Vec::new();
        for entry in Dir::read_from(fd).unwrap() {
            let name = entry.unwrap().file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        for name in names {
            let path = [prefix, &name].concat();
            let stat = rustix::fs::statat(fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let kind = kind_of(fd, &name, &stat);
            let mut attributes = common_attributes(&stat, kind);
            let by_descriptor = [format!("/proc/self/fd/{}/", fd.as_raw_fd()).as_bytes(), &name].concat();
            attributes.xattrs = xattrs_of(&by_descriptor);
            let is_directory = attributes.kind == Kind::Directory;
            self.insert(path.clone(), &stat, attributes);
            if is_directory {
                let child = open(fd, &name, OFlags::DIRECTORY | OFlags::NOFOLLOW);
                self.directory(&child, &[&path, b"/".as_slice()].concat());
            }
        }
    }

    fn name_links(&mut self) {
        for names in self.first_names.values() {
            let first = names.iter().min().unwrap();
            for name in names {
                self.tree.get_mut(name).unwrap().same_inode_as.clone_from(first);
            }
        }
        for (path, attributes) in &mut self.tree {
            if attributes.same_inode_as.is_empty() {
                attributes.same_inode_as.clone_from(path);
            }
        }
    }
}

fn open(at: impl rustix::fd::AsFd, name: &[u8], flags: OFlags) -> OwnedFd {
    rustix::fs::openat(at, name, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .unwrap_or_else(|error| panic!("open {}: {error}", shown(name)))
}

fn common_attributes(stat: &Stat, kind: Kind) -> Attributes {
    Attributes {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap()),
        xattrs: BTreeMap::new(),
        same_inode_as: Vec::new(),
    }
}

fn kind_of(parent: &OwnedFd, name: &[u8], stat: &Stat) -> Kind {
    let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let size = u64::try_from(stat.st_size).unwrap();
            // Opening 100,000 empty files takes long in the lab.
            let file = (size > 0).then(|| File::from(open(parent, name, OFlags::NOFOLLOW)));
            let (content, data) = content_of(file.as_ref(), size);
            Kind::File { size, content, data }
        }
        FileType::Directory => Kind::Directory,
        FileType::Symlink => {
            Kind::Symlink { target: rustix::fs::readlinkat(parent, name, Vec::new()).unwrap().into_bytes() }
        }
        FileType::CharacterDevice => Kind::CharDevice { major: numbers.0, minor: numbers.1 },
        FileType::BlockDevice => Kind::BlockDevice { major: numbers.0, minor: numbers.1 },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => panic!("{}: mode {:o}", shown(name), stat.st_mode),
    }
}

fn content_of(file: Option<&File>, size: u64) -> (String, DataBytes) {
    const BLOCK: u64 = 4096;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let (mut position, mut data_bytes) = (0, 0);
    while let (Some(file), true) = (file, position < size) {
        let data = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(data) => data / BLOCK * BLOCK,
            Err(Errno::NXIO) => break,
            Err(error) => panic!("SEEK_DATA: {error}"),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(data.max(position))).unwrap().next_multiple_of(BLOCK).min(size);
        position = data.max(position);
        data_bytes += end - position;
        while position < end {
            let length = usize::try_from((end - position).min(1 << 20)).unwrap();
            let chunk = &mut buffer[..length];
            file.read_exact_at(chunk, position).unwrap();
            for block in chunk.chunks(4096) {
                if block.iter().any(|&byte| byte != 0) {
                    hash.update(position.to_le_bytes());
                    hash.update(block);
                }
                position += block.len() as u64;
            }
        }
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    (text, DataBytes(data_bytes))
}

fn xattrs_of(path: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::llistxattr(path, &mut list) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return BTreeMap::new(),
        Err(error) => panic!("llistxattr {}: {error}", shown(path)),
    };
    let mut all = BTreeMap::new();
    for name in list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        all.insert(name.to_vec(), value);
    }
    all
}
