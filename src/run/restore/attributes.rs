//! Owner, mode, attributes and time of restored entries.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::acl_names::AclNames;
use super::ids::IdMaps;
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::entry::{Timestamp, Xattr};
use crate::outside::inode_flags;
use crate::outside::inode_flags::fat;
use crate::writer::ext4;

/// `S_ISUID` and `S_ISGID`.
const SET_ID: u32 = 0o6000;
/// The file capabilities of capabilities(7).
const CAPABILITIES: &[u8] = b"security.capability";

/// The message for FAT attributes on a target that is no FAT.
pub const NO_FAT: &str =
    "FAT attributes (read-only, hidden, system, archive) could not be set: the filesystem has none";

/// How an entry's attributes are changed by the restore.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Files get no set-user-id or set-group-id bits and no capabilities.
    pub strip_set_id: bool,
    /// The mapping of owners and groups.
    pub ids: IdMaps,
    /// Where names in ACLs without numbers are looked up.
    pub names: Arc<AclNames>,
}

/// An attribute without which the entry counts as not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// Its mode.
    #[error("its mode cannot be set: {0}")]
    Mode(Errno),
    /// Capabilities that it had before.
    #[error("its capabilities cannot be removed: {0}")]
    Capabilities(Errno),
    /// Its modification time.
    #[error("its time cannot be set: {0}")]
    Time(Errno),
    /// The earlier modification time of a directory.
    #[error("its time cannot be set back: {0}")]
    TimeBack(Errno),
}

/// Whether a file lends the rights of its owner, its group, or root.
pub fn may_lend_rights(head: &EntryHead) -> bool {
    let has_capabilities = || head.xattrs.iter().any(|xattr| xattr.name == CAPABILITIES);
    becomes_file(head) && (head.mode & SET_ID != 0 || has_capabilities())
}

/// Whether an entry may become a regular file: this includes a link with data and an unknown type.
fn becomes_file(head: &EntryHead) -> bool {
    matches!(head.kind, HeadKind::File | HeadKind::HardLink(_) | HeadKind::Other(_))
}

/// An entry's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Timestamp,
    xattrs: Vec<Xattr>,
    flags: u32,
    project: u32,
    /// Its set-id bits or capabilities are dropped.
    is_stripped: bool,
}

impl fmt::Display for Attributes {
    /// Mode and owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |id: Option<u32>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        write!(f, "{:04o} and {}:{}", self.mode, shown(self.uid), shown(self.gid))
    }
}

/// The restoring process, and the attributes that it could not set.
#[derive(Debug)]
pub struct Restorer {
    is_root: bool,
    ids: (u32, u32),
    /// The attributes that could not be set, with the first path's reason, and how often.
    shortfalls: BTreeMap<String, u64>,
    /// The number of files whose set-id bits or capabilities were dropped as requested.
    stripped: u64,
}

impl Restorer {
    /// The current process.
    pub fn of_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self { is_root: uid.is_root(), ids: (uid.as_raw(), gid.as_raw()), shortfalls: BTreeMap::new(), stripped: 0 }
    }

    /// Whether it may create devices.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// Records an attribute that could not be set. Equal texts are counted.
    pub fn fell_short(&mut self, what: String) {
        *self.shortfalls.entry(what).or_default() += 1;
    }

    /// Records flags that could not be set.
    pub fn flags_fell_short(&mut self, (missing, why): (u32, Option<Errno>)) {
        if missing != 0 {
            let why = why.map_or_else(|| "the filesystem does not have them".to_owned(), |error| error.to_string());
            let letters = inode_flags::letters(missing);
            self.fell_short(format!("inode flags (chattr +{letters}) could not be set: {why}"));
        }
    }

    /// Records extended attributes of these names for which there is no room.
    pub(super) fn xattrs_fell_short(&mut self, names: &[Vec<u8>]) {
        for name in names {
            self.xattr_fell_short(name, Errno::NOSPC);
        }
    }

    fn xattr_fell_short(&mut self, name: &[u8], error: Errno) {
        let family = name.split(|byte| *byte == b'.').next().unwrap_or(name);
        let family = if family.len() < 20 { family } else { b"other" };
        self.fell_short(format!("attributes `{}.*` could not be set: {error}", family.escape_ascii()));
    }

    /// The number of files whose set-id bits or capabilities were dropped by [`Rules::strip_set_id`].
    pub fn stripped(&self) -> u64 {
        self.stripped
    }

    /// The attributes that could not be set, and how often.
    pub fn shortfalls(&self) -> &BTreeMap<String, u64> {
        &self.shortfalls
    }
}

