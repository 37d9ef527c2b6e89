//! Creates inodes and names.

use rustix::io::Errno;

use super::Ext4Writer;
use super::directory::{self, Directory};
use super::entries::{NAME_MAX, Named, entry_bytes};
use super::error::WriteError;
use super::extents::{self, Extent, MAP_BYTES};
use super::inode::{self, Attributes, Body, EXTENTS, Kind, seed_of};
use super::new_file::NewFile;
use crate::field::le16;

/// `EXT4_LINK_MAX`.
pub(super) const LINKS_MAX: u32 = 65_000;
/// A symbolic link's target is in the inode if it is shorter than this.
const FAST_TARGET_BYTES: usize = MAP_BYTES;

impl Ext4Writer {
    /// Completes a file: it gets its attributes, but no name yet. Returns its inode and the names of extended
    /// attributes for which there is no room.
    pub(crate) fn complete(
        &mut self,
        file: &NewFile,
        attributes: &Attributes,
    ) -> Result<(Named, Vec<Vec<u8>>), WriteError> {
        self.has_large_file |= file.size > i32::MAX.unsigned_abs().into();
        let number = file.inode;
        let left = self.put_inode(number, attributes, 1, file.size, &file.extents, &file.tree, None)?;
        Ok((Named { inode: number, file_type: attributes.kind.in_directory() }, left))
    }

    /// Creates a symbolic link to `target`.
    pub(crate) fn make_symlink(
        &mut self,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(Named, Vec<Vec<u8>>), WriteError> {
        if target.len() < FAST_TARGET_BYTES {
            let mut map = [0; MAP_BYTES];
            map[..target.len()].copy_from_slice(target);
            return self.make_with_map(map, target.len(), attributes);
        }
        // ext4_symlink(): target and final NUL fit in a block.
        if target.len() >= self.volume.block_bytes {
            return Err(WriteError::Refused(Errno::NAMETOOLONG));
        }
        let (size, mut given) = (target.len() as u64, false);
        let mut whole = || Ok((!std::mem::replace(&mut given, true)).then(|| crate::units::ByteRange::new(0, size)));
        let mut file = self.begin_file(size, &mut whole)?;
        self.write(&mut file, 0, target)?;
        self.end_data(&mut file)?;
        self.complete(&file, attributes)
    }

    /// Creates a device or a FIFO.
    pub(crate) fn make_special(&mut self, attributes: &Attributes) -> Result<(Named, Vec<Vec<u8>>), WriteError> {
        let map = match attributes.kind {
            Kind::Device { number, .. } => inode::device_map(number),
            _ => [0; MAP_BYTES],
        };
        self.make_with_map(map, 0, attributes)
    }

    fn make_with_map(
        &mut self,
        map: [u8; MAP_BYTES],
        size: usize,
        attributes: &Attributes,
    ) -> Result<(Named, Vec<Vec<u8>>), WriteError> {
        let number = self.take_inode()?;
        let left = self.put_inode(number, attributes, 1, size as u64, &[], &[], Some(map))?;
        Ok((Named { inode: number, file_type: attributes.kind.in_directory() }, left))
    }

    /// Writes an inode with its extent tree and its attributes.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the inode")]
    pub(super) fn put_inode(
        &mut self,
        number: u32,
        attributes: &Attributes,
        links: u32,
        size: u64,
        extents: &[Extent],
        tree: &[u64],
        own_map: Option<[u8; MAP_BYTES]>,
    ) -> Result<Vec<Vec<u8>>, WriteError> {
        let generation = self.next_generation();
        let (mut placed, mut left) = attributes.xattrs.place(true, &self.volume);
        let attribute_block = match placed.block.take().map(|content| self.put_attribute_block(content)) {
            None => 0,
            Some(Err(WriteError::Refused(_))) => {
                (placed, left) = attributes.xattrs.place(false, &self.volume);
                0
            }
            Some(put) => put?,
        };
        let is_mapped = own_map.is_none();
        let map = match own_map {
            Some(map) => map,
            None => self.put_tree(extents, tree, seed_of(number, generation, &self.volume))?,
        };
        let data: u64 = extents.iter().map(|extent| u64::from(extent.len)).sum();
        let body = Body {
            number,
            generation,
            links,
            size,
            blocks: data + tree.len() as u64 + u64::from(attribute_block != 0),
            map,
            flags: if is_mapped { EXTENTS } else { 0 },
            attribute_block,
            now: self.now,
        };
        let raw = inode::encode(attributes, &body, &placed.in_inode, &self.volume);
        self.tables.set(number, &raw, &self.volume, &mut self.groups, &mut self.output)?;
        Ok(left)
    }

    /// Writes the blocks of an extent tree; returns the map for the inode.
    pub(super) fn put_tree(
        &mut self,
        extents: &[Extent],
        tree: &[u64],
        seed: Option<u32>,
    ) -> Result<[u8; MAP_BYTES], WriteError> {
        let (map, blocks) = extents::encode(extents, tree, seed, &self.volume);
        for (place, block) in blocks {
            self.output.write(self.volume.byte_of(place), &block)?;
        }
        Ok(map)
    }

    /// Writes a block of attributes, or shares one, for which no room is needed.
    fn put_attribute_block(&mut self, content: Vec<u8>) -> Result<u64, WriteError> {
        if let Some(place) = self.attribute_blocks.share(&content) {
            return Ok(place);
        }
        self.has_room(1)?;
        let (place, _) = self.take_blocks(1)?;
        self.attribute_blocks.add(content, place, &self.volume, &mut self.output)?;
        Ok(place)
    }

    /// Whether a name can be added to a directory; reserves the space for it.
    pub(crate) fn reserve_name(&mut self, directory: &mut Directory, name: &[u8]) -> Result<(), WriteError> {
        let is_wrong = name.is_empty() || matches!(name, b"." | b"..") || name.contains(&b'/') || name.contains(&0);
        if is_wrong {
            return Err(WriteError::Refused(Errno::INVAL));
        }
        if name.len() > NAME_MAX {
            return Err(WriteError::Refused(Errno::NAMETOOLONG));
        }
        if directory.names.contains_key(name) {
            return Err(WriteError::Refused(Errno::EXIST));
        }
        self.reserve(directory, entry_bytes(name))
    }

    /// Reserves blocks for a directory with one more entry, of this length; 0 for none.
    pub(super) fn reserve(&mut self, directory: &mut Directory, next: usize) -> Result<(), WriteError> {
        let (entries, longest) = (directory.entry_bytes + next, directory.longest.max(next));
        let needed = directory::most_blocks(entries, longest, &self.volume).saturating_sub(directory.blocks());
        let more = needed.saturating_sub(directory.reserved);
        self.has_room(more)?;
        self.reserved += more;
        directory.reserved += more;
        Ok(())
    }

    /// Adds one to the number of an inode's names.
    pub(crate) fn link(&mut self, number: u32) -> Result<(), WriteError> {
        let mut raw = self.tables.get(number, &self.volume, &self.groups, &mut self.output)?;
        let links = u32::from(le16(&raw, 0x1A).unwrap_or(0));
        if links >= LINKS_MAX {
            return Err(WriteError::Refused(Errno::MLINK));
        }
        inode::set_links(&mut raw, number, links + 1, &self.volume);
        self.tables.set(number, &raw, &self.volume, &mut self.groups, &mut self.output)
    }
}
