//! Fills an ext4 filesystem that mkfs has just made and that is not mounted, so that restoring a disk does not wait
//! for the kernel to create one file after the other.
//!
//! Inodes and blocks are allocated in ascending order. A file's data is written at once where it stays, in large
//! writes together with that of its neighbours; a directory is written when it is closed, with a hash index if it
//! is longer than a block. Until [`Ext4Writer::finish`] the superblock has no signature: an unfinished filesystem
//! cannot be mounted. What this writer does not know is left to the kernel ([`WriteError::LeftToKernel`]).
//!
//! Memory: the group descriptors (at most 16 MiB), one block bitmap, one inode bitmap, 16 MiB of inode tables, 4 MiB
//! of attribute blocks, 1 MiB of other metadata, 20 MiB of data, one file's extents, and the names of the directories
//! that are open.
//!
//! All structures are those of the kernel's `Documentation/filesystems/ext4/`, called "ext4 layout" here.

mod acl;
mod attribute_blocks;
mod behind;
mod bitmap;
mod bytes;
mod create;
mod directories;
mod directory;
mod entries;
mod error;
mod extents;
mod file;
mod groups;
mod hash_tree;
mod inode;
mod journal;
mod new_file;
mod output;
mod tables;
#[cfg(test)]
mod tests;
mod volume;
mod xattrs;

use std::fs::File;

use rustix::io::Errno;

use self::attribute_blocks::AttributeBlocks;
use self::bitmap::{Bitmaps, Of, Run};
use self::groups::{BLOCK_UNINIT, Groups};
use self::output::Output;
use self::tables::{Tables, number_of};
use self::volume::Volume;
use crate::entry::Timestamp;
use crate::units::ByteRange;

pub(crate) use self::directory::Directory;
pub(crate) use self::entries::Named;
pub(crate) use self::error::WriteError;
pub(crate) use self::inode::{Attributes, Kind};
pub(crate) use self::new_file::NewFile;

/// The root directory's inode.
const ROOT: u32 = 2;
/// The number of blocks that are allocated at once for directories.
const DIRECTORY_BLOCKS: u64 = 64;

/// A filesystem that is being filled.
pub(crate) struct Ext4Writer {
    volume: Volume,
    output: Output,
    groups: Groups,
    blocks: Bitmaps,
    inodes: Bitmaps,
    tables: Tables,
    attribute_blocks: AttributeBlocks,
    /// Blocks that open directories will need.
    reserved: u64,
    /// Free blocks, allocated for the next directories: the first, and their number. So the data of files is seldom
    /// interrupted by a directory, and directories lie together.
    for_directories: (u64, u64),
    has_large_file: bool,
    /// Blocks of directories that were opened again.
    opened_blocks: u64,
    now: Timestamp,
    /// Differs for each inode and each filesystem, as NFS needs it.
    generation: u32,
}

impl Ext4Writer {
    /// Opens the filesystem in `range` of `file`, and takes its signature away. Nothing is changed if it is left to
    /// the kernel.
    pub(crate) fn open(file: File, range: ByteRange) -> Result<Self, WriteError> {
        let mut output = Output::new(file, range);
        let volume = Volume::read(&mut output)?;
        let groups = Groups::read(&volume, &mut output)?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let nsec = u32::try_from(now.tv_nsec).unwrap_or(0);
        let mut tables = Tables::new(&volume);
        // This also tells whether there is a journal that is written here.
        journal::set_features(&volume, &groups, &mut tables, &mut output)?;
        let mut writer = Self {
            blocks: Bitmaps::new(Of::Blocks, &volume),
            inodes: Bitmaps::new(Of::Inodes, &volume),
            tables,
            attribute_blocks: AttributeBlocks::default(),
            reserved: 0,
            for_directories: (0, 0),
            has_large_file: false,
            opened_blocks: 0,
            now: Timestamp { sec: now.tv_sec, nsec },
            generation: nsec,
            volume,
            output,
            groups,
        };
        writer.volume.withdraw(&mut writer.output)?;
        Ok(writer)
    }

