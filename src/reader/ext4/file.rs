//! A regular file's data.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::audit::audit;
use super::damaged;
use super::inode::Inode;
use super::map::run_at;
use super::volume::Volume;
use crate::entry::FileContent;
use crate::units::ByteRange;

/// So much of a file is fetched beforehand.
const AHEAD_BYTES: u64 = 1 << 20;
/// A file that is smaller, and has all its blocks, is not asked for holes, as in the walk over the kernel's files: the
/// archive is the same, whoever reads it.
const SMALL_FILE_BYTES: u64 = 64 * 1024;

/// The data of an inode.
pub(super) struct Ext4File {
    volume: Arc<Volume>,
    inode: Inode,
    /// Of a file whose map is not in the inode alone, and was not looked at: its path.
    to_audit: Mutex<Option<Box<[u8]>>>,
}

impl Ext4File {
    /// With a path its map is looked at before it is used for the first time, and what is wrong with it told for that path.
    pub(super) fn new(volume: Arc<Volume>, inode: Inode, to_audit: Option<&[u8]>) -> Self {
        Self { volume, inode, to_audit: Mutex::new(to_audit.map(Box::from)) }
    }

    fn audit(&self) -> io::Result<()> {
        let path = self.to_audit.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(path) = path {
            self.volume.checks.tell(&path, audit(&self.volume, &self.inode));
        }
        if self.volume.checks.has_no_end() { Err(damaged("its map leads round and round")) } else { Ok(()) }
    }

    fn is_small_and_whole(&self) -> bool {
        self.inode.size < SMALL_FILE_BYTES && self.inode.sectors.saturating_mul(512) >= self.inode.size
    }
}

impl FileContent for Ext4File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.audit()?;
        read_at(&self.volume, &self.inode, offset, buf)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        self.audit()?;
        let size = self.inode.size;
        if from < size && self.is_small_and_whole() {
            return Ok(Some(ByteRange::new(from, size - from)));
        }
        let block_bytes = self.volume.superblock.block_bytes;
        let mut at = from;
        while at < size {
            let run = run_at(&self.volume, &self.inode, at / block_bytes)?;
            let end = run.first.saturating_add(run.blocks).saturating_mul(block_bytes).min(size);
            if run.start.is_some() {
                return Ok(Some(ByteRange::new(at, end - at)));
            }
            at = end;
        }
        Ok(None)
    }

    fn prefetch(&self) -> io::Result<()> {
        let block_bytes = self.volume.superblock.block_bytes;
        // What is wrong with it is told when it is read.
        if self.inode.size > 0
            && let Ok(run) = run_at(&self.volume, &self.inode, 0)
            && let Some(start) = run.start
        {
            let len = self.inode.size.min(run.blocks.saturating_mul(block_bytes)).min(AHEAD_BYTES);
            self.volume.will_read_data(start * block_bytes, len);
        }
        Ok(())
    }
}

/// Reads from byte `offset` of a file on; fewer bytes than asked for where it ends, or before what cannot be read.
pub(super) fn read_at(volume: &Volume, inode: &Inode, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let block_bytes = volume.superblock.block_bytes;
    let len = usize::try_from(inode.size.saturating_sub(offset)).map_or(buf.len(), |left| left.min(buf.len()));
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        match read_piece(volume, inode, block_bytes, at, &mut buf[done..len]) {
            Ok(read) => done += read,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads up to the end of the run in which byte `at` lies, at least a byte.
fn read_piece(volume: &Volume, inode: &Inode, block_bytes: u64, at: u64, buf: &mut [u8]) -> io::Result<usize> {
    let run = run_at(volume, inode, at / block_bytes)?;
    let in_block = at % block_bytes;
    let in_run = run.blocks.saturating_mul(block_bytes) - in_block;
    let len = usize::try_from(in_run).map_or(buf.len(), |in_run| in_run.min(buf.len()));
    let piece = &mut buf[..len];
    match run.start {
        Some(start) => {
            let offset = start * block_bytes + in_block;
            volume.read_data(offset, piece)?;
            let read = len as u64;
            if in_run > read && inode.size.saturating_sub(at) > read {
                let rest = (in_run - read).min(inode.size - at - read);
                volume.will_read_data(offset + read, rest.min(AHEAD_BYTES));
            }
        }
        None => piece.fill(0),
    }
    Ok(len)
}
