//! The directories and inodes, for the walk.

use std::io;
use std::sync::Arc;

use super::file::{Ext4File, read_at};
use super::inode::{self, Inode, Type};
use super::volume::Volume;
use super::{attributes, damaged, directory};
use crate::reader::listing::Listing;
use crate::reader::walk::{Looked, OpenDirectory, Position, Tree};
use crate::reader::{EntryKind, Metadata, Xattr};

/// Inodes are fetched as many names ahead.
const AHEAD_NAMES: usize = 256;
/// One in so many names is looked at for that: an inode comes with its neighbours.
const AHEAD_STEP: usize = 64;

/// All directories of a filesystem.
pub struct Ext4Tree {
    volume: Arc<Volume>,
}

impl Ext4Tree {
    pub(super) fn new(volume: Arc<Volume>) -> Self {
        Self { volume }
    }

    /// What of an inode is the same for all types.
    fn facts(&self, inode: &Inode, complaints: &mut Vec<String>) -> (Metadata, Vec<Xattr>) {
        let xattrs = attributes::read(&self.volume, inode).unwrap_or_else(|error| {
            complaints.push(format!("its extended attributes cannot be read, archived without them: {error}"));
            Vec::new()
        });
        (inode.metadata(), xattrs)
    }

    fn opened(&self, mut inode: Inode, complaints: &mut Vec<String>) -> OpenDirectory<Inode> {
        let (metadata, xattrs) = self.facts(&inode, complaints);
        inode.own_attributes = None;
        OpenDirectory { is_sealed: inode.is_encrypted(), directory: inode, metadata, xattrs }
    }
}

impl Tree for Ext4Tree {
    type Directory = Inode;

    /// An inode in memory: all of them.
    const OPEN_DIRECTORIES: usize = usize::MAX;

    fn root(&mut self, complaints: &mut Vec<String>) -> io::Result<OpenDirectory<Inode>> {
        Ok(self.opened(Inode::read(&self.volume, inode::ROOT)?, complaints))
    }

    fn list(&mut self, directory: &Inode) -> Result<Listing, (Listing, io::Error)> {
        directory::list(&self.volume, directory)
    }

    fn look_at(
        &mut self,
        _directory: &Inode,
        _name: &[u8],
        ino: u64,
        _path: &[u8],
        complaints: &mut Vec<String>,
    ) -> Result<Looked<Inode>, String> {
        let number = u32::try_from(ino).map_err(|_| "leads to no inode, left out".to_owned())?;
        let mut inode =
            Inode::read(&self.volume, number).map_err(|error| format!("cannot be read, left out: {error}"))?;
        if inode.is_encrypted() && matches!(inode.file_type(), Some(Type::File | Type::Symlink)) {
            return Ok(Looked::Sealed);
        }
        let kind = match inode.file_type() {
            Some(Type::Directory) => return Ok(Looked::Directory(self.opened(inode, complaints))),
            Some(Type::File) => {
                let (metadata, xattrs) = self.facts(&inode, complaints);
                inode.own_attributes = None;
                let content = Ext4File::new(Arc::clone(&self.volume), inode);
                return Ok(Looked::Other(EntryKind::File(Box::new(content)), metadata, xattrs));
            }
            Some(Type::Symlink) => {
                let target = link_target(&self.volume, &inode)
                    .map_err(|error| format!("the symbolic link cannot be read, left out: {error}"))?;
                EntryKind::Symlink(target)
            }
            Some(Type::CharDevice) => EntryKind::CharDevice(inode.device()),
            Some(Type::BlockDevice) => EntryKind::BlockDevice(inode.device()),
            Some(Type::Fifo) => EntryKind::Fifo,
            Some(Type::Socket) => EntryKind::Socket,
            None => return Err("is of a type that is not known, left out".to_owned()),
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

/// A symbolic link's target: in the inode when it is short and nothing but attributes is allocated, else in a block.
fn link_target(volume: &Volume, inode: &Inode) -> io::Result<Vec<u8>> {
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
        target
    };
    if let Some(end) = target.iter().position(|byte| *byte == 0) {
        target.truncate(end);
    }
    if target.is_empty() { Err(damaged("it leads nowhere")) } else { Ok(target) }
}
