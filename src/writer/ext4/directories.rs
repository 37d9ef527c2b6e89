//! Opens and closes directories.

use super::create::LINKS_MAX;
use super::directory::{self, Directory};
use super::entries::Named;
use super::error::WriteError;
use super::extents;
use super::inode::{self, Attributes, Body, EXTENTS, INDEX, seed_of_raw};
use super::{Ext4Writer, ROOT};
use crate::entry::Timestamp;
use crate::field::{le16, le32};

/// A directory on the disk may have so many blocks to be opened again.
const BLOCKS_MAX: u64 = 1 << 16;
/// The maximum number of blocks of all directories that are opened again. In the order of volbak's own archives, only
/// targets of hard links are.
const ALL_BLOCKS_MAX: u64 = 1 << 22;

impl Ext4Writer {
    /// The root directory.
    pub(crate) fn root(&mut self) -> Result<Directory, WriteError> {
        self.open_directory(ROOT)
    }

    /// A new directory without a name.
    pub(crate) fn new_directory(&mut self, parent: &Directory) -> Result<Directory, WriteError> {
        // `ext4_mkdir`: without `dir_nlink` a directory has at most so many.
        if !self.volume.has_many_links && parent.subdirectories + 2 >= LINKS_MAX.into() {
            return Err(WriteError::Refused(rustix::io::Errno::MLINK));
        }
        self.has_room(1)?;
        let number = self.take_inode()?;
        let mut directory = Directory::new(number, parent.inode);
        self.reserve(&mut directory, 0)?;
        self.groups.count_directory(self.tables.group_of(number), true);
        Ok(directory)
    }

    /// What leads to a directory.
    pub(crate) fn named(directory: &Directory) -> Named {
        Named { inode: directory.inode, file_type: 2 }
    }

    /// Sets the attributes that a directory gets when it is closed.
    pub(crate) fn set_attributes(
        &mut self,
        directory: &mut Directory,
        attributes: Attributes,
    ) -> Result<(), WriteError> {
        let has_old = directory.raw.as_ref().is_some_and(|raw| self.has_xattrs(raw));
        if has_old {
            return Err(WriteError::left("a directory with attributes gets others"));
        }
        directory.attributes = Some(attributes);
        directory.is_changed = true;
        Ok(())
    }

    fn has_xattrs(&self, raw: &[u8]) -> bool {
        let at = 128 + usize::from(self.volume.extra_bytes);
        le32(raw, 0x68) != Some(0) || le16(raw, 0x76) != Some(0) || le32(raw, at).is_some_and(|magic| magic != 0)
    }

    /// Opens a directory that is on the disk.
    pub(crate) fn open_directory(&mut self, number: u32) -> Result<Directory, WriteError> {
        let wrong = || WriteError::left("a directory makes no sense");
        let raw = self.tables.get(number, &self.volume, &self.groups, &mut self.output)?;
        let map = raw.get(0x28..0x64).ok_or_else(wrong)?;
        if le32(&raw, 0x20).ok_or_else(wrong)? & EXTENTS == 0 || le16(&raw, 0).ok_or_else(wrong)? >> 12 != 4 {
            return Err(wrong());
        }
        let (extents, tree) = extents::decode(map, &self.volume, &mut self.output)?;
        let is_indexed = le32(&raw, 0x20).ok_or_else(wrong)? & INDEX != 0;
        let mut directory = Directory::new(number, number);
        directory.is_changed = false;
        (directory.extents, directory.tree) = (extents, tree);
        self.opened_blocks += directory.blocks();
        if directory.blocks() > BLOCKS_MAX || self.opened_blocks > ALL_BLOCKS_MAX {
            return Err(WriteError::left("a large directory is entered again, or many are"));
        }
        let mut block = vec![0; self.volume.block_bytes];
        for at in 0..directory.extents.len() {
            let extent = directory.extents[at];
            for number in 0..u64::from(extent.len) {
                self.output.read(self.volume.byte_of(extent.physical + number), &mut block)?;
                // The root of an index has `.` and `..`, and other nodes one unused entry: both look like entries
                // that take a whole block.
                let is_node = is_indexed && le16(&block, 4) == Some(u16::try_from(block.len()).unwrap_or(0));
                if is_node && le32(&block, 0) == Some(0) {
                    continue;
                }
                directory::read_block(&block, &self.volume, &mut directory)?;
            }
        }
        directory.raw = Some(raw);
        Ok(directory)
    }

