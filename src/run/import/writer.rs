//! Writes a disk over what is on a target.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::image::ImageWriter;
use crate::outside::Cancel;
use crate::outside::zeros::is_zero;
use crate::run::rebuild::put_bytes::zero;
use crate::units::ByteRange;

/// What begins a disk is written last.
const HELD_BACK_BYTES: usize = 4096;
/// What is looked at in one piece to see whether it is zeros already.
const PIECE_BYTES: u64 = 1 << 20;

/// Writes data, and makes all between them zeros.
pub(super) struct TargetWriter<'a> {
    file: &'a File,
    /// A new file, which has no other bytes than zeros.
    is_new: bool,
    disk_bytes: u64,
    target_bytes: u64,
    cancel: &'a Cancel,
    first: Vec<u8>,
    at: u64,
}

impl<'a> TargetWriter<'a> {
    pub(super) fn new(file: &'a File, is_new: bool, disk_bytes: u64, target_bytes: u64, cancel: &'a Cancel) -> Self {
        Self { file, is_new, disk_bytes, target_bytes, cancel, first: Vec::new(), at: 0 }
    }

    /// From now on there is no disk on the target.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let len = self.target_bytes.min(HELD_BACK_BYTES as u64);
        zero(self.file, ByteRange::new(0, len), self.cancel)
    }

    /// Writes the first bytes, when all others are on the target.
    pub(super) fn end(&self) -> io::Result<()> {
        self.file.write_all_at(&self.first, 0)
    }

    /// Makes all up to `end` zeros. What is already is not written to, so that a thin volume stays small.
    fn zeros_until(&mut self, end: u64) -> io::Result<()> {
        let mut buffer = Vec::new();
        while self.at < end && !self.is_new {
            if self.cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = (end - self.at).min(PIECE_BYTES);
            // At most PIECE_BYTES.
            buffer.resize(usize::try_from(len).unwrap_or(0), 0);
            self.file.read_exact_at(&mut buffer, self.at)?;
            if !is_zero(&buffer) {
                zero(self.file, ByteRange::new(self.at, len), self.cancel)?;
            }
            self.at += len;
        }
        self.at = self.at.max(end);
        Ok(())
    }
}

impl ImageWriter for TargetWriter<'_> {
    fn granule_bytes(&self) -> usize {
        HELD_BACK_BYTES
    }

    fn write_chunk(&mut self, start: u64, bytes: &[u8]) -> io::Result<()> {
        let left = usize::try_from(self.disk_bytes.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut bytes = &bytes[..bytes.len().min(left)];
        let mut start = start;
        self.zeros_until(start)?;
        if start == 0 {
            let (first, rest) = bytes.split_at(bytes.len().min(HELD_BACK_BYTES));
            self.first = first.to_vec();
            (start, bytes) = (first.len() as u64, rest);
        }
        let mut at = start;
        for block in bytes.chunks(64 << 10) {
            if !(self.is_new && is_zero(block)) {
                self.file.write_all_at(block, at)?;
            }
            at += block.len() as u64;
        }
        self.at = at;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<u64> {
        self.zeros_until(self.target_bytes)?;
        Ok(self.target_bytes)
    }
}
