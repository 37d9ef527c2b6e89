//! Directories and inodes for the walk.

use std::io;
use std::sync::Arc;

use super::audit::{audit, is_short};
use super::data::read_at;
use super::dir_index::DirIndex;
use super::error::damaged;
use super::file::Ext4File;
use super::inode::{self, Inode, Type};
use super::map::run_at;
use super::names::Names;
use super::orphans::is_orphan;
use super::remark::Remark;
use super::volume::Volume;
use super::{attributes, directory};
use crate::entry::{EntryKind, Metadata, Xattr};
use crate::events::Severity;
use crate::reader::listing::Listing;
use crate::reader::walk::{LookError, Looked, OpenDirectory, Position, Tree};

/// Inodes are prefetched this many names ahead.
const AHEAD_NAMES: usize = 256;
/// Only every 64th name triggers a prefetch, since neighbouring inodes share a block.
const AHEAD_STEP: usize = 64;

/// The directory tree of a filesystem.
pub struct Ext4Tree {
    volume: Arc<Volume>,
    used_inodes: u64,
    /// The type that the directory stores for the next name.
    expected_type: u8,
    names: Names,
    remarks: Vec<Remark>,
}

impl Ext4Tree {
    /// `used_inodes` is the filesystem's own count.
    pub(super) fn new(volume: Arc<Volume>, used_inodes: u64) -> Self {
        Self { volume, used_inodes, expected_type: 0, names: Names::default(), remarks: Vec::new() }
    }

    /// Lowers the severity of contradictions without a journal: then pending writes of the guest are expected to
    /// contradict earlier ones.
    fn as_it_counts(&self, mut remarks: Vec<Remark>) -> Vec<Remark> {
        let superblock = &self.volume.superblock;
        if !superblock.has_journal && !superblock.was_clean {
            for (severity, what) in &mut remarks {
                *severity = Severity::Warning;
                what.push_str(" (it has no journal and was in use)");
            }
        }
        remarks
    }

    /// Audits the map of an inode that was not met before, if the map is in the inode or is read next anyway.
    fn audit(&mut self, inode: &Inode) {
        let remarks = audit(&self.volume, inode);
        if !remarks.is_empty() {
            self.remarks.extend(remarks);
        }
    }

    /// The metadata that all types of inodes share.
    fn facts(&mut self, inode: &Inode, complaints: &mut Vec<String>) -> (Metadata, Vec<Xattr>) {
        if inode.attribute_block != 0 && !self.volume.checks.attribute_block(inode.attribute_block) {
            let what = format!("the block of its attributes, {}, belongs to a file, too", inode.attribute_block);
            self.remarks.push((Severity::Error, what));
        }
        let xattrs = attributes::read(&self.volume, inode, &mut self.remarks).unwrap_or_else(|error| {
            complaints.push(format!("its extended attributes cannot be read, archived without them: {error}"));
            Vec::new()
        });
        (inode.metadata(), xattrs)
    }

    fn opened(&mut self, mut inode: Inode, complaints: &mut Vec<String>) -> OpenDirectory<Inode> {
        let (metadata, xattrs) = self.facts(&inode, complaints);
        inode.own_attributes = None;
        OpenDirectory { is_sealed: inode.is_encrypted(), directory: inode, metadata, xattrs }
    }
}

impl Tree for Ext4Tree {
    type Directory = Inode;

    /// Directories are inodes in memory and need no descriptor, so all of them stay open.
    const OPEN_DIRECTORIES: usize = usize::MAX;

    fn root(&mut self, complaints: &mut Vec<String>) -> io::Result<OpenDirectory<Inode>> {
        let mut root = Inode::read(&self.volume, inode::ROOT)?;
        root.parent = inode::ROOT;
        self.names.directory(inode::ROOT);
        self.audit(&root);
        Ok(self.opened(root, complaints))
    }

    fn list(&mut self, directory: &Inode) -> Result<Listing, (Listing, io::Error)> {
        // The walk may list it again when it returns to it.
        let is_first = self.names.list(directory.number);
        let mut index = if is_first { DirIndex::read(&self.volume, directory) } else { None };
        let listed = directory::list(&self.volume, directory, index.as_mut());
        if is_first {
            self.remarks.extend(index.and_then(|index| index.remark()));
            if let Some(what) = directory::dots_complaint(&self.volume, directory, directory.parent) {
                self.remarks.push((Severity::Error, what));
            }
            if let Ok(listing) = &listed {
                let links = 2 + listing.items.iter().filter(|item| item.is_directory).count() as u64;
                let nlink = u64::from(directory.nlink());
                // A link count of 1 means more subdirectories than it can count.
                if nlink != 1 && nlink != links {
                    let what = format!("its link count is {nlink}, but its subdirectories make it {links}");
                    self.remarks.push((Severity::Warning, what));
                }
            }
        }
        listed
    }

    fn is_empty_directory(&mut self, ino: u64) -> bool {
        let inode = u32::try_from(ino).ok().and_then(|number| Inode::read(&self.volume, number).ok());
        let Some(inode) = inode.filter(Inode::is_directory) else { return false };
        let is_empty = directory::list(&self.volume, &inode, None).is_ok_and(|listing| listing.items.is_empty());
        is_empty && self.names.directory(inode.number)
    }

    fn expect_type(&mut self, stored_type: u8) {
        self.expected_type = stored_type;
    }

    fn remarks(&mut self) -> Vec<Remark> {
        if self.remarks.is_empty() {
            return Vec::new();
        }
        let remarks = std::mem::take(&mut self.remarks);
        self.as_it_counts(remarks)
    }

