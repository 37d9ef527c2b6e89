//! The file or pipe that an image is written to, from its first byte to its last.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Small pieces are gathered up to this size before they are written.
const GATHERED_BYTES: usize = 256 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where an image is written. Bytes go out in strictly ascending order; a gap is a hole in a file, and zeros in a pipe.
#[derive(Debug)]
pub struct Sink {
    file: File,
    is_file: bool,
    /// Bytes before this are written, or are a hole.
    written: u64,
    /// What comes next and is not written yet.
    gathered: Vec<u8>,
}

impl Sink {
    /// A new file, which has no bytes yet.
    pub fn to_file(file: File) -> Self {
        Self { file, is_file: true, written: 0, gathered: Vec::with_capacity(GATHERED_BYTES) }
    }

    /// A pipe, a socket, a character device.
    pub fn to_stream(file: File) -> Self {
        Self { file, is_file: false, written: 0, gathered: Vec::with_capacity(GATHERED_BYTES) }
    }

    /// Whether holes can be left, and the first bytes written last.
    pub fn is_file(&self) -> bool {
        self.is_file
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }

    /// Writes `bytes` at the position.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.gathered.len() + bytes.len() > GATHERED_BYTES {
            self.flush()?;
        }
        if bytes.len() >= GATHERED_BYTES {
            return self.put(bytes);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    /// Goes on at `position`, which is not before this one; all between reads as zeros.
    pub fn skip_to(&mut self, position: u64) -> io::Result<()> {
        let mut gap = position.saturating_sub(self.position());
        if self.is_file && gap >= 4096 {
            self.flush()?;
            self.written = position;
            return Ok(());
        }
        while gap > 0 {
            let now = usize::try_from(gap).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.write(&ZEROS[..now])?;
            gap -= now as u64;
        }
        Ok(())
    }

    /// Writes the first bytes of a file, which were skipped, when all else is written.
    pub fn write_first(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_file {
            return Err(io::Error::new(io::ErrorKind::NotSeekable, "a pipe cannot be written from its start again"));
        }
        self.flush()?;
        self.file.write_all_at(bytes, 0)
    }

    /// Writes all that was gathered. A file is as long as the position says, even if a hole is at its end.
    pub fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.is_file && self.file.metadata()?.len() < self.written {
            self.file.set_len(self.written)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let done = if gathered.is_empty() { Ok(()) } else { self.put(&gathered) };
        self.gathered = gathered;
        self.gathered.clear();
        done
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_file {
            self.file.write_all_at(bytes, self.written)?;
        } else {
            (&self.file).write_all(bytes)?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use super::Sink;

    #[test]
    fn a_gap_is_a_hole_in_a_file_and_zeros_in_a_pipe() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut sink = Sink::to_file(file.as_file().try_clone().unwrap());
        let (mut reader, writer) = std::io::pipe().unwrap();
        let other = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        let mut stream = Sink::to_stream(std::fs::File::from(std::os::fd::OwnedFd::from(writer)));
        for sink in [&mut sink, &mut stream] {
            sink.write(b"head").unwrap();
            sink.skip_to(1000).unwrap();
            sink.write(&vec![7; 300 << 10]).unwrap();
            sink.skip_to(8 << 20).unwrap();
            sink.write(b"tail").unwrap();
            sink.skip_to(9 << 20).unwrap();
            sink.finish().unwrap();
            assert_eq!(sink.position(), 9 << 20);
        }
        drop(stream);
        let mut written = Vec::new();
        file.read_to_end(&mut written).unwrap();
        assert_eq!(written.len(), 9 << 20);
        assert!(written.starts_with(b"head\0") && written[8 << 20..].starts_with(b"tail\0"));
        assert!(written == other.join().unwrap());
        assert!(file.as_file().metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