impl Attributes {
    /// The attributes from an entry's headers, changed by these rules.
    pub fn of(head: &EntryHead, rules: &Rules, restorer: &mut Restorer) -> Self {
        let mut id = |id: u64, what: &str| {
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            if id.is_none() {
                restorer.fell_short(format!("the {what} is invalid on Linux"));
            }
            id
        };
        let mut attributes = Self {
            uid: id(head.uid, "owner"),
            gid: id(head.gid, "group"),
            mode: head.mode,
            mtime: head.mtime,
            xattrs: head.xattrs.clone(),
            flags: head.flags,
            project: head.project,
            is_stripped: false,
        };
        attributes.uid = attributes.uid.map(|uid| rules.ids.uids.get(uid));
        attributes.gid = attributes.gid.map(|gid| rules.ids.gids.get(gid));
        if !rules.ids.is_empty() {
            rules.ids.map_xattrs(&mut attributes.xattrs);
        }
        // With the numbers of where it is restored to, which are not mapped again.
        for acl in rules.names.attributes(head, &rules.ids) {
            attributes.xattrs.retain(|xattr| xattr.name != acl.name);
            attributes.xattrs.push(acl);
        }
        // A directory's set-group-id bit lends no rights.
        if rules.strip_set_id && becomes_file(head) {
            attributes.strip_set_id();
        }
        attributes
    }

    /// Whether an inode has this owner, group and mode, and no attributes beyond them.
    pub fn are_of(&self, facts: &Stat) -> bool {
        let ids = self.uid.is_none_or(|uid| uid == facts.st_uid) && self.gid.is_none_or(|gid| gid == facts.st_gid);
        // An inode's stat does not show whether capabilities were dropped.
        ids && !self.is_stripped && self.mode == facts.st_mode & 0o7777
    }

    fn strip_set_id(&mut self) {
        let before = self.xattrs.len();
        self.xattrs.retain(|xattr| xattr.name != CAPABILITIES);
        self.is_stripped = self.mode & SET_ID != 0 || self.xattrs.len() < before;
        self.mode &= !SET_ID;
    }

    /// Sets flags that control how data is written, on an empty file.
    pub fn prepare(&self, fd: impl AsFd) {
        if self.flags & inode_flags::OF_DATA != 0 {
            // Failures show when all flags are set.
            let _ = inode_flags::add(fd, self.flags & inode_flags::OF_DATA);
        }
    }

    /// The flags that prevent all later changes: immutable and append-only.
    pub fn locks(&self) -> u32 {
        self.flags & inode_flags::LOCKS
    }

    /// Sets project id and flags, except locking ones.
    fn set_flags(&self, fd: &OwnedFd, restorer: &mut Restorer) {
        if self.project != 0
            && let Err(error) = inode_flags::set_project(fd, self.project)
        {
            restorer.fell_short(format!("project ids could not be set: {error}"));
        }
        if self.flags & fat::KNOWN != 0
            && let Err(error) = fat::set(fd, self.flags)
        {
            restorer.fell_short(match error {
                Errno::NOTTY => NO_FAT.to_owned(),
                other => format!("FAT attributes could not be set: {other}"),
            });
        }
        let flags = self.flags & !(inode_flags::LOCKS | fat::ALL);
        if flags != 0 {
            restorer.flags_fell_short(inode_flags::add(fd, flags));
        }
    }

