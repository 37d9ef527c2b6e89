//! Sequential reading of random-access bytes.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::BlockRead;

/// Reads a [`BlockRead`] sequentially, without a buffer of its own.
#[derive(Clone)]
pub struct BlockCursor {
    blocks: Arc<dyn BlockRead>,
    at: u64,
}

impl BlockCursor {
    /// Starts at the first byte.
    pub fn new(blocks: Arc<dyn BlockRead>) -> Self {
        Self { blocks, at: 0 }
    }
}

impl Read for BlockCursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.blocks.read_some(self.at, buf)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for BlockCursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.blocks.len_bytes().checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl fmt::Debug for dyn BlockRead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.len_bytes())
    }
}

impl fmt::Debug for BlockCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BlockCursor(byte {} of {})", self.at, self.blocks.len_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::sync::Arc;

    use super::BlockCursor;
    use crate::outside::{BlockRead, FileBlocks};

    #[test]
    fn bytes_come_in_their_order_and_end() {
        let content: Vec<u8> = (0..=255).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let both: [Arc<dyn BlockRead>; 2] = [Arc::new(content.clone()), Arc::new(FileBlocks::new(file, 256))];
        for blocks in both {
            let mut cursor = BlockCursor::new(blocks);
            let mut read = Vec::new();
            cursor.read_to_end(&mut read).unwrap();
            assert_eq!(read, content);
            assert_eq!(cursor.seek(SeekFrom::End(-2)).unwrap(), 254);
            assert_eq!(cursor.read(&mut [0; 9]).unwrap(), 2);
            cursor.seek(SeekFrom::Start(1000)).unwrap();
            assert_eq!(cursor.read(&mut [0; 9]).unwrap(), 0, "past the end there is nothing");
            assert!(cursor.seek(SeekFrom::End(-300)).is_err());
        }
    }
}
