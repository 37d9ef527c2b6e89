//! The requests of the kernel, answered.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::entries::Facts;
use super::served::{FileOfBackup, Listed, Open, Served};
use crate::archive::read::head::HeadKind;

/// The longest name that Linux takes.
const NAME_BYTES: u32 = 255;

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(parent, name.as_bytes()) {
            Ok((valid, attr)) => reply.entry(&valid, &attr, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Ok((valid, attr)) => reply.attr(&valid, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.facts(ino) {
            Ok(Some(Facts { kind: HeadKind::Symlink(target), .. })) => reply.data(&target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_file(ino) {
            // What the kernel has of it stays right.
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.file(handle).and_then(|FileOfBackup { contents, opened, entry }| {
            contents.read(&opened, offset, size).map_err(|error| self.unreadable(&contents, entry, &error))
        });
        match read {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn lseek(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        const SEEK_DATA: i32 = 3;
        const SEEK_HOLE: i32 = 4;
        let found = self.file(handle).and_then(|FileOfBackup { contents, opened, entry }| {
            let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            let data = match whence {
                SEEK_DATA => true,
                SEEK_HOLE => false,
                _ => return Err(Errno::EINVAL),
            };
            let found = contents.seek(&opened, offset, data);
            let found = found.map_err(|error| self.unreadable(&contents, entry, &error))?;
            found.and_then(|found| i64::try_from(found).ok()).ok_or(Errno::ENXIO)
        });
        match found {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.handles().remove(&handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.listed(ino) {
            Ok(listed) => reply.opened(self.add_handle(Open::Directory(Arc::new(listed))), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(Open::Directory(listed)) = self.handles().get(&handle.0).cloned() else {
            return reply.error(Errno::EBADF);
        };
        let first = usize::try_from(offset).unwrap_or(usize::MAX).min(listed.len());
        for (next, Listed { ino, kind, name }) in (offset + 1..).zip(&listed[first..]) {
            if reply.add(*ino, next, *kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.handles().remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, NAME_BYTES, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.facts(ino) {
            Ok(facts) => {
                let mut xattrs = facts.into_iter().flat_map(|facts| facts.xattrs);
                match xattrs.find(|xattr| xattr.name == name.as_bytes()) {
                    Some(xattr) => answer(reply, size, &xattr.value),
                    None => reply.error(Errno::NO_XATTR),
                }
            }
            Err(error) => reply.error(error),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.facts(ino) {
            Ok(facts) => {
                let mut names = Vec::new();
                for xattr in facts.into_iter().flat_map(|facts| facts.xattrs) {
                    names.extend_from_slice(&xattr.name);
                    names.push(0);
                }
                answer(reply, size, &names);
            }
            Err(error) => reply.error(error),
        }
    }
}

/// Answers with a value, or with its length where the kernel asks for that.
fn answer(reply: ReplyXattr, size: u32, value: &[u8]) {
    match (size, u32::try_from(value.len())) {
        (0, Ok(len)) => reply.size(len),
        (size, Ok(len)) if len <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
