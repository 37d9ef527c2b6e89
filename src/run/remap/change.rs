//! One inode: what it has, what it is to have, and the change.

use std::os::fd::{AsRawFd, OwnedFd};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, XattrFlags, chmod, chownat, fstat, getxattr, setxattr};
use rustix::io::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entry::Xattr;
use crate::run::restore::ids::IdMaps;

const CAPABILITIES: &str = "security.capability";
/// Attributes that name users or groups, or that a change of owner loses.
const NAMES: [&str; 3] = ["system.posix_acl_access", "system.posix_acl_default", CAPABILITIES];
/// `XATTR_SIZE_MAX` of the kernel.
const MOST_BYTES: usize = 65536;
const SET_ID: u32 = 0o6000;
const MODE: u32 = 0o7777;

/// What an inode has.
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) kind: FileType,
    pub(super) links: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    mode: u32,
    xattrs: Vec<Xattr>,
}

/// How many inodes kept what a change of owner would lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Set-user-id and set-group-id bits.
    pub set_id: u64,
    /// File capabilities.
    pub capabilities: u64,
    /// ACLs that name a mapped number.
    pub acls: u64,
}

impl Kept {
    pub(super) fn note(&mut self, inode: &Inode, record: &Record) {
        self.set_id += u64::from(inode.mode & SET_ID != 0);
        self.capabilities += u64::from(inode.xattrs.iter().any(|xattr| xattr.name == CAPABILITIES.as_bytes()));
        let is_mapped = |one: &Attribute| one.name != CAPABILITIES && one.old != one.new;
        self.acls += u64::from(record.xattrs.iter().any(is_mapped));
    }
}

/// Which of its two states an inode is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    Old,
    New,
}

/// A change of an inode, as it stands in the journal: old and new values, never a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Below the directory, as base64 of its bytes if it is not UTF-8.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub(super) path: Vec<u8>,
    pub(super) inode: u64,
    /// A directory may be a symbolic link's name by now: the kind is compared, too.
    kind: u32,
    pub(super) uid: (u32, u32),
    pub(super) gid: (u32, u32),
    mode: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<Attribute>,
}

/// An attribute as it is before an inode is brought to one of its states.
struct Found<'a> {
    name: &'a str,
    now: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attribute {
    name: String,
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    old: Vec<u8>,
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    new: Vec<u8>,
}

