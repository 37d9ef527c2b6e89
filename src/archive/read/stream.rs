//! Reads an archive's members in order, decompresses them in parallel, and yields their data in order.
//!
//! One thread reads (and hashes) the archive, a pool decompresses, and the caller of [`MemberStream::next_chunk`]
//! gets the pieces of the tar stream in order. Neighbouring small members are handed over together, as a batch. As in
//! [`crate::archive::members`], the number of batches is fixed and they are taken in the order of the stream. This
//! bounds memory, and the piece that is needed next always has a batch.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::decode::Submit;
use super::index_plan::IndexPlan;
use super::job::{Batch, DecodeJob, Findings};
pub use super::job::{Chunk, Form, StreamFinding, StreamOutcome};
use super::scan::{read_archive, scan_archive};
use crate::archive::codec::{self, CodecRef};
use crate::outside::{BlockRead, memory};

/// Batches in addition to those being decompressed: one being read, some waiting.
const SPARE_BATCHES: usize = 3;

/// Options for reading an archive.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The number of decompression threads.
    pub threads: usize,
    /// Whether to compute the archive's SHA-1, which requires reading every byte.
    pub hash_archive: bool,
    /// Reading stops soon after one of these is set.
    pub stop: Vec<Arc<AtomicBool>>,
}

/// How the members of an archive are located.
pub enum ReadPlan {
    /// By its index.
    Index(Box<IndexPlan>),
    /// By their own headers. An archive without such headers is read as one gzip stream.
    Scan,
}

/// The consumer's end. Dropping it stops all threads.
pub struct MemberStream {
    done: Option<Receiver<(u64, Batch)>>,
    free: Option<Sender<Batch>>,
    reader: Option<JoinHandle<StreamOutcome>>,
    early: BTreeMap<u64, Batch>,
    /// The number of the next batch.
    next: u64,
    /// The batch of the piece returned last, with the pieces that follow it.
    current: Option<Batch>,
    findings: Findings,
    /// The job of the piece returned last.
    held: Option<DecodeJob>,
}

/// An upper bound of the memory per thread: its stack and buffers for some members.
const EACH_BYTES: usize = 8 << 20;
const BASE_BYTES: usize = 40 << 20;

impl MemberStream {
    /// Starts reading `archive` from its first byte.
    pub fn new(archive: Arc<dyn BlockRead>, plan: ReadPlan, options: &ReadOptions) -> io::Result<Self> {
        Self::with_codec(codec::of_archive(&*archive), archive, plan, options)
    }

    pub(in crate::archive) fn with_codec(
        codec: CodecRef,
        archive: Arc<dyn BlockRead>,
        plan: ReadPlan,
        options: &ReadOptions,
    ) -> io::Result<Self> {
        let threads = options.threads.max(1);
        memory::require(BASE_BYTES + threads * EACH_BYTES)?;
        let (free, take) = channel();
        for _ in 0..2 * threads + SPARE_BATCHES {
            // The receiver lives in this function.
            let _ = free.send(Batch::default());
        }
        let (give, done) = channel();
        let submit = Submit::new(codec, threads, give, take, options.stop.clone())?;
        let hash_archive = options.hash_archive;
        let reader = std::thread::Builder::new().name("read".to_owned()).spawn(move || match plan {
            ReadPlan::Index(plan) => read_archive(&*archive, codec, *plan, hash_archive, submit),
            ReadPlan::Scan => scan_archive(&*archive, codec, hash_archive, submit),
        })?;
        Ok(Self {
            done: Some(done),
            free: Some(free),
            reader: Some(reader),
            early: BTreeMap::new(),
            next: 0,
            current: None,
            findings: Findings::default(),
            held: None,
        })
    }

    /// The next piece; `None` after the last. `done_with` is the previous piece, whose buffer is reused.
    pub fn next_chunk(&mut self, done_with: Option<Chunk>) -> Option<Chunk> {
        if let (Some(mut job), Some(current)) = (self.held.take(), &mut self.current) {
            job.chunk.data = done_with.map_or_else(Vec::new, |chunk| chunk.data);
            current.give_back(job);
        }
        let mut job = loop {
            if let Some(job) = self.current.as_mut().and_then(|current| current.jobs.pop_front()) {
                break job;
            }
            if let (Some(mut used), Some(free)) = (self.current.take(), &self.free) {
                used.clear();
                // Fails only at the end of the archive.
                let _ = free.send(used);
            }
            while !self.early.contains_key(&self.next) {
                let (number, batch) = self.done.as_ref()?.recv().ok()?;
                self.early.insert(number, batch);
            }
            self.current = self.early.remove(&self.next);
            self.next += 1;
        };
        job.findings.drain(..).for_each(|finding| self.findings.add(finding));
        let chunk = std::mem::take(&mut job.chunk);
        self.held = Some(job);
        Some(chunk)
    }

    /// Ends reading, early or not, and returns the result.
    pub fn finish(mut self) -> StreamOutcome {
        // Closing the channel stops a reader that is still sending.
        self.done = None;
        self.free = None;
        let outcome = self.reader.take().and_then(|reader| reader.join().ok());
        let mut outcome = outcome.unwrap_or_else(|| {
            let what = "the thread that reads the archive panicked".to_owned();
            let finding = StreamFinding { in_index: false, member: None, offset: 0, what };
            StreamOutcome { findings: vec![finding], findings_total: 1, ..StreamOutcome::default() }
        });
        let mut all = std::mem::take(&mut self.findings);
        all.total += outcome.findings_total;
        all.first.append(&mut outcome.findings);
        all.first.sort_by_key(|finding| (finding.member.unwrap_or(u64::MAX), finding.offset));
        all.first.truncate(Findings::KEPT);
        StreamOutcome { findings: all.first, findings_total: all.total, ..outcome }
    }
}

impl Drop for MemberStream {
    fn drop(&mut self) {
        self.done = None;
        self.free = None;
        if let Some(reader) = self.reader.take() {
            // Cancelled: the result is not used.
            let _ = reader.join();
        }
    }
}
