//! Copies a disk's data into an image: one thread reads ahead, the caller's writes.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::events::{Event, Observer};
use crate::image::ImageWriter;
use crate::image::digest::DiskDigest;
use crate::image::runs::DataRuns;
use crate::outside::{BlockRead, Cancel};

/// What is read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that are under way: one is read, one is written, and two wait in between.
const CHUNKS: usize = 4;
/// After an error the place is looked for in pieces of this size.
const BLOCK_BYTES: u64 = 4096;

/// How a disk is copied.
pub struct Copy<'a> {
    /// The disk.
    pub blocks: &'a dyn BlockRead,
    /// Which of its bytes hold data. All others are taken for zeros, and not read.
    pub runs: DataRuns<'a>,
    /// How many bytes are read at once, at the least; writers that compress in parallel need more of them.
    pub chunk_bytes: usize,
    /// Whether a digest is made on the way.
    pub digest: bool,
    /// Gets how much was read, and may delay the reading.
    pub observer: &'a dyn Observer,
    /// Ends the work.
    pub cancel: &'a Cancel,
}

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes that were read.
    pub read_bytes: u64,
    /// How long the image is.
    pub image_bytes: u64,
    /// The digest of the disk's content, if one was made.
    pub digest: Option<[u8; 32]>,
}

/// Why a disk was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source cannot be read.
    #[error("the source cannot be read at byte {offset}")]
    Read {
        /// The first block that cannot be read, or where the read began that failed once.
        offset: u64,
        /// The system's own error.
        source: io::Error,
    },
    /// The source does not say where its data are.
    #[error("the data ranges of the source cannot be determined")]
    Runs(#[source] io::Error),
    /// The image cannot be written.
    #[error("the target cannot be written")]
    Write(#[source] io::Error),
    /// No thread can be started.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
    /// It was cancelled.
    #[error("interrupted")]
    Stopped,
}

/// A piece of the disk, in a buffer that is used again.
#[derive(Debug)]
struct Chunk {
    start: u64,
    len: usize,
    buffer: Vec<u8>,
}

impl Copy<'_> {
    /// Reads all data of the disk once, in ascending order, and gives them to `writer`.
    pub fn run(self, writer: &mut dyn ImageWriter) -> Result<Copied, CopyError> {
        let align = writer.granule_bytes().max(DiskDigest::GRANULE_BYTES);
        let chunk_bytes = self.chunk_bytes.max(CHUNK_BYTES).next_multiple_of(align);
        let (full, filled) = sync_channel::<Chunk>(CHUNKS);
        let (empty, emptied) = sync_channel::<Vec<u8>>(CHUNKS);
        for _ in 0..CHUNKS {
            // As many buffers as the channel has room for.
            let _ = empty.send(Vec::new());
        }
        thread::scope(|scope| {
            let reader = Reader { copy: &self, align, chunk_bytes, digest: DiskDigest::default(), read_bytes: 0 };
            let reading = thread::Builder::new()
                .name("image-reader".to_owned())
                .spawn_scoped(scope, move || reader.read(&full, &emptied))
                .map_err(CopyError::Thread)?;
            let mut written = Ok(());
            for chunk in &filled {
                written = writer.write_chunk(chunk.start, &chunk.buffer[..chunk.len]).map_err(CopyError::Write);
                if written.is_err() {
                    break;
                }
                // The reader may have ended.
                let _ = empty.send(chunk.buffer);
            }
            // The reader ends when nothing takes its chunks, or gives it buffers.
            drop((filled, empty));
            // A panic of the reader goes on here.
            let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written?;
            let (read_bytes, digest) = read?;
            let image_bytes = writer.finish().map_err(CopyError::Write)?;
            Ok(Copied { read_bytes, image_bytes, digest })
        })
    }
}

struct Reader<'a> {
    copy: &'a Copy<'a>,
    align: usize,
    chunk_bytes: usize,
    digest: DiskDigest,
    read_bytes: u64,
}

impl Reader<'_> {
    /// Reads chunk after chunk; gives how much was read, and the digest.
    fn read(
        mut self,
        full: &SyncSender<Chunk>,
        emptied: &Receiver<Vec<u8>>,
    ) -> Result<(u64, Option<[u8; 32]>), CopyError> {
        let (align, size) = (self.align as u64, self.chunk_bytes as u64);
        let mut runs = self.copy.runs.clone();
        let mut next = runs.next().transpose().map_err(CopyError::Runs)?;
        while let Some(first) = next {
            if self.copy.cancel.is_cancelled() {
                return Err(CopyError::Stopped);
            }
            // The writer ended, and says why.
            let Ok(mut buffer) = emptied.recv() else { return Err(CopyError::Stopped) };
            buffer.resize(self.chunk_bytes, 0);
            let start = first.start / align * align;
            let window_end = (first.start / size + 1).saturating_mul(size);
            let (mut at, mut read) = (start, 0);
            while let Some(run) = next.filter(|run| run.start < window_end) {
                let end = (run.start + run.len).min(window_end);
                buffer[place(at, start)..place(run.start, start)].fill(0);
                read_at(self.copy.blocks, run.start, &mut buffer[place(run.start, start)..place(end, start)])?;
                read += end - run.start;
                at = end;
                next = if end < run.start + run.len {
                    Some(crate::units::ByteRange::new(end, run.start + run.len - end))
                } else {
                    runs.next().transpose().map_err(CopyError::Runs)?
                };
            }
            let len = place(at, start).next_multiple_of(self.align);
            buffer[place(at, start)..len].fill(0);
            if self.copy.digest {
                self.digest.update(start, &buffer[..len]);
            }
            self.read_bytes += read;
            self.copy.observer.on_event(&Event::Read { bytes: read });
            if full.send(Chunk { start, len, buffer }).is_err() {
                return Err(CopyError::Stopped);
            }
        }
        // The last moment at which an interruption leaves no image.
        if self.copy.cancel.is_cancelled() {
            return Err(CopyError::Stopped);
        }
        Ok((self.read_bytes, self.copy.digest.then(|| self.digest.finish())))
    }
}

/// Reads, or says which block cannot be read.
fn read_at(blocks: &dyn BlockRead, offset: u64, buf: &mut [u8]) -> Result<(), CopyError> {
    let Err(source) = blocks.read_at(offset, buf) else { return Ok(()) };
    let (mut at, end) = (offset, offset + buf.len() as u64);
    while at < end {
        // Blocks of the medium begin at multiples of their size.
        let border = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
        let block = &mut buf[place(at, offset)..place(border.min(end), offset)];
        blocks.read_at(at, block).map_err(|source| CopyError::Read { offset: at, source })?;
        at = border;
    }
    Err(CopyError::Read { offset, source })
}

/// Where a byte of the disk is in a buffer that begins at `start`: less than a chunk after it.
#[expect(clippy::cast_possible_truncation, reason = "a chunk is some megabytes long")]
fn place(at: u64, start: u64) -> usize {
    (at - start) as usize
}
