//! Raw images: the bytes of the disk.

use std::io;

use crate::image::ImageWriter;
use crate::image::sink::Sink;
use crate::outside::zeros::is_zero;

/// Zeros are dropped in blocks of this size.
const BLOCK_BYTES: usize = 4096;

/// Writes a raw image. Blocks of zeros are holes in a file.
#[derive(Debug)]
pub struct RawWriter {
    sink: Sink,
    disk_bytes: u64,
}

impl RawWriter {
    /// An image of a disk of this length.
    pub fn new(sink: Sink, disk_bytes: u64) -> Self {
        Self { sink, disk_bytes }
    }
}

impl ImageWriter for RawWriter {
    fn granule_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn write_chunk(&mut self, start: u64, bytes: &[u8]) -> io::Result<()> {
        let left = usize::try_from(self.disk_bytes.saturating_sub(start)).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(left)];
        let mut at = 0;
        while at < bytes.len() {
            let next = |from: usize, zero: bool| {
                let blocks = bytes[from..].chunks(BLOCK_BYTES);
                from + blocks.take_while(|block| is_zero(block) == zero).map(<[u8]>::len).sum::<usize>()
            };
            let data = next(at, true);
            let end = next(data, false);
            if end > data {
                self.sink.skip_to(start + data as u64)?;
                self.sink.write(&bytes[data..end])?;
            }
            at = end;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<u64> {
        self.sink.skip_to(self.disk_bytes)?;
        self.sink.finish()?;
        Ok(self.disk_bytes)
    }
}
