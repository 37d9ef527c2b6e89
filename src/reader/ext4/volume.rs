//! The filesystem's bytes with the journal's newer blocks on top, and a cache of recent reads.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

use super::checks::Checks;
use super::superblock::Superblock;
use crate::outside::BlockRead;

/// Metadata is read in windows of this size: neighbouring inodes are usually needed next.
const WINDOW_BYTES: u64 = 64 * 1024;
/// The number of windows to keep.
const MAX_WINDOWS: usize = 48;
/// Data of small files that are adjacent is read in windows of up to this size.
const DATA_WINDOW_BYTES: u64 = 256 * 1024;
/// Files with a smaller gap between them count as adjacent.
const DATA_GAP_BYTES: u64 = 4096;
/// How many files that will be read are remembered.
const MAX_EXPECTED: usize = 256;

/// Magic number of the journal's own blocks, in the byte order of the disk. A data block that starts with these
/// bytes has zeros there in the journal: ext4 layout, "Journal (jbd2)".
pub(super) const JOURNAL_MAGIC: [u8; 4] = [0xC0, 0x3B, 0x39, 0x98];

/// The newer copy of a block in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged {
    /// The filesystem block that holds the copy.
    pub(super) block: u64,
    /// Whether the copy has zeros in place of [`JOURNAL_MAGIC`].
    pub(super) is_escaped: bool,
}

/// A filesystem's bytes.
pub(super) struct Volume {
    disk: Arc<dyn BlockRead>,
    pub(super) superblock: Superblock,
    /// The first block of each group's inode table; empty before the groups are read.
    pub(super) inode_tables: Vec<u64>,
    /// Which blocks and inodes were met so far.
    pub(super) checks: Checks,
    overlay: HashMap<u64, Logged>,
    /// Most recently used first.
    windows: Mutex<Vec<(u64, Arc<Vec<u8>>)>>,
    data_window: Mutex<DataWindow>,
}

#[derive(Default)]
struct DataWindow {
    start: u64,
    bytes: Vec<u8>,
    /// Ranges that will be read, in this order.
    expected: VecDeque<Range<u64>>,
    /// The range that was last hinted to the disk.
    announced: Range<u64>,
}

impl DataWindow {
    /// Where a read from `offset` should end, so that it covers only expected ranges and the gaps between them.
    fn end_of_piece(&mut self, offset: u64, len: u64) -> u64 {
        let end = offset.saturating_add(len);
        let Some(found) = self.expected.iter().position(|range| range.contains(&offset)) else { return end };
        self.expected.drain(..found);
        let limit = offset.saturating_add(DATA_WINDOW_BYTES);
        let mut piece_end = end;
        for (number, range) in self.expected.iter().enumerate() {
            let lies_behind = range.start.checked_sub(piece_end).is_some_and(|gap| gap <= DATA_GAP_BYTES);
            if range.end > limit || number > 0 && !lies_behind {
                break;
            }
            piece_end = piece_end.max(range.end);
        }
        piece_end
    }
}

/// A block in memory.
pub(super) struct Block {
    window: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // Only `Volume::block` creates this value, and it checks the range.
        &self.window[self.range.clone()]
    }
}

impl Volume {
    pub(super) fn new(disk: Arc<dyn BlockRead>, superblock: Superblock) -> Self {
        Self {
            disk,
            superblock,
            inode_tables: Vec::new(),
            checks: Checks::default(),
            overlay: HashMap::new(),
            windows: Mutex::default(),
            data_window: Mutex::default(),
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.disk.len_bytes()
    }

    /// From now on reads of these blocks come from the journal.
    pub(super) fn overlay(&mut self, newer: HashMap<u64, Logged>) {
        self.overlay = newer;
        self.windows = Mutex::default();
    }

    /// Returns a block of metadata.
    pub(super) fn block(&self, block: u64) -> io::Result<Block> {
        let offset = self.superblock.offset_of(block)?;
        let len = self.superblock.block_len();
        let start = offset - offset % WINDOW_BYTES;
        // Below the window's size, which is at least a block's.
        let at = usize::try_from(offset - start).unwrap_or(0);
        {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = windows.iter().position(|(there, _)| *there == start) {
                windows[..=found].rotate_right(1);
                return Ok(Block { window: Arc::clone(&windows[0].1), range: at..at + len });
            }
        }
        let window_len = WINDOW_BYTES.min(self.len_bytes() - start);
        let mut bytes = self.unused_window();
        bytes.resize(usize::try_from(window_len).unwrap_or(0), 0);
        if self.read(start, &mut bytes).is_err() {
            // The window may contain a bad sector; the block itself may still be readable.
            bytes.truncate(len);
            self.read(offset, &mut bytes)?;
            return Ok(Block { window: bytes.into(), range: 0..len });
        }
        let window = Arc::new(bytes);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.insert(0, (start, Arc::clone(&window)));
        Ok(Block { window, range: at..at + len })
    }

    /// The buffer of the least recently used window if it has no other user, or a new one. Its content is
    /// undefined.
    fn unused_window(&self) -> Vec<u8> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if windows.len() < MAX_WINDOWS { None } else { windows.pop() };
        oldest.and_then(|(_, window)| Arc::into_inner(window)).unwrap_or_default()
    }

