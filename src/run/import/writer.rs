//! Writes a disk over what is on a target.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::held::HeldBack;
use crate::image::ImageWriter;
use crate::outside::Cancel;
use crate::outside::zeros::is_zero;
use crate::run::rebuild::put_bytes::{HELD_BACK_BYTES, zero};
use crate::units::ByteRange;

/// Chunks begin and end at multiples of it: a page.
const GRANULE_BYTES: usize = 4096;
/// What is looked at in one piece to see whether it is zeros already.
const PIECE_BYTES: u64 = 1 << 20;

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

    /// From now on there is no disk on the target, also after a power failure.
    pub(super) fn begin(&self) -> io::Result<()> {
        if self.is_new {
            return Ok(());
        }
        let len = self.target_bytes.min(HELD_BACK_BYTES);
        for start in [0, self.target_bytes - len] {
            zero(self.file, ByteRange::new(start, len), self.cancel).map_err(at_byte(start))?;
        }
        self.file.sync_all()
    }

    /// What is not on the target when all else is.
    pub(super) fn into_held(self) -> HeldBack {
        self.held
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
            // A sector that cannot be read may be mended by writing to it. All is read back at the end.
            let is_zeros = self.file.read_exact_at(&mut buffer, self.at).is_ok() && is_zero(&buffer);
            if !is_zeros {
                zero(self.file, ByteRange::new(self.at, len), self.cancel).map_err(at_byte(self.at))?;
            }
            self.at += len;
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

/// Adds where it happened.
fn at_byte(at: u64) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("at byte {at}: {error}"))
}
