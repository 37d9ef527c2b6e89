//! Writes a backup's files without filling the host's page cache, and so that little is left for the final sync.
//!
//! Archive and index are collected in a few large buffers, which a thread writes: directly to the disk (`O_DIRECT`)
//! where the destination's filesystem is known to do that well, otherwise through the page cache with a sync now
//! and then.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::share::{self, Stretch};
use super::syncing_writer::{LateError, SyncingWriter};
use crate::archive::members::ArchiveFile;

/// The buffer size for an archive.
pub(super) const ARCHIVE_STAGE_BYTES: usize = 1 << 20;
/// The buffer size for an index.
pub(super) const INDEX_STAGE_BYTES: usize = 256 << 10;
/// One buffer is being filled, one waits, one is being written.
const STAGES: usize = 3;
/// An alignment that suffices for direct writes to any disk: of memory address, file offset and length.
const DIRECT_ALIGNMENT: usize = 4096;
/// Filesystems of local disks on which direct writes are as fast as others (linux/magic.h). Others wait for a
/// server, or copy anyway.
const DIRECT_FILESYSTEMS: [u64; 2] = [0xef53, 0x5846_5342];

/// Collects writes in large buffers, which a thread writes to disk.
pub(super) struct StagedWriter {
    current: Stage,
    /// Buffers that are neither being filled nor written.
    empty: Vec<Stage>,
    back: Receiver<Stage>,
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    error: LateError,
    /// The number of bytes accepted.
    taken: u64,
    sharing: Sharing,
    /// The range to share next; the current buffer is empty then.
    stretch: Option<Stretch>,
}

/// Whether blocks can be shared with other files.
enum Sharing {
    No,
    /// Not tested yet; the file is in this directory.
    NotTried(OwnedFd),
    Yes,
}

/// A task for the writing thread.
enum Work {
    Write(Stage),
    Share(Stretch),
}

/// A buffer, aligned for direct writes from `start`.
struct Stage {
    bytes: Vec<u8>,
    start: usize,
    room: usize,
    len: usize,
}

impl Stage {
    fn new(room: usize) -> Self {
        let bytes = vec![0; room + DIRECT_ALIGNMENT];
        // If no aligned start exists, direct writes fail, and other writes do not need it.
        let start = bytes.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
        Self { bytes, start, room, len: 0 }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// Copies as much of `from` as fits.
    fn fill(&mut self, from: &[u8]) -> usize {
        let space = &mut self.bytes[self.start + self.len..self.start + self.room];
        let len = space.len().min(from.len());
        space[..len].copy_from_slice(&from[..len]);
        self.len += len;
        len
    }

    fn is_full(&self) -> bool {
        self.len == self.room
    }
}

impl StagedWriter {
    /// Writes pieces of `stage_bytes`, a multiple of [`DIRECT_ALIGNMENT`], to a new file. Errors after the last
    /// write are kept where `file` keeps them.
    pub(super) fn new(file: SyncingWriter, stage_bytes: usize) -> io::Result<Self> {
        let (work, to_do) = channel();
        let (give_back, back) = channel();
        let (error, errors) = (file.error.clone(), file.error.clone());
        let thread = std::thread::Builder::new()
            .name("write-out".to_owned())
            .spawn(move || work_off(file, &to_do, &give_back, &errors))?;
        Ok(Self {
            current: Stage::new(stage_bytes),
            empty: (1..STAGES).map(|_| Stage::new(stage_bytes)).collect(),
            back,
            work: Some(work),
            thread: Some(thread),
            error,
            taken: 0,
            sharing: Sharing::No,
            stretch: None,
        })
    }

    /// Enables block sharing, if the file's `directory` supports it.
    pub(super) fn share_in(&mut self, directory: OwnedFd) {
        self.sharing = Sharing::NotTried(directory);
    }

    /// Hands the current buffer to the thread, and continues with an empty one.
    fn hand_over(&mut self) -> io::Result<()> {
        let next = match self.empty.pop() {
            Some(next) => next,
            None => self.back.recv().map_err(|_| self.writers_error())?,
        };
        let full = std::mem::replace(&mut self.current, next);
        self.give(Work::Write(full))
    }

    fn give(&self, work: Work) -> io::Result<()> {
        match &self.work {
            Some(to_do) if to_do.send(work).is_ok() => Ok(()),
            _ => Err(self.writers_error()),
        }
    }

