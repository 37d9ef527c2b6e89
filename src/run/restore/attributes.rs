//! Restorer, mode, attributes and time of what is restored.

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

/// `S_ISUID` and `S_ISGID`.
const SET_ID: u32 = 0o6000;
/// The file capabilities of capabilities(7).
const CAPABILITIES: &[u8] = b"security.capability";

/// What is said of FAT attributes where the target is no FAT.
pub const NO_FAT: &str =
    "FAT attributes (read-only, hidden, system, archive) could not be set: the filesystem has none";

/// How an entry's attributes become those of what is restored.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Files get no set-user-id or set-group-id bits and no capabilities.
    pub strip_set_id: bool,
    /// Other numbers for owners and groups.
    pub ids: IdMaps,
    /// Where names in ACLs without numbers are looked up.
    pub names: Arc<AclNames>,
}

/// An attribute that makes an entry another one where it cannot be set.
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
    /// The modification time that a directory had before something was put into it.
    #[error("its time cannot be set back: {0}")]
    TimeBack(Errno),
}

/// Whether a file lends its owner's rights, its group's, or some of root's.
pub fn may_lend_rights(head: &EntryHead) -> bool {
    let has_capabilities = || head.xattrs.iter().any(|xattr| xattr.name == CAPABILITIES);
    becomes_file(head) && (head.mode & SET_ID != 0 || has_capabilities())
}

/// Whether an entry can become a regular file: a link with data and a type that is not known do, too.
fn becomes_file(head: &EntryHead) -> bool {
    matches!(head.kind, HeadKind::File | HeadKind::HardLink(_) | HeadKind::Other(_))
}

/// What an entry gets besides its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Timestamp,
    xattrs: Vec<Xattr>,
    flags: u32,
    project: u32,
    /// It had set-id bits or capabilities, which it does not get.
    is_stripped: bool,
}

impl fmt::Display for Attributes {
    /// Mode and owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |id: Option<u32>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        write!(f, "{:04o} and {}:{}", self.mode, shown(self.uid), shown(self.gid))
    }
}

/// The process that restores, and what it could not set.
#[derive(Debug)]
pub struct Restorer {
    is_root: bool,
    ids: (u32, u32),
    /// What could not be set, in words, with how often and the first path's reason.
    shortfalls: BTreeMap<String, u64>,
    /// Files that were left without their set-id bits or capabilities, as it was asked for.
    stripped: u64,
}

impl Restorer {
    /// This process.
    pub fn of_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self { is_root: uid.is_root(), ids: (uid.as_raw(), gid.as_raw()), shortfalls: BTreeMap::new(), stripped: 0 }
    }

    /// Whether devices may be made at all.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// Notes something that could not be set. The same words are counted.
    pub fn fell_short(&mut self, what: String) {
        *self.shortfalls.entry(what).or_default() += 1;
    }

    /// Notes flags that could not be set.
    pub fn flags_fell_short(&mut self, (missing, why): (u32, Option<Errno>)) {
        if missing != 0 {
            let why = why.map_or_else(|| "the filesystem does not have them".to_owned(), |error| error.to_string());
            let letters = inode_flags::letters(missing);
            self.fell_short(format!("inode flags (chattr +{letters}) could not be set: {why}"));
        }
    }

    /// How many files were left without their set-id bits or capabilities, by [`Rules::strip_set_id`].
    pub fn stripped(&self) -> u64 {
        self.stripped
    }

    /// What could not be set, and how often.
    pub fn shortfalls(&self) -> &BTreeMap<String, u64> {
        &self.shortfalls
    }
}