    /// Prefetches the metadata around a block.
    pub(super) fn will_read_block(&self, block: u64) {
        if let Ok(offset) = self.superblock.offset_of(block) {
            self.disk.will_read(offset - offset % WINDOW_BYTES, WINDOW_BYTES);
        }
    }

    /// Reads file data from byte `offset` of the filesystem. Adjacent files are read together.
    pub(super) fn read_data(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut window = self.data_window.lock().unwrap_or_else(PoisonError::into_inner);
        let in_window = |window: &DataWindow| {
            let at = usize::try_from(offset.checked_sub(window.start)?).ok()?;
            Some(at..at.checked_add(buf.len())?).filter(|range| range.end <= window.bytes.len())
        };
        if let Some(range) = in_window(&window) {
            buf.copy_from_slice(&window.bytes[range]);
            return Ok(());
        }
        let end = window.end_of_piece(offset, buf.len() as u64).min(self.len_bytes());
        let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
        if len > buf.len() {
            let mut bytes = std::mem::take(&mut window.bytes);
            bytes.resize(len, 0);
            // A bad sector past the requested bytes does not matter.
            if self.read(offset, &mut bytes).is_ok() {
                window.start = offset;
                window.bytes = bytes;
                if let Some(range) = in_window(&window) {
                    buf.copy_from_slice(&window.bytes[range]);
                    return Ok(());
                }
            }
        }
        drop(window);
        self.read(offset, buf)
    }

    /// Prefetches a file's data in pieces that suit a disk.
    pub(super) fn will_read_data(&self, offset: u64, len: u64) {
        let mut window = self.data_window.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(len);
        if window.expected.len() == MAX_EXPECTED {
            window.expected.pop_front();
        }
        window.expected.push_back(offset..end);
        if window.announced.contains(&offset) && end <= window.announced.end {
            return;
        }
        let len = len.max(DATA_WINDOW_BYTES);
        window.announced = offset..offset.saturating_add(len);
        drop(window);
        self.disk.will_read(offset, len);
    }

    /// Reads from byte `offset`, with the journal's newer blocks on top.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buf)?;
        if self.overlay.is_empty() || buf.is_empty() {
            return Ok(());
        }
        let block_bytes = self.superblock.block_bytes;
        let end = offset + buf.len() as u64;
        for block in offset / block_bytes..end.div_ceil(block_bytes) {
            let Some(logged) = self.overlay.get(&block) else { continue };
            let block_start = block * block_bytes;
            let (from, to) = (offset.max(block_start), end.min(block_start + block_bytes));
            // Both offsets lie within `buf`.
            let place = |at: u64| usize::try_from(at - offset).unwrap_or(0);
            let piece = &mut buf[place(from)..place(to)];
            let in_block = from - block_start;
            self.disk.read_at(logged.block * block_bytes + in_block, piece)?;
            if logged.is_escaped {
                let first = usize::try_from(in_block).map_or(JOURNAL_MAGIC.len(), |at| at.min(JOURNAL_MAGIC.len()));
                for (byte, right) in piece.iter_mut().zip(&JOURNAL_MAGIC[first..]) {
                    *byte = *right;
                }
            }
        }
        Ok(())
    }
}