    /// Hands the range over for sharing, and puts the bytes after its last whole block into the buffer.
    fn end_stretch(&mut self) -> io::Result<()> {
        let Some(stretch) = self.stretch.take() else { return Ok(()) };
        // It is shorter than a block, and the buffer is empty.
        self.current.fill(stretch.rest());
        self.give(Work::Share(stretch))
    }

    fn writers_error(&self) -> io::Error {
        self.error.take().unwrap_or_else(|| io::Error::other("the thread that writes has ended"))
    }
}

impl Write for StagedWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.end_stretch()?;
        if self.current.is_full() {
            self.hand_over()?;
        }
        let len = self.current.fill(buf);
        self.taken += len as u64;
        Ok(len)
    }

    /// Waits until the kernel has accepted all data.
    fn flush(&mut self) -> io::Result<()> {
        self.end_stretch()?;
        // Also if it is empty: its return shows that all earlier tasks are done.
        self.hand_over()?;
        while self.empty.len() + 1 < STAGES {
            let stage = self.back.recv().map_err(|_| self.writers_error())?;
            self.empty.push(stage);
        }
        Ok(())
    }
}

impl ArchiveFile for StagedWriter {
    fn block_to_share(&mut self, source: &File) -> Option<NonZero<usize>> {
        if let Sharing::NotTried(directory) = &self.sharing {
            let can = share::are_beside(source, directory) && share::is_possible_in(directory);
            self.sharing = if can { Sharing::Yes } else { Sharing::No };
        }
        NonZero::new(share::BLOCK_BYTES).filter(|_| matches!(self.sharing, Sharing::Yes))
    }

    fn write_shared(&mut self, bytes: &[u8], source: &Arc<File>, offset: u64) -> io::Result<()> {
        let lies_alike = self.taken.abs_diff(offset).is_multiple_of(share::BLOCK_BYTES as u64);
        if !lies_alike || !matches!(self.sharing, Sharing::Yes) {
            return self.write_all(bytes);
        }
        let mut to_share = bytes;
        if !self.stretch.as_ref().is_some_and(|stretch| stretch.goes_on_at(source, offset)) {
            let Some(before) = share::before_first_block(bytes, offset) else { return self.write_all(bytes) };
            self.end_stretch()?;
            self.write_all(&bytes[..before])?;
            if self.current.len > 0 {
                self.hand_over()?;
            }
            to_share = &bytes[before..];
            self.stretch = Some(Stretch::new(source, offset + before as u64));
        }
        if let Some(stretch) = &mut self.stretch {
            stretch.add(to_share);
            self.taken += to_share.len() as u64;
            if stretch.is_long() {
                self.end_stretch()?;
            }
        }
        Ok(())
    }
}

impl Drop for StagedWriter {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            self.error.set(error);
        }
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // Its errors are in the shared slot.
            let _ = thread.join();
        }
    }
}

/// Runs the tasks in order, and returns the buffers. Ends at the first error.
fn work_off(mut file: SyncingWriter, to_do: &Receiver<Work>, give_back: &Sender<Stage>, errors: &LateError) {
    let mut is_direct = is_better_direct(&file.file) && set_direct(&file.file, true).is_ok();
    for work in to_do {
        let done = match work {
            Work::Share(stretch) => stretch.share_with(&file.file).and_then(|len| {
                // If the kernel copied instead of sharing, it went through memory.
                if is_direct { Ok(()) } else { file.pace(len) }
            }),
            Work::Write(mut stage) => write_stage(&mut file, stage.filled(), &mut is_direct).map(|()| {
                stage.len = 0;
                // Fails only after the writer is gone.
                let _ = give_back.send(stage);
            }),
        };
        if let Err(error) = done {
            errors.set(error);
            return;
        }
    }
}

fn write_stage(file: &mut SyncingWriter, mut left: &[u8], is_direct: &mut bool) -> io::Result<()> {
    while *is_direct && !left.is_empty() {
        let whole = left.len() - left.len() % DIRECT_ALIGNMENT;
        let written = match file.file.write(&left[..whole]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A disk with unusually large sectors, or the partial block at the end of the file.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => 0,
            Err(error) => return Err(error),
        };
        left = &left[written..];
        if written == 0 || !written.is_multiple_of(DIRECT_ALIGNMENT) {
            set_direct(&file.file, false)?;
            *is_direct = false;
        }
    }
    file.write_all(left)
}