impl Attributes {
    /// What an entry's headers say, by these rules.
    pub fn of(head: &EntryHead, rules: &Rules, restorer: &mut Restorer) -> Self {
        let mut id = |id: u64, what: &str| {
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            if id.is_none() {
                restorer.fell_short(format!("the {what} is none that Linux has"));
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

    /// Whether an inode has this owner, group and mode, and nothing that it is not to have.
    pub fn are_of(&self, facts: &Stat) -> bool {
        let ids = self.uid.is_none_or(|uid| uid == facts.st_uid) && self.gid.is_none_or(|gid| gid == facts.st_gid);
        // A stripped file's capabilities are not in its inode's facts.
        ids && !self.is_stripped && self.mode == facts.st_mode & 0o7777
    }

    fn strip_set_id(&mut self) {
        let before = self.xattrs.len();
        self.xattrs.retain(|xattr| xattr.name != CAPABILITIES);
        self.is_stripped = self.mode & SET_ID != 0 || self.xattrs.len() < before;
        self.mode &= !SET_ID;
    }

    /// Sets the flags that say how data is written, on a file that has none yet.
    pub fn prepare(&self, fd: impl AsFd) {
        if self.flags & inode_flags::OF_DATA != 0 {
            // What of them could not be set is found out when all is.
            let _ = inode_flags::add(fd, self.flags & inode_flags::OF_DATA);
        }
    }

    /// The flags that nothing may be done after: immutable and append-only.
    pub fn locks(&self) -> u32 {
        self.flags & inode_flags::LOCKS
    }

    /// Project id and flags, but for those that lock it.
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

    /// Sets all of them on an open file or directory: first what needs the right to write, then the owner, which takes
    /// set-id bits and capabilities away, then those, the time last. The error is one that makes it another file.
    pub fn set_open(&self, fd: &OwnedFd, restorer: &mut Restorer) -> Result<(), AttributeError> {
        let set = |xattr: &Xattr| rustix::fs::fsetxattr(fd, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        self.set_xattrs(true, restorer, set);
        let is_theirs = self.set_owner(rustix::fs::fchown(fd, self.uid(), self.gid()), restorer);
        rustix::fs::fchmod(fd, self.mode(is_theirs)).map_err(AttributeError::Mode)?;
        self.set_xattrs(false, restorer, set);
        if self.is_stripped {
            restorer.stripped += 1;
            // An earlier restore may have given it some.
            if rustix::fs::fgetxattr(fd, CAPABILITIES, &mut [0_u8; 0][..]).is_ok() {
                rustix::fs::fremovexattr(fd, CAPABILITIES).map_err(AttributeError::Capabilities)?;
            }
        }
        if self.flags | self.project != 0 {
            self.set_flags(fd, restorer);
        }
        rustix::fs::futimens(fd, &times(self.mtime)).map_err(AttributeError::Time)
    }

    /// Sets them on `name` in `at`, which is a symbolic link or a special file and was just made.
    pub fn set_named(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        is_symlink: bool,
        restorer: &mut Restorer,
    ) -> Result<(), AttributeError> {
        let by_name = [format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(), name].concat();
        let set =
            |xattr: &Xattr| rustix::fs::lsetxattr(&by_name, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        self.set_xattrs(true, restorer, set);
        let chowned = rustix::fs::chownat(at, name, self.uid(), self.gid(), AtFlags::SYMLINK_NOFOLLOW);
        let is_theirs = self.set_owner(chowned, restorer);
        if !is_symlink {
            // A descriptor that opens nothing, but names the inode: so no link can come in between.
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

    fn uid(&self) -> Option<Uid> {
        self.uid.map(Uid::from_raw)
    }

    fn gid(&self) -> Option<Gid> {
        self.gid.map(Gid::from_raw)
    }

    /// Whether owner and group are the archive's now.
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

    /// The mode; without its set-id bits when it would lend the wrong owner's rights.
    fn mode(&self, is_theirs: bool) -> Mode {
        Mode::from_raw_mode(if is_theirs { self.mode } else { self.mode & !SET_ID })
    }

    fn set_xattrs(&self, user: bool, restorer: &mut Restorer, set: impl Fn(&Xattr) -> Result<(), Errno>) {
        for xattr in self.xattrs.iter().filter(|xattr| xattr.name.starts_with(b"user.") == user) {
            if let Err(error) = set(xattr) {
                let family = xattr.name.split(|byte| *byte == b'.').next().unwrap_or(&xattr.name);
                let family = if family.len() < 20 { family } else { b"other" };
                restorer.fell_short(format!("attributes `{}.*` could not be set: {error}", family.escape_ascii()));
            }
        }
    }
}

/// Sets the modification time, and the access time with it: it is not in the archive.
pub fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.sec, tv_nsec: i64::from(mtime.nsec) };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets the modification time alone.
pub(super) fn modified(mtime: Timestamp) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, ..times(mtime) }
}
