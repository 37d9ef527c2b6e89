//! Writes a disk over what is on a target.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::held::HeldBack;
use crate::image::ImageWriter;
use crate::outside::Cancel;
use crate::outside::zeros::is_zero;
use crate::run::rebuild::put_bytes::{at_byte, zero};
use crate::units::ByteRange;

/// Chunks begin and end at multiples of it: a page.
const GRANULE_BYTES: usize = 4096;

/// Writes data, and makes all between them zeros. Both ends of the disk are held back.
pub(super) struct TargetWriter<'a> {
    file: &'a File,
    /// A new file, which has no other bytes than zeros.
    is_new: bool,
    disk_bytes: u64,
    target_bytes: u64,
    cancel: &'a Cancel,
    held: HeldBack,
    at: u64,
}

impl<'a> TargetWriter<'a> {
    pub(super) fn new(file: &'a File, is_new: bool, disk_bytes: u64, target_bytes: u64, cancel: &'a Cancel) -> Self {
        let held = HeldBack::of_disk(disk_bytes);
        Self { file, is_new, disk_bytes, target_bytes, cancel, held, at: 0 }
    }

    /// What is not on the target when all else is.
    pub(super) fn into_held(self) -> HeldBack {
        self.held
    }

    /// Makes all up to `end` zeros.
    fn zeros_until(&mut self, end: u64) -> io::Result<()> {
        if !self.is_new && self.at < end {
            zero(self.file, ByteRange::new(self.at, end - self.at), self.cancel)?;
        }
        self.at = self.at.max(end);
        Ok(())
    }
}

impl ImageWriter for TargetWriter<'_> {
    fn granule_bytes(&self) -> usize {
        GRANULE_BYTES
    }

    fn write_chunk(&mut self, start: u64, bytes: &[u8]) -> io::Result<()> {
        let left = usize::try_from(self.disk_bytes.saturating_sub(start)).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(left)];
        self.zeros_until(start)?;
        let (mut at, middle) = self.held.take(start, bytes);
        for block in middle.chunks(64 << 10) {
            if !(self.is_new && is_zero(block)) {
                self.file.write_all_at(block, at).map_err(at_byte(at))?;
            }
            at += block.len() as u64;
        }
        self.at = start + bytes.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<u64> {
        self.zeros_until(self.target_bytes)?;
        Ok(self.target_bytes)
    }
}
