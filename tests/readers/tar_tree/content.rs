//! Bytes of the tar file: as a stream for the tar crate, and those of one file in it.

use std::io::{self, Read};
use std::sync::Arc;

use volbak::entry::FileContent;
use volbak::outside::BlockRead;
use volbak::units::ByteRange;

pub(super) struct Stream {
    blocks: Arc<dyn BlockRead>,
    at: u64,
}

impl Stream {
    pub(super) fn new(blocks: Arc<dyn BlockRead>) -> Self {
        Self { blocks, at: 0 }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.blocks.len_bytes().saturating_sub(self.at);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        self.blocks.read_at(self.at, &mut buf[..len])?;
        self.at += len as u64;
        Ok(len)
    }
}

pub(super) struct Content {
    blocks: Arc<dyn BlockRead>,
    start: u64,
    size: u64,
}

impl Content {
    pub(super) fn new(blocks: Arc<dyn BlockRead>, start: u64, size: u64) -> Self {
        Self { blocks, start, size }
    }
}

impl FileContent for Content {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        if len > 0 {
            self.blocks.read_at(self.start + offset, &mut buf[..len])?;
        }
        Ok(len)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        Ok((from < self.size).then(|| ByteRange::new(from, self.size - from)))
    }
}
