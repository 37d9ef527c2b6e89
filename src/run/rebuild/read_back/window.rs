//! A disk of which only the table's own bytes can be read.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::outside::BlockRead;

/// Runs of bytes at their places on a disk of `len` bytes. Other reads, and all writes, are errors.
#[derive(Debug)]
pub(super) struct Window<'a> {
    pieces: Vec<(u64, &'a [u8])>,
    len: u64,
    at: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(pieces: impl IntoIterator<Item = (u64, &'a [u8])>, len: u64) -> Self {
        Self { pieces: pieces.into_iter().collect(), len, at: 0 }
    }

    /// The bytes from `offset` to the end of its run.
    fn from(&self, offset: u64) -> Option<&'a [u8]> {
        self.pieces.iter().find_map(|(start, bytes)| {
            let skip = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(skip..).filter(|rest| !rest.is_empty())
        })
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it reads outside the table")
}

impl Read for Window<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let rest = self.from(self.at).ok_or_else(outside)?;
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl BlockRead for Window<'_> {
    fn len_bytes(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = self.from(offset).and_then(|rest| rest.get(..buf.len())).ok_or_else(outside)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}