fn is_better_direct(file: &File) -> bool {
    let magic = rustix::fs::fstatfs(file).ok().and_then(|facts| u64::try_from(facts.f_type).ok());
    magic.is_some_and(|magic| DIRECT_FILESYSTEMS.contains(&magic))
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::{DIRECT_ALIGNMENT, Sharing, StagedWriter};
    use crate::archive::members::ArchiveFile;
    use crate::store::local::syncing_writer::{LateError, SyncingWriter};

    const STAGE_BYTES: usize = 4 * DIRECT_ALIGNMENT;

    fn writer(file: File) -> (StagedWriter, LateError) {
        let error = LateError::default();
        let syncing = SyncingWriter::new(file, error.clone()).unwrap();
        (StagedWriter::new(syncing, STAGE_BYTES).unwrap(), error)
    }

    /// Beside the sources rather than in /tmp, which may not support direct writes.
    fn scratch() -> TempDir {
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
        fs::create_dir_all(target).unwrap();
        tempfile::tempdir_in(target).unwrap()
    }

    #[test]
    fn files_of_every_length_are_what_was_written() {
        let dir = scratch();
        let lengths = [0, 1, DIRECT_ALIGNMENT - 1, DIRECT_ALIGNMENT, STAGE_BYTES - 1, STAGE_BYTES, STAGE_BYTES + 1];
        for len in lengths.into_iter().chain([5 * STAGE_BYTES + DIRECT_ALIGNMENT, 9 * STAGE_BYTES + 77]) {
            let path = dir.path().join(len.to_string());
            let content: Vec<u8> = (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
            let (mut writer, error) = writer(File::create_new(&path).unwrap());
            for piece in content.chunks(1000) {
                writer.write_all(piece).unwrap();
            }
            if len % 2 == 0 {
                // Continues after a flush in the middle of a block.
                writer.flush().unwrap();
                writer.write_all(b"more").unwrap();
            }
            drop(writer);
            assert!(error.take().is_none());
            let found = fs::read(&path).unwrap();
            assert!(found == if len % 2 == 0 { [&content, b"more".as_slice()].concat() } else { content }, "{len}");
        }
    }

    /// Where blocks cannot be shared, the kernel copies them.
    #[test]
    fn what_is_shared_and_what_is_written_come_in_their_order() {
        let dir = scratch();
        let content: Vec<u8> = (0..2_000_000_usize).map(|at| u8::try_from(at % 4099 * 7 % 251).unwrap()).collect();
        fs::write(dir.path().join("source"), &content).unwrap();
        let source = Arc::new(File::open(dir.path().join("source")).unwrap());
        let path = dir.path().join("copy");
        let (mut writer, error) = writer(File::create_new(&path).unwrap());
        writer.sharing = Sharing::Yes;
        let mut expected = Vec::new();
        let (mut random, mut from, mut stretches) = (1_usize, 0, 0);
        for _ in 0..200 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (what, len) = ((random >> 40) % 4, [5, 4096, 70_000, 100_000, 200_000][(random >> 45) % 5]);
            match what {
                // Continue at the last end, at an offset with the same alignment, or anywhere.
                0 | 1 => from %= content.len() / 2,
                2 => from = (random >> 50) % 100 * DIRECT_ALIGNMENT + expected.len() % DIRECT_ALIGNMENT,
                _ => {
                    writer.write_all(b"in between").unwrap();
                    expected.extend_from_slice(b"in between");
                    from = (random >> 50) % 100_000;
                }
            }
            let piece = &content[from..from + len];
            writer.write_shared(piece, &source, from as u64).unwrap();
            expected.extend_from_slice(piece);
            stretches += u32::from(writer.stretch.is_some());
            from += len;
        }
        assert!(stretches > 30, "{stretches}");
        writer.write_all(b"the end").unwrap();
        expected.extend_from_slice(b"the end");
        writer.flush().unwrap();
        drop(writer);
        assert!(error.take().is_none());
        assert!(fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn a_full_disk_is_told_however_late() {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let (mut much, _) = writer(full());
        let written = (0..100).try_for_each(|_| much.write_all(&[1; STAGE_BYTES]));
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        let (mut little, _) = writer(full());
        little.write_all(b"x").unwrap();
        assert_eq!(little.flush().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        let (mut unflushed, error) = writer(full());
        unflushed.write_all(b"x").unwrap();
        drop(unflushed);
        assert!(error.take().is_some());
    }
}
