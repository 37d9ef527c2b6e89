//! The device. Writes to adjacent places become one large write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::units::ByteRange;

/// The length of a collected write.
const COLLECTED_BYTES: usize = 4 << 20;

/// A region of a device or an image.
pub(super) struct Output {
    file: File,
    range: ByteRange,
    /// Bytes to be written at `at`.
    collected: Vec<u8>,
    at: u64,
}

impl Output {
    pub(super) fn new(file: File, range: ByteRange) -> Self {
        Self { file, range, collected: Vec::new(), at: 0 }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.range.len
    }

    fn place(&self, at: u64, len: usize) -> io::Result<u64> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.range.len);
        end.and_then(|_| self.range.start.checked_add(at))
            .ok_or_else(|| io::Error::other(format!("byte {at} of the filesystem lies behind its end")))
    }

    /// Reads, including what was collected.
    pub(super) fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.flush()?;
        self.file.read_exact_at(bytes, self.place(at, bytes.len())?)
    }

    /// Writes at once. Never used for a place that was collected and not yet flushed.
    pub(super) fn write_now(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.place(at, bytes.len())?)
    }

    /// Writes, together with what is adjacent.
    pub(super) fn write(&mut self, at: u64, mut bytes: &[u8]) -> io::Result<()> {
        let is_adjacent = self.at + self.collected.len() as u64 == at;
        if !is_adjacent || self.collected.is_empty() {
            self.flush()?;
            self.at = at;
        }
        while self.collected.len() + bytes.len() >= COLLECTED_BYTES {
            let (now, later) = bytes.split_at(COLLECTED_BYTES - self.collected.len());
            if self.collected.is_empty() {
                self.write_now(self.at, now)?;
            } else {
                self.collected.extend_from_slice(now);
                self.write_now(self.at, &self.collected)?;
                self.collected.clear();
            }
            self.at += COLLECTED_BYTES as u64;
            bytes = later;
        }
        self.collected.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.collected.is_empty() {
            self.write_now(self.at, &self.collected)?;
            self.collected.clear();
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }
}
