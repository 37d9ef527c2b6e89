//! The device. Writes to adjacent places become one large write: those of files' data are made by a thread of their
//! own, past the page cache; those of everything else through it, since e2fsck reads all of that again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::behind::{BUFFER_BYTES, Behind, Buffer};
use crate::units::ByteRange;

/// The length of a collected write of metadata.
const COLLECTED_BYTES: usize = 1 << 20;

/// A region of a device or an image.
pub(super) struct Output {
    file: File,
    range: ByteRange,
    /// The thread that writes data; started with the first.
    behind: Option<Behind>,
    /// Data to be written at `data_at`.
    data: Option<Buffer>,
    data_at: u64,
    /// Metadata to be written at `collected_at`.
    collected: Vec<u8>,
    collected_at: u64,
}

impl Output {
    pub(super) fn new(file: File, range: ByteRange) -> Self {
        Self { file, range, behind: None, data: None, data_at: 0, collected: Vec::new(), collected_at: 0 }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.range.len
    }

    fn place(&self, at: u64, len: usize) -> io::Result<u64> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.range.len);
        end.and_then(|_| self.range.start.checked_add(at))
            .ok_or_else(|| io::Error::other(format!("byte {at} of the filesystem lies behind its end")))
    }

    /// Reads, including what was collected.
    pub(super) fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.flush_collected()?;
        self.settle_data(at, bytes.len())?;
        self.file.read_exact_at(bytes, self.place(at, bytes.len())?)
    }

    /// Writes at once. Never used for a place that was collected and not yet flushed, nor for one of data.
    pub(super) fn write_now(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.place(at, bytes.len())?)
    }

    /// Writes metadata, together with what is adjacent.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        // Blocks of a file that was given up can become those of a directory.
        self.settle_data(at, bytes.len())?;
        let is_adjacent = self.collected_at + self.collected.len() as u64 == at;
        if !is_adjacent || self.collected.len() >= COLLECTED_BYTES {
            self.flush_collected()?;
        }
        if self.collected.is_empty() {
            self.collected_at = at;
        }
        if bytes.len() >= COLLECTED_BYTES && self.collected.is_empty() {
            return self.write_now(at, bytes);
        }
        self.collected.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the data of files, together with what is adjacent.
    pub(super) fn write_data(&mut self, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        // Blocks that a directory has given back can become those of a file.
        let collected_end = self.collected_at + self.collected.len() as u64;
        if self.collected_at < at + bytes.len() as u64 && at < collected_end {
            self.flush_collected()?;
        }
        let end = self.data.as_ref().map(|data| self.data_at + data.len() as u64);
        if end.is_some_and(|end| end != at) {
            self.give_data()?;
        }
        while !bytes.is_empty() {
            if self.data.is_none() {
                self.data = Some(self.behind()?.buffer()?);
                self.data_at = at;
            }
            let Some(data) = &mut self.data else { break };
            let rest = data.add(bytes);
            let is_full = data.len() >= BUFFER_BYTES;
            at += (bytes.len() - rest.len()) as u64;
            bytes = rest;
            if is_full {
                self.give_data()?;
            }
        }
        Ok(())
    }

    fn behind(&mut self) -> io::Result<&mut Behind> {
        if self.behind.is_none() {
            self.behind = Some(Behind::start(&self.file)?);
        }
        self.behind.as_mut().ok_or_else(|| io::Error::other("no thread writes"))
    }

    /// Has the thread write the data that was collected.
    fn give_data(&mut self) -> io::Result<()> {
        let Some(data) = self.data.take() else { return Ok(()) };
        let place = self.place(self.data_at, data.len())?;
        self.behind()?.write(place, data)
    }

    /// Waits until no data of these bytes is on its way.
    fn settle_data(&mut self, at: u64, len: usize) -> io::Result<()> {
        let end = at.saturating_add(len as u64);
        if let Some(data) = &self.data
            && self.data_at < end
            && at < self.data_at + data.len() as u64
        {
            self.give_data()?;
        }
        let place = self.place(at, len)?;
        match &mut self.behind {
            Some(behind) => behind.wait_for(place, len as u64),
            None => Ok(()),
        }
    }

    fn flush_collected(&mut self) -> io::Result<()> {
        if !self.collected.is_empty() {
            self.write_now(self.collected_at, &self.collected)?;
            self.collected.clear();
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush_collected()?;
        self.give_data()?;
        if let Some(behind) = &mut self.behind {
            behind.wait()?;
        }
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::Output;
    use crate::units::ByteRange;

    const LEN: usize = 48 << 20;

    fn check(dir: &Path, start: usize) {
        let file = tempfile::tempfile_in(dir).unwrap();
        file.set_len((start + LEN) as u64).unwrap();
        let mut output = Output::new(file.try_clone().unwrap(), ByteRange::new(start as u64, LEN as u64));
        let mut model = vec![0_u8; start + LEN];
        let mut state = 0x9e37_79b9_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut next = 0;
        for step in 0..600 {
            // Often in the same few places, and often one behind the other.
            let at = if random(3) > 0 { next } else { random(64) * 1024 * (1 + random(400)) };
            let at = at.min(LEN - 1024);
            let len = [512, 1024, 4096, 70_000, 5_000_000][random(if step % 20 == 0 { 5 } else { 4 })].min(LEN - at);
            let bytes = vec![u8::try_from(1 + step % 255).unwrap(); len];
            let place = start + at..start + at + len;
            match random(8) {
                0 => {
                    let mut read = vec![0; len];
                    output.read(at as u64, &mut read).unwrap();
                    assert!(read == model[place.clone()], "step {step}: {place:?}");
                }
                1 | 2 => {
                    output.write(at as u64, &bytes).unwrap();
                    model[place].copy_from_slice(&bytes);
                }
                _ => {
                    output.write_data(at as u64, &bytes).unwrap();
                    model[place].copy_from_slice(&bytes);
                }
            }
            next = at + len;
        }
        output.sync().unwrap();
        let mut found = vec![0; start + LEN];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == model, "{}, {start}", dir.display());
    }

    #[test]
    fn the_last_write_of_each_byte_counts_whichever_way_it_took() {
        let disk = std::env::temp_dir();
        for dir in [disk.as_path(), Path::new("/dev/shm")] {
            for start in [0, 1 << 20, 63 * 512] {
                check(dir, start);
            }
        }
    }

    #[test]
    fn a_write_that_failed_behind_is_an_error_of_the_sync_at_the_latest() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut output = Output::new(full, ByteRange::new(0, 1 << 40));
        let bytes = vec![1; 3 << 20];
        let mut written = (0..20).map(|part| output.write_data(part * bytes.len() as u64, &bytes));
        let failed = written.find_map(Result::err);
        let failed = failed.map_or_else(|| output.sync().map_err(|error| error.kind()), |error| Err(error.kind()));
        assert_eq!(failed, Err(io::ErrorKind::StorageFull));
        let few = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut output = Output::new(few, ByteRange::new(0, 1 << 40));
        output.write_data(0, &bytes).unwrap();
        assert_eq!(output.sync().map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
    }
}