    /// Sets all attributes of an open file or directory: first those that require write permission, then the owner,
    /// which clears set-id bits and capabilities, then those, and the time last. The error is one without which it
    /// counts as not restored.
    pub fn set_open(&self, fd: &OwnedFd, restorer: &mut Restorer) -> Result<(), AttributeError> {
        let set = |xattr: &Xattr| rustix::fs::fsetxattr(fd, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        self.set_xattrs(true, restorer, set);
        let is_theirs = self.set_owner(rustix::fs::fchown(fd, self.uid(), self.gid()), restorer);
        rustix::fs::fchmod(fd, self.mode(is_theirs)).map_err(AttributeError::Mode)?;
        self.set_xattrs(false, restorer, set);
        if self.is_stripped {
            restorer.stripped += 1;
            // An earlier restore may have set some.
            if rustix::fs::fgetxattr_query(fd, CAPABILITIES).is_ok() {
                rustix::fs::fremovexattr(fd, CAPABILITIES).map_err(AttributeError::Capabilities)?;
            }
        }
        if self.flags | self.project != 0 {
            self.set_flags(fd, restorer);
        }
        rustix::fs::futimens(fd, &times(self.mtime)).map_err(AttributeError::Time)
    }

    /// Sets the attributes of `name` in `at`, a symbolic link or special file that was just created.
    pub fn set_named(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        is_symlink: bool,
        restorer: &mut Restorer,
    ) -> Result<(), AttributeError> {
        let by_name = named_in(at, name);
        let set =
            |xattr: &Xattr| rustix::fs::lsetxattr(&by_name, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        self.set_xattrs(true, restorer, set);
        let chowned = rustix::fs::chownat(at, name, self.uid(), self.gid(), AtFlags::SYMLINK_NOFOLLOW);
        let is_theirs = self.set_owner(chowned, restorer);
        if !is_symlink {
            // O_PATH identifies the inode without opening it, so that no link can take its place in between.
            let fd = rustix::fs::openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            fd.and_then(|fd| {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                rustix::fs::chmodat(CWD, path, self.mode(is_theirs), AtFlags::empty())
            })
            .map_err(AttributeError::Mode)?;
        }
        self.set_xattrs(false, restorer, set);
        rustix::fs::utimensat(at, name, &times(self.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(AttributeError::Time)
    }

    /// The attributes for an inode that volbak writes itself, set in the order of [`Self::set_open`].
    pub(super) fn for_writer(&self, kind: ext4::Kind, restorer: &mut Restorer) -> ext4::Attributes {
        // Links have all permissions.
        let inode = RefCell::new(ext4::Attributes::new(kind, 0o777, self.mtime));
        let set = |xattr: &Xattr| inode.borrow_mut().set_xattr(xattr);
        self.set_xattrs(true, restorer, set);
        if kind != ext4::Kind::Symlink {
            inode.borrow_mut().mode = self.mode(self.uid.is_some() && self.gid.is_some()).as_raw_mode();
        }
        self.set_xattrs(false, restorer, set);
        let mut inode = inode.into_inner();
        (inode.uid, inode.gid) = (self.uid.unwrap_or(0), self.gid.unwrap_or(0));
        if matches!(kind, ext4::Kind::File | ext4::Kind::Directory) {
            if self.project != 0 {
                restorer.fell_short(format!("project ids could not be set: {}", Errno::OPNOTSUPP));
            }
            if self.flags & fat::KNOWN != 0 {
                restorer.fell_short(NO_FAT.to_owned());
            }
            restorer.flags_fell_short((inode.set_flags(self.flags & !fat::ALL), None));
        }
        inode
    }

    fn uid(&self) -> Option<Uid> {
        self.uid.map(Uid::from_raw)
    }

    fn gid(&self) -> Option<Gid> {
        self.gid.map(Gid::from_raw)
    }

    /// Whether owner and group now match the archive.
    fn set_owner(&self, result: Result<(), Errno>, restorer: &mut Restorer) -> bool {
        match result {
            Ok(()) => self.uid.is_some() && self.gid.is_some(),
            Err(_) if (self.uid, self.gid) == (Some(restorer.ids.0), Some(restorer.ids.1)) => true,
            Err(error) => {
                restorer.fell_short(format!("owner and group could not be set: {error}"));
                false
            }
        }
    }

    /// The mode; without set-id bits if it would lend the wrong owner's rights.
    fn mode(&self, is_theirs: bool) -> Mode {
        Mode::from_raw_mode(if is_theirs { self.mode } else { self.mode & !SET_ID })
    }

    fn set_xattrs(&self, user: bool, restorer: &mut Restorer, set: impl Fn(&Xattr) -> Result<(), Errno>) {
        for xattr in self.xattrs.iter().filter(|xattr| xattr.name.starts_with(b"user.") == user) {
            if let Err(error) = set(xattr) {
                restorer.xattr_fell_short(&xattr.name, error);
            }
        }
    }
}

/// A path to `name` in `at`, for calls that take no directory's descriptor.
pub(super) fn named_in(at: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(), name].concat()
}

/// Sets modification and access time to `mtime`: the archive has no access time.
pub fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.sec, tv_nsec: i64::from(mtime.nsec) };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets the modification time only.
pub(super) fn modified(mtime: Timestamp) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, ..times(mtime) }
}
