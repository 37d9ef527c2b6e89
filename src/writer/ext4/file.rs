//! A file's data, written in ascending order.

use rustix::io::Errno;

use super::Ext4Writer;
use super::error::WriteError;
use super::extents::{self, Extent};
use super::new_file::NewFile;
use crate::units::ByteRange;

impl Ext4Writer {
    /// Allocates an inode and blocks for a file of `size` bytes with data in these `runs`, which ascend.
    pub(crate) fn begin_file(
        &mut self,
        size: u64,
        runs: &mut dyn FnMut() -> std::io::Result<Option<ByteRange>>,
    ) -> Result<NewFile, WriteError> {
        if self.volume.is_too_long(size) {
            return Err(WriteError::Refused(Errno::FBIG));
        }
        let inode = self.take_inode()?;
        let mut file = NewFile { inode, size, extents: Vec::new(), tree: Vec::new(), current: 0, filled: 0, left: 0 };
        match self.allocate(&mut file, runs) {
            Ok(()) => {
                file.filled = file.extents.first().map_or(0, |first| self.start_of(first));
                Ok(file)
            }
            Err(error @ WriteError::Refused(_)) => {
                self.abandon(file)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn allocate(
        &mut self,
        file: &mut NewFile,
        runs: &mut dyn FnMut() -> std::io::Result<Option<ByteRange>>,
    ) -> Result<(), WriteError> {
        let block_bytes = self.volume.facts.block_bytes;
        let mut end = 0;
        while let Some(run) = runs()? {
            file.left = file.left.saturating_add(run.len);
            let first = (run.start / block_bytes).max(end);
            let behind = run.start.saturating_add(run.len).div_ceil(block_bytes);
            if behind <= first || run.len == 0 {
                continue;
            }
            let mut logical = first;
            let mut left = behind - first;
            self.has_room(left)?;
            while left > 0 {
                let (start, len) = self.take_blocks(left)?;
                extents::add(&mut file.extents, logical, start, len)?;
                logical += len;
                left -= len;
            }
            end = behind;
        }
        let blocks: u64 = file.extents.iter().map(|extent| u64::from(extent.len)).sum();
        let sectors = blocks.saturating_mul(block_bytes / 512);
        if sectors > u64::from(u32::MAX) && !self.volume.has_huge_files {
            return Err(WriteError::Refused(Errno::FBIG));
        }
        let tree = extents::tree_blocks(file.extents.len(), &self.volume);
        self.has_room(tree as u64)?;
        for _ in 0..tree {
            file.tree.push(self.take_blocks(1)?.0);
        }
        Ok(())
    }

    fn start_of(&self, extent: &Extent) -> u64 {
        u64::from(extent.logical) * self.volume.facts.block_bytes
    }

    fn end_of(&self, extent: &Extent) -> u64 {
        self.start_of(extent) + u64::from(extent.len) * self.volume.facts.block_bytes
    }

    /// Writes data at `at`, behind all data so far.
    pub(crate) fn write(&mut self, file: &mut NewFile, at: u64, data: &[u8]) -> Result<(), WriteError> {
        self.fill(file, at)?;
        self.put(file, data)?;
        file.left = file.left.saturating_sub(data.len() as u64);
        Ok(())
    }

    /// Fills the blocks before `at` with zeros.
    fn fill(&mut self, file: &mut NewFile, at: u64) -> Result<(), WriteError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while file.filled < at {
            let Some(extent) = file.extents.get(file.current) else { return Ok(()) };
            let end = self.end_of(extent).min(at);
            if file.filled >= end {
                file.current += 1;
                file.filled = file.extents.get(file.current).map_or(at, |next| self.start_of(next)).max(file.filled);
                continue;
            }
            let len = usize::try_from(end - file.filled).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.put(file, &ZEROS[..len])?;
        }
        Ok(())
    }

    fn put(&mut self, file: &mut NewFile, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            let outside = || std::io::Error::other("data of a file lies outside its blocks");
            let extent = *file.extents.get(file.current).ok_or_else(outside)?;
            let (start, end) = (self.start_of(&extent), self.end_of(&extent));
            if file.filled >= end {
                file.current += 1;
                continue;
            }
            let inside = file.filled.checked_sub(start).ok_or_else(outside)?;
            let len = usize::try_from(end - file.filled).map_or(data.len(), |left| left.min(data.len()));
            let (now, later) = data.split_at(len);
            self.output.write_data(self.volume.byte_of(extent.physical) + inside, now)?;
            file.filled += len as u64;
            data = later;
        }
        Ok(())
    }

    /// Fills the rest with zeros. False if data is missing.
    pub(crate) fn end_data(&mut self, file: &mut NewFile) -> Result<bool, WriteError> {
        let end = file.extents.last().map_or(0, |last| self.end_of(last));
        self.fill(file, end)?;
        Ok(file.left == 0)
    }

    /// Gives back what the file has.
    pub(crate) fn abandon(&mut self, file: NewFile) -> Result<(), WriteError> {
        for extent in file.extents.iter().rev() {
            self.free_blocks(extent.physical, extent.len.into())?;
        }
        for block in file.tree {
            self.free_blocks(block, 1)?;
        }
        self.free_inode(file.inode)
    }
}