    fn at_end(&mut self, is_whole: bool) -> Vec<Remark> {
        // Without a journal, names and inodes of a create or delete reach the disk at different times.
        let superblock = &self.volume.superblock;
        let is_settled = superblock.has_journal || superblock.was_clean;
        let remarks =
            if is_whole && is_settled { self.names.at_end(&self.volume, self.used_inodes) } else { Vec::new() };
        self.as_it_counts(remarks)
    }

    fn look_at(
        &mut self,
        directory: &Inode,
        _name: &[u8],
        ino: u64,
        path: &[u8],
        complaints: &mut Vec<String>,
    ) -> Result<Looked<Inode>, LookError> {
        let number = u32::try_from(ino).map_err(|_| LookError::NoInode)?;
        let mut inode = Inode::read(&self.volume, number).map_err(LookError::Inode)?;
        if number < self.volume.superblock.first_inode && number != inode::ROOT {
            return Err(LookError::ReservedInode(number));
        }
        let found_type = inode.file_type();
        if !directory::is_type_right(self.expected_type, found_type) {
            let what = format!("its directory says that it is of another type than its inode {number} is");
            self.remarks.push((Severity::Error, what));
        }
        if inode.dtime != 0 && !is_orphan(&self.volume, number) {
            self.remarks.push((Severity::Warning, format!("its inode {number} has a time of deletion")));
        }
        let mut is_first = false;
        if found_type != Some(Type::Directory) {
            is_first = self.names.name(number, inode.nlink());
            if is_first && matches!(found_type, Some(Type::File)) && is_short(&inode)
                || is_first && found_type == Some(Type::Symlink) && inode.size > inode.map.len() as u64
            {
                self.audit(&inode);
                is_first = false;
            }
            if inode.has_extents() && !matches!(found_type, Some(Type::File | Type::Symlink)) {
                self.remarks.push((Severity::Error, "it is mapped by extents, and has no data".to_owned()));
            }
        }
        if inode.is_encrypted() && matches!(inode.file_type(), Some(Type::File | Type::Symlink)) {
            return Ok(Looked::Sealed);
        }
        let kind = match inode.file_type() {
            Some(Type::Directory) => {
                if !self.names.directory(number) {
                    return Err(LookError::SecondName(number));
                }
                inode.parent = directory.number;
                self.audit(&inode);
                return Ok(Looked::Directory(self.opened(inode, complaints)));
            }
            Some(Type::File) => {
                let (metadata, xattrs) = self.facts(&inode, complaints);
                inode.own_attributes = None;
                let content = Ext4File::new(Arc::clone(&self.volume), inode, is_first.then_some(path));
                return Ok(Looked::Other(EntryKind::File(Box::new(content)), metadata, xattrs));
            }
            Some(Type::Symlink) => {
                let target = link_target(&self.volume, &inode, &mut self.remarks).map_err(LookError::Symlink)?;
                EntryKind::Symlink(target)
            }
            Some(Type::CharDevice) => EntryKind::CharDevice(inode.device()),
            Some(Type::BlockDevice) => EntryKind::BlockDevice(inode.device()),
            Some(Type::Fifo) => EntryKind::Fifo,
            Some(Type::Socket) => EntryKind::Socket,
            None => return Err(LookError::UnknownType),
        };
        let (metadata, xattrs) = self.facts(&inode, complaints);
        Ok(Looked::Other(kind, metadata, xattrs))
    }

    fn parent_of(&mut self, _child: Inode, _dev: u64, ino: u64) -> io::Result<Inode> {
        Inode::read(&self.volume, u32::try_from(ino).map_err(|_| damaged("there is no such inode"))?)
    }

    fn look_ahead(&mut self, _directory: &Inode, listing: &Listing, position: Position) {
        let position = match position {
            Position::Start(position) => position,
            Position::At(position) if position.is_multiple_of(AHEAD_STEP) => position + AHEAD_NAMES,
            Position::At(_) => return,
        };
        let Some(item) = listing.items.get(position) else { return };
        if let Ok(number) = u32::try_from(item.ino) {
            inode::will_read(&self.volume, number);
        }
    }
}

/// The target of a symbolic link: in the inode if it is short and only attributes are allocated, otherwise in a
/// block.
fn link_target(volume: &Volume, inode: &Inode, remarks: &mut Vec<Remark>) -> io::Result<Vec<u8>> {
    let superblock = &volume.superblock;
    let attributes =
        if inode.attribute_block == 0 { 0 } else { superblock.cluster_blocks * superblock.block_bytes / 512 };
    let len = usize::try_from(inode.size).unwrap_or(usize::MAX);
    let mut target = if inode.sectors == attributes {
        inode.map.get(..len).ok_or_else(|| damaged("it is longer than its room"))?.to_vec()
    } else {
        if len > superblock.block_len() {
            return Err(damaged("it is longer than a block"));
        }
        let mut target = vec![0; len];
        let read = read_at(volume, inode, 0, &mut target)?;
        target.truncate(read);
        // The target ends with its block at the latest.
        let block = run_at(volume, inode, 0)?.start.map(|start| volume.block(start)).transpose()?;
        if block.is_some_and(|block| block.get(len).is_some_and(|behind| *behind != 0)) {
            remarks.push((Severity::Error, format!("its length is {len}, and its target goes on behind that")));
        }
        target
    };
    if target.len() < len || target.contains(&0) {
        let end = target.iter().position(|byte| *byte == 0).unwrap_or(target.len());
        remarks.push((Severity::Error, format!("its length is {len}, and its target ends after {end} bytes")));
    }
    if let Some(end) = target.iter().position(|byte| *byte == 0) {
        target.truncate(end);
    }
    if target.is_empty() { Err(damaged("it leads nowhere")) } else { Ok(target) }
}
