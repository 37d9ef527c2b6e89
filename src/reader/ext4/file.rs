//! A regular file's data.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::audit::audit;
use super::data::{AHEAD_BYTES, read_at};
use super::error::damaged;
use super::inode::Inode;
use super::map::run_at;
use super::volume::Volume;
use crate::entry::FileContent;
use crate::units::ByteRange;

/// A smaller file with all its blocks allocated is not checked for holes. The kernel's reader has the same limit,
/// so that both produce the same archive.
const SMALL_FILE_BYTES: u64 = 64 * 1024;

/// The data of an inode.
pub(super) struct Ext4File {
    volume: Arc<Volume>,
    inode: Inode,
    /// The path of a file whose map is not wholly in the inode and was not audited yet.
    to_audit: Option<ToAudit>,
}

struct ToAudit {
    path: Box<[u8]>,
    is_begun: AtomicBool,
}

impl Ext4File {
    /// With a path, the map is audited before its first use, and problems are reported for that path.
    pub(super) fn new(volume: Arc<Volume>, inode: Inode, to_audit: Option<&[u8]>) -> Self {
        Self {
            volume,
            inode,
            to_audit: to_audit.map(|path| ToAudit { path: path.into(), is_begun: AtomicBool::new(false) }),
        }
    }

    fn audit(&self) -> io::Result<()> {
        if let Some(ToAudit { path, is_begun }) = &self.to_audit
            && !is_begun.swap(true, Ordering::Relaxed)
        {
            self.volume.checks.tell(path, audit(&self.volume, &self.inode));
        }
        if self.volume.checks.has_no_end() { Err(damaged("its map forms a loop")) } else { Ok(()) }
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
        // Problems are reported when the file is read.
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