    /// Writes a directory. Returns the names of extended attributes for which there is no room.
    pub(crate) fn close_directory(&mut self, mut directory: Directory) -> Result<Vec<Vec<u8>>, WriteError> {
        if !directory.is_changed {
            self.reserved -= directory.reserved;
            return Ok(Vec::new());
        }
        let number = directory.inode;
        let attributes = directory.attributes.take();
        let links = u32::try_from(directory.subdirectories + 2).unwrap_or(u32::MAX);
        // `dir_nlink`: 1 means that they were too many to be counted.
        let links = if links >= LINKS_MAX { 1 } else { links };
        let mut left = Vec::new();
        let raw = match (directory.raw.take(), attributes) {
            (Some(raw), None) => raw,
            (_, attributes) => {
                let attributes = attributes.unwrap_or_else(|| implied(self.now));
                // The content's place follows.
                left = self.put_inode(number, &attributes, links, 0, &[], &[], None)?;
                self.tables.get(number, &self.volume, &self.groups, &mut self.output)?
            }
        };
        self.reserved -= directory.reserved;
        self.put_content(&mut directory, raw, links)?;
        Ok(left)
    }

    fn put_content(&mut self, directory: &mut Directory, mut raw: Vec<u8>, links: u32) -> Result<(), WriteError> {
        let number = directory.inode;
        let seed = seed_of_raw(number, &raw, &self.volume);
        let has = usize::try_from(directory.blocks()).unwrap_or(usize::MAX);
        let (blocks, is_indexed) = directory::encode(directory, seed, has, &self.volume);
        self.fit(directory, blocks.len() as u64)?;
        let mut contents = blocks.iter();
        for extent in &directory.extents {
            for (number, content) in (0..u64::from(extent.len)).zip(&mut contents) {
                self.output.write(self.volume.byte_of(extent.physical + number), content)?;
            }
        }
        let map = self.put_tree(&directory.extents, &directory.tree, seed)?;
        let flags = le32(&raw, 0x20).unwrap_or(0) & !INDEX | EXTENTS | if is_indexed { INDEX } else { 0 };
        super::bytes::put(&mut raw, 0x20, flags.to_le_bytes());
        let attribute_block = u64::from(le32(&raw, 0x68) != Some(0) || le16(&raw, 0x76) != Some(0));
        let body = Body {
            number,
            generation: le32(&raw, 0x64).unwrap_or(0),
            links,
            size: blocks.len() as u64 * self.volume.facts.block_bytes,
            blocks: directory.blocks() + directory.tree.len() as u64 + attribute_block,
            map,
            flags,
            attribute_block: 0,
            now: self.now,
        };
        inode::set_content(&mut raw, &body, &self.volume);
        self.tables.set(number, &raw, &self.volume, &mut self.groups, &mut self.output)
    }

    /// Gives a directory exactly so many blocks, and those of its extent tree.
    fn fit(&mut self, directory: &mut Directory, wanted: u64) -> Result<(), WriteError> {
        let mut has = directory.blocks();
        while has < wanted {
            let (start, len) = self.take_directory_blocks(wanted - has)?;
            extents::add(&mut directory.extents, has, start, len)?;
            has += len;
        }
        while has > wanted
            && let Some(last) = directory.extents.last_mut()
        {
            last.len -= 1;
            let (block, is_empty) = (last.physical + u64::from(last.len), last.len == 0);
            if is_empty {
                directory.extents.pop();
            }
            self.free_blocks(block, 1)?;
            has -= 1;
        }
        let tree = extents::tree_blocks(directory.extents.len(), &self.volume);
        while directory.tree.len() < tree {
            let (block, _) = self.take_directory_blocks(1)?;
            directory.tree.push(block);
        }
        while directory.tree.len() > tree
            && let Some(block) = directory.tree.pop()
        {
            self.free_blocks(block, 1)?;
        }
        Ok(())
    }
}

/// A directory that the archive does not have.
fn implied(now: Timestamp) -> Attributes {
    Attributes::new(inode::Kind::Directory, 0o755, now)
}
