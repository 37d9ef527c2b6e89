//! A file that an interrupted run began to write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::outside::zeros::is_zero;
use crate::outside::{BlockRead, FileBlocks};

pub(super) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What is in the file. Nothing of it is trusted: it counts only where it was compared.
#[derive(Debug)]
pub(super) struct Begun {
    was: FileBlocks,
    buffer: Vec<u8>,
    kept_bytes: Arc<AtomicU64>,
}

impl Begun {
    /// Also gives the number of bytes that were found in place, which grows.
    pub(super) fn new(file: File) -> io::Result<(Self, Arc<AtomicU64>)> {
        let kept_bytes = Arc::<AtomicU64>::default();
        let was = FileBlocks::of_file(file)?;
        Ok((Self { was, buffer: Vec::new(), kept_bytes: Arc::clone(&kept_bytes) }, kept_bytes))
    }

    /// Whether the file has all of `bytes` at `at`. What cannot be read has to be written again.
    pub(super) fn holds(&mut self, at: u64, bytes: &[u8]) -> bool {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.was.len_bytes()) {
            return false;
        }
        self.buffer.resize(bytes.len(), 0);
        let is_there = self.was.read_at(at, &mut self.buffer).is_ok() && self.buffer == bytes;
        if is_there {
            self.kept_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        is_there
    }

    /// Makes all from `start` to `end` zeros.
    pub(super) fn clear(&mut self, file: &File, start: u64, end: u64) -> io::Result<()> {
        let end = end.min(self.was.len_bytes());
        let mut at = start;
        while at < end {
            let Some(data) = self.was.next_data(at)?.filter(|data| *data < end) else { break };
            let until = self.was.next_hole(data)?.clamp(data + 1, end);
            at = data;
            while at < until {
                let len = usize::try_from(until - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
                self.buffer.resize(len, 0);
                if self.was.read_at(at, &mut self.buffer).is_err() || !is_zero(&self.buffer) {
                    file.write_all_at(&ZEROS[..len], at)?;
                }
                at += len as u64;
            }
        }
        Ok(())
    }
}
