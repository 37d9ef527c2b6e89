//! A regular file of the kernel's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::FileContent;
use crate::units::ByteRange;

/// An open regular file.
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) size: u64,
    /// Whether it is worth asking: a small file with all its blocks has none.
    pub(super) may_have_holes: bool,
}

impl FileContent for OpenFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        if from >= self.size {
            return Ok(None);
        }
        if !self.may_have_holes {
            return Ok(Some(ByteRange::new(from, self.size - from)));
        }
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // A filesystem that knows no holes: all of it is data.
            Err(Errno::INVAL | Errno::NOTSUP) => from,
            Err(error) => return Err(error.into()),
        };
        let end = match rustix::fs::seek(&self.file, SeekFrom::Hole(start)) {
            // An answer that makes no sense is none: all the rest is data.
            Ok(end) if end > start => end.min(self.size),
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::NOTSUP) => self.size,
            Err(error) => return Err(error.into()),
        };
        Ok(end.checked_sub(start).filter(|len| *len > 0).map(|len| ByteRange::new(start, len)))
    }
}