    /// Writes everything that is in memory, syncs it, and gives the superblock its signature. All directories must
    /// have been closed.
    pub(crate) fn finish(mut self) -> Result<(), WriteError> {
        self.give_back_for_directories()?;
        self.attribute_blocks.finish(&self.volume, &mut self.output)?;
        self.tables.finish(&self.volume, &mut self.groups, &mut self.output)?;
        self.blocks.flush(&self.volume, &mut self.groups, &mut self.output)?;
        self.inodes.flush(&self.volume, &mut self.groups, &mut self.output)?;
        self.groups.write(&self.volume, &mut self.output)?;
        // The signature must not reach the disk before what it promises.
        self.output.sync()?;
        let (free_blocks, free_inodes) = (self.groups.free_blocks, self.groups.free_inodes);
        self.volume.publish(&self.output, free_blocks, free_inodes, self.now.sec, self.has_large_file)?;
        Ok(self.output.sync()?)
    }

    /// An error if fewer blocks are free than `count`, besides those that directories will need.
    fn has_room(&mut self, count: u64) -> Result<(), WriteError> {
        let is_free = |groups: &Groups, reserved| count <= groups.free_blocks.saturating_sub(reserved);
        if is_free(&self.groups, self.reserved) {
            return Ok(());
        }
        self.give_back_for_directories()?;
        if is_free(&self.groups, self.reserved) { Ok(()) } else { Err(WriteError::Refused(Errno::NOSPC)) }
    }

    /// Allocates at most `most` adjacent blocks: the first, and their number.
    fn take_blocks(&mut self, most: u64) -> Result<(u64, u64), WriteError> {
        let run = self.blocks.take(most, &self.volume, &mut self.groups, &mut self.output)?;
        Ok((self.volume.facts.first_data_block + run.start, run.len))
    }

    /// The same for a directory.
    fn take_directory_blocks(&mut self, most: u64) -> Result<(u64, u64), WriteError> {
        if self.for_directories.1 == 0 {
            let wanted = most.max(DIRECTORY_BLOCKS);
            // Where room is short, each block may be needed by something else.
            if self.groups.free_blocks < self.reserved.saturating_add(wanted.saturating_mul(64)) {
                return self.take_blocks(most);
            }
            self.for_directories = self.take_blocks(wanted)?;
        }
        let (first, count) = self.for_directories;
        let taken = count.min(most);
        self.for_directories = (first + taken, count - taken);
        Ok((first, taken))
    }

    fn give_back_for_directories(&mut self) -> Result<(), WriteError> {
        match std::mem::take(&mut self.for_directories) {
            (_, 0) => Ok(()),
            (first, count) => self.free_blocks(first, count),
        }
    }

    fn free_blocks(&mut self, first: u64, count: u64) -> Result<(), WriteError> {
        let start = first.saturating_sub(self.volume.facts.first_data_block);
        self.blocks.free(Run { start, len: count }, &self.volume, &mut self.groups, &mut self.output)
    }

    fn take_inode(&mut self) -> Result<u32, WriteError> {
        if self.groups.free_inodes == 0 {
            return Err(WriteError::Refused(Errno::NOSPC));
        }
        let run = self.inodes.take(1, &self.volume, &mut self.groups, &mut self.output)?;
        let number = number_of(run);
        let group = self.tables.group_of(number);
        if self.groups.has_flag(group, BLOCK_UNINIT) {
            // As the kernel does: a group with inodes has both bitmaps.
            self.blocks.initialise(group, &self.volume, &mut self.groups, &mut self.output)?;
        }
        Ok(number)
    }

    fn free_inode(&mut self, number: u32) -> Result<(), WriteError> {
        let run = Run { start: u64::from(number).saturating_sub(1), len: 1 };
        self.inodes.free(run, &self.volume, &mut self.groups, &mut self.output)
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.generation
    }
}
