//! A thread that writes large buffers while the next ones are filled, past the page cache where that is possible.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::fs::OFlags;

/// The length of a buffer.
pub(super) const BUFFER_BYTES: usize = 4 << 20;
/// The number of buffers: one is filled, one is written, and others wait.
const BUFFERS: usize = 5;
/// Direct writes start and end at multiples of this, on the disk and in memory: of any sector's length.
const ALIGNMENT: usize = 4096;
/// Shorter writes go through the page cache.
const DIRECT_MIN: usize = 128 << 10;

/// Bytes to be written, whose address in memory is aligned.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    first: usize,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.first
    }

    /// Appends as much as there is room for; returns the rest.
    pub(super) fn add<'a>(&mut self, more: &'a [u8]) -> &'a [u8] {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(BUFFER_BYTES + ALIGNMENT);
            let first = self.bytes.as_ptr().align_offset(ALIGNMENT);
            // Without such an offset, writes are not direct.
            self.first = if first < ALIGNMENT { first } else { 0 };
            self.bytes.resize(self.first, 0);
        }
        let (now, later) = more.split_at(more.len().min(BUFFER_BYTES - self.len()));
        self.bytes.extend_from_slice(now);
        later
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.first..]
    }

    fn clear(&mut self) {
        self.bytes.truncate(self.first);
    }
}

/// A write of a buffer at an offset of the file.
type Write = (u64, Buffer);

/// The thread, and the writes that it has not done yet.
pub(super) struct Behind {
    give: Option<Sender<Write>>,
    done: Receiver<(Buffer, io::Result<()>)>,
    /// Offset and length of the writes that were given and not taken back.
    under_way: VecDeque<(u64, u64)>,
    free: Vec<Buffer>,
    made: usize,
    thread: Option<JoinHandle<()>>,
}

impl Behind {
    /// Starts the thread, which writes to `file`.
    pub(super) fn start(file: &File) -> io::Result<Self> {
        let (give, take) = channel::<Write>();
        let (give_back, done) = channel();
        let buffered = file.try_clone()?;
        let mut direct = open_direct(file);
        let thread = std::thread::Builder::new().name("write".to_owned()).spawn(move || {
            for (at, mut buffer) in take {
                let written = write(&buffered, &mut direct, at, buffer.bytes());
                buffer.clear();
                if give_back.send((buffer, written)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { give: Some(give), done, under_way: VecDeque::new(), free: Vec::new(), made: 0, thread: Some(thread) })
    }

    /// An empty buffer; waits until one is available.
    pub(super) fn buffer(&mut self) -> io::Result<Buffer> {
        loop {
            if let Some(buffer) = self.free.pop() {
                return Ok(buffer);
            }
            if self.made < BUFFERS {
                self.made += 1;
                return Ok(Buffer::default());
            }
            self.take_back()?;
        }
    }

    /// Has a buffer written at this offset.
    pub(super) fn write(&mut self, at: u64, buffer: Buffer) -> io::Result<()> {
        self.under_way.push_back((at, buffer.len() as u64));
        let given = self.give.as_ref().map(|give| give.send((at, buffer)));
        match given {
            Some(Ok(())) => Ok(()),
            _ => Err(gone()),
        }
    }

    /// Waits for all writes that touch these bytes.
    pub(super) fn wait_for(&mut self, at: u64, len: u64) -> io::Result<()> {
        while self.under_way.iter().any(|(start, length)| *start < at.saturating_add(len) && at < start + length) {
            self.take_back()?;
        }
        Ok(())
    }

    /// Waits for all writes.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        while !self.under_way.is_empty() {
            self.take_back()?;
        }
        Ok(())
    }

    /// Waits for the oldest write.
    fn take_back(&mut self) -> io::Result<()> {
        let (buffer, written) = self.done.recv().map_err(|_| gone())?;
        self.under_way.pop_front();
        self.free.push(buffer);
        written
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.give = None;
        if let Some(thread) = self.thread.take() {
            // Nothing may be written after the writer is gone, since the filesystem may then be made again.
            let _ = thread.join();
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

/// The same file, past the page cache; `None` where that is not possible.
fn open_direct(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    File::options().write(true).custom_flags(flags).open(path).ok()
}

/// Writes directly what is aligned, and the rest through the page cache.
fn write(buffered: &File, direct: &mut Option<File>, at: u64, bytes: &[u8]) -> io::Result<()> {
    let is_aligned = at.is_multiple_of(ALIGNMENT as u64) && bytes.as_ptr().align_offset(ALIGNMENT) == 0;
    let aligned = if is_aligned { bytes.len() - bytes.len() % ALIGNMENT } else { 0 };
    let mut written = 0;
    if aligned >= DIRECT_MIN
        && let Some(file) = &*direct
    {
        match file.write_all_at(&bytes[..aligned], at) {
            Ok(()) => written = aligned,
            // The filesystem or the device wants another alignment.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => *direct = None,
            Err(error) => return Err(error),
        }
    }
    buffered.write_all_at(&bytes[written..], at + written as u64)
}