/// The path by which the kernel leads to the inode of a descriptor, also to one opened with `O_PATH`.
fn through(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl Inode {
    pub(super) fn read(fd: &OwnedFd) -> Result<Self, Errno> {
        let stat = fstat(fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut xattrs = Vec::new();
        // A symbolic link has no mode, no ACL and no capabilities.
        if kind != FileType::Symlink {
            let path = through(fd);
            for name in NAMES {
                let is_possible = match name {
                    "system.posix_acl_default" => kind == FileType::Directory,
                    CAPABILITIES => kind == FileType::RegularFile,
                    _ => true,
                };
                if is_possible && let Some(value) = attribute(&path, name)? {
                    xattrs.push(Xattr { name: name.into(), value });
                }
            }
        }
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the type depends on the architecture")]
        let links = u64::from(stat.st_nlink);
        Ok(Self {
            number: stat.st_ino,
            kind,
            links,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & MODE,
            xattrs,
        })
    }

    /// The change, if the maps want any.
    pub(super) fn mapped(&self, path: &[u8], maps: &IdMaps) -> Option<Record> {
        let (uid, gid) = (maps.uids.get(self.uid), maps.gids.get(self.gid));
        let mut new = self.xattrs.clone();
        maps.map_xattrs(&mut new);
        let is_owner_changed = (uid, gid) != (self.uid, self.gid);
        if !is_owner_changed && new == self.xattrs {
            return None;
        }
        let xattrs = self.xattrs.iter().zip(new).filter_map(|(old, new)| {
            let name = String::from_utf8(new.name).ok()?;
            // Capabilities are lost with each change of the owner, and are set again.
            let is_needed = old.value != new.value || (name == CAPABILITIES && is_owner_changed);
            is_needed.then(|| Attribute { name, old: old.value.clone(), new: new.value })
        });
        Some(Record {
            path: path.to_owned(),
            inode: self.number,
            kind: self.kind.as_raw_mode(),
            uid: (self.uid, uid),
            gid: (self.gid, gid),
            mode: self.mode,
            xattrs: xattrs.collect(),
        })
    }
}

fn attribute(path: &str, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    let mut small = [0_u8; 256];
    match getxattr(path, name, &mut small[..]) {
        Ok(len) => Ok(small.get(..len).map(<[u8]>::to_vec)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(Errno::RANGE) => {
            let mut value = vec![0; MOST_BYTES];
            let len = getxattr(path, name, &mut value[..])?;
            value.truncate(len);
            Ok(Some(value))
        }
        Err(error) => Err(error),
    }
}

impl Record {
    /// Whether a descriptor is of the inode of this record, as it was before the change or after it.
    pub(super) fn is_of(&self, fd: &OwnedFd) -> Result<(), String> {
        let stat = fstat(fd).map_err(|error| error.to_string())?;
        if (stat.st_ino, FileType::from_raw_mode(stat.st_mode).as_raw_mode()) != (self.inode, self.kind) {
            return Err("another file is there now".to_owned());
        }
        let is_known = |now: u32, (old, new): (u32, u32)| now == old || now == new;
        if is_known(stat.st_uid, self.uid) && is_known(stat.st_gid, self.gid) {
            return Ok(());
        }
        Err(format!("it has the numbers {}:{} now, which came after the change", stat.st_uid, stat.st_gid))
    }

    /// Brings the inode to its new state, or to its old one; from either, and from any between. `is_settled` says that no
    /// inode is between the two: what is missing, somebody took away since.
    ///
    /// A later mode and later capabilities stay. A later ACL stays, too, and is an error: it names numbers.
    pub(super) fn apply(&self, fd: &OwnedFd, towards: Towards, is_settled: bool) -> Result<(), String> {
        let pick = |(old, new): (u32, u32)| if towards == Towards::New { new } else { old };
        let owner = (pick(self.uid), pick(self.gid));
        let failed = |what: &'static str| move |error: Errno| format!("{what}: {}", explained(error));
        let stat = fstat(fd).map_err(failed("it cannot be examined"))?;
        let is_link = self.kind == FileType::Symlink.as_raw_mode();
        let path = through(fd);
        let found =
            if is_link { Vec::new() } else { self.found(&path).map_err(failed("an attribute cannot be read"))? };
        if (stat.st_uid, stat.st_gid) != owner {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(failed("its owner is not changed"))?;
        }
        if is_link {
            return Ok(());
        }
        let mut later = None;
        for Found { name, now } in found {
            let value = match self.xattrs.iter().find(|one| one.name == name) {
                Some(one) if one.is_known(now.as_ref(), is_settled) => {
                    Some(if towards == Towards::New { &one.new } else { &one.old })
                }
                Some(one) if one.name != CAPABILITIES => {
                    later = Some("its owner is changed, and its ACL is not: it was changed since, and stays as it is");
                    None
                }
                _ => now.as_ref(),
            };
            let Some(value) = value else { continue };
            let is_there = attribute(&path, name).map_err(failed("an attribute cannot be read"))?;
            if is_there.as_ref() != Some(value) {
                setxattr(path.as_str(), name, value, XattrFlags::empty())
                    .map_err(failed("its owner is changed, and its ACL or capabilities are not"))?;
            }
        }
        // Last: a change of owner clears set-id bits, and an ACL sets the group's.
        let mode = self.mode_after(stat.st_mode & MODE, is_settled);
        if fstat(fd).map_err(failed("it cannot be examined"))?.st_mode & MODE != mode {
            chmod(path.as_str(), Mode::from_raw_mode(mode)).map_err(failed("its set-id bits are not set again"))?;
        }
        later.map_or(Ok(()), |what| Err(what.to_owned()))
    }

    /// The attributes of the record, and the capabilities, which a change of owner takes away.
    fn found(&self, path: &str) -> Result<Vec<Found<'_>>, Errno> {
        let mut names: Vec<&str> = self.xattrs.iter().map(|one| one.name.as_str()).collect();
        if self.kind == FileType::RegularFile.as_raw_mode() && !names.contains(&CAPABILITIES) {
            names.push(CAPABILITIES);
        }
        names.into_iter().map(|name| Ok(Found { name, now: attribute(path, name)? })).collect()
    }

    /// The mode to have, of an inode that has this one: that of the record, if an interrupted change of owner took no more than
    /// set-id bits from it; otherwise the one that somebody gave it since.
    fn mode_after(&self, now: u32, is_settled: bool) -> u32 {
        let has_lost_set_id = now | SET_ID == self.mode | SET_ID && now & !self.mode == 0;
        if has_lost_set_id && !is_settled { self.mode } else { now }
    }
}

impl Attribute {
    /// Whether an attribute is as the change or its undoing left it, also where either was interrupted.
    fn is_known(&self, now: Option<&Vec<u8>>, is_settled: bool) -> bool {
        match now {
            Some(now) => *now == self.old || *now == self.new,
            None => self.name == CAPABILITIES && !is_settled,
        }
    }
}

fn explained(error: Errno) -> String {
    match error {
        Errno::PERM => format!("{error}; it needs root, and no flag that forbids changes (`lsattr`, `chattr -i`)"),
        _ => error.to_string(),
    }
}

fn write_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes { base64: String },
}

fn write_path<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let name = match str::from_utf8(path) {
        Ok(text) => Name::Text(text.to_owned()),
        Err(_) => Name::Bytes { base64: BASE64_STANDARD.encode(path) },
    };
    name.serialize(serializer)
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    match Name::deserialize(deserializer)? {
        Name::Text(text) => Ok(text.into_bytes()),
        Name::Bytes { base64 } => BASE64_STANDARD.decode(base64).map_err(serde::de::Error::custom),
    }
}
