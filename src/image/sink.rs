//! The file or pipe that an image is written to, from its first byte to its last.

mod begun;

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use self::begun::{Begun, ZEROS};
use crate::outside::let_go_of_pages;

/// Small pieces are gathered up to this size before they are written.
const GATHERED_BYTES: usize = 256 << 10;

/// After so many bytes the system is asked to write them to the disk, so that this overlaps with reading, and one sync at the
/// end has little left to wait for.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// Where an image is written. Bytes go out in strictly ascending order; a gap is a hole in a file, and zeros in a pipe.
#[derive(Debug)]
pub struct Sink {
    file: File,
    is_file: bool,
    /// Bytes before this are written, or are a hole.
    written: u64,
    /// The system was asked to write bytes before this one to the disk.
    on_their_way: u64,
    /// What comes next and is not written yet.
    gathered: Vec<u8>,
    /// What an interrupted run wrote.
    begun: Option<Begun>,
}

impl Sink {
    /// A new file, which has no bytes yet.
    pub fn to_file(file: File) -> Self {
        Self {
            file,
            is_file: true,
            written: 0,
            on_their_way: 0,
            gathered: Vec::with_capacity(GATHERED_BYTES),
            begun: None,
        }
    }

    /// A file that an interrupted run began. All that it has is compared with what is to be there, and what differs is
    /// written: afterwards the file is what [`Self::to_file`] would make. The second value becomes the number of bytes that
    /// were there already.
    pub fn to_begun_file(file: File) -> io::Result<(Self, Arc<AtomicU64>)> {
        let (begun, kept_bytes) = Begun::new(file.try_clone()?)?;
        Ok((Self { begun: Some(begun), ..Self::to_file(file) }, kept_bytes))
    }

    /// A pipe, a socket, a character device.
    pub fn to_stream(file: File) -> Self {
        Self {
            file,
            is_file: false,
            written: 0,
            on_their_way: 0,
            gathered: Vec::with_capacity(GATHERED_BYTES),
            begun: None,
        }
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
            if let Some(begun) = &mut self.begun {
                begun.clear(&self.file, self.written, position)?;
            }
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
        if self.is_file && self.file.metadata()?.len() != self.written {
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

    /// Begins to write to the disk what was given to the system since the last time, and drops from memory what is written:
    /// `POSIX_FADV_DONTNEED` does both.
    fn start_writeback(&mut self) {
        if self.is_file && self.written - self.on_their_way >= WRITEBACK_BYTES {
            // What was asked for last time is on the disk by now, and leaves memory.
            let from = self.on_their_way.saturating_sub(WRITEBACK_BYTES);
            let_go_of_pages(&self.file, from, NonZero::new(self.written - from));
            self.on_their_way = self.written;
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(begun) = &mut self.begun {
            let pieces = (self.written..).step_by(GATHERED_BYTES).zip(bytes.chunks(GATHERED_BYTES));
            for (at, piece) in pieces {
                if !begun.holds(at, piece) {
                    self.file.write_all_at(piece, at)?;
                }
            }
        } else if self.is_file {
            self.file.write_all_at(bytes, self.written)?;
        } else {
            (&self.file).write_all(bytes)?;
        }
        self.written += bytes.len() as u64;
        self.start_writeback();
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

    /// Whatever is in a file that was begun, it becomes what a new one would be.
    #[test]
    fn a_file_that_was_begun_becomes_what_a_new_one_is() {
        let fill = |mut sink: Sink| {
            sink.skip_to(65536).unwrap();
            sink.write(&vec![7; 700 << 10]).unwrap();
            sink.skip_to(2 << 20).unwrap();
            for byte in 0..200 {
                sink.write(&vec![byte; 3000]).unwrap();
            }
            sink.skip_to(4 << 20).unwrap();
            sink.finish().unwrap();
            sink.write_first(b"head").unwrap();
        };
        let new = tempfile::NamedTempFile::new().unwrap();
        fill(Sink::to_file(new.as_file().try_clone().unwrap()));
        let right = std::fs::read(new.path()).unwrap();
        let cases: [(&str, Vec<u8>); 7] = [
            ("nothing", Vec::new()),
            ("all of it", right.clone()),
            ("a part", right[..1_000_003].to_vec()),
            ("more", [&right[..], &vec![9; 100_000][..]].concat()),
            ("noise", vec![0xa5; 3 << 20]),
            ("lost in the middle", [&right[..300_000], &vec![0; 65536][..], &right[365_536..]].concat()),
            ("a flipped bit", right.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 2_100_000)).collect()),
        ];
        for (what, was) in cases {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &was).unwrap();
            let (sink, kept) = Sink::to_begun_file(file.as_file().try_clone().unwrap()).unwrap();
            fill(sink);
            assert!(std::fs::read(file.path()).unwrap() == right, "{what}");
            let kept = kept.load(std::sync::atomic::Ordering::Relaxed);
            let (least, most) = match what {
                "nothing" | "noise" => (0, 0),
                "all of it" | "more" => (1_316_800, 1_316_800),
                _ => (256 << 10, 1_300_000),
            };
            assert!((least..=most).contains(&kept), "{what}: {kept}");
        }
    }
}
