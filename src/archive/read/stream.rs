//! Reads an archive's members in order, inflates them in parallel, and gives their data in order.
//!
//! One thread reads (and hashes) the archive, a pool inflates, and whoever asks for [`MemberStream::next_chunk`] gets the
//! pieces of the tar stream one after the other. As in [`crate::archive::members`] there is a fixed number of buffers,
//! taken in the order of the stream: they bound the memory, and nothing can starve the piece that is needed next.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use libdeflater::Decompressor;

use super::index_file::IndexPlan;
use super::scan::{read_archive, scan_archive};
use crate::archive::gzip::{HEADER_BYTES, MAX_MEMBER_DATA, TRAILER_BYTES};
use crate::archive::index::{EntryLine, MemberDigest};
use crate::archive::workers::Workers;
use crate::outside::memory;

/// Buffers beyond those that the inflating threads work on: one being read, some waiting for their turn.
const SPARE_BUFFERS: usize = 3;

/// How an archive is read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// How many threads inflate.
    pub threads: usize,
    /// Whether the archive's SHA-1 is wanted. Then every byte of it is read.
    pub hash_archive: bool,
    /// Reading stops soon after one of these is set.
    pub stop: Vec<Arc<AtomicBool>>,
}

/// Where the members of an archive are known from.
pub enum Plan {
    /// From its index.
    Index(Box<IndexPlan>),
    /// From their own headers; an archive that has no such headers is read as one gzip stream.
    Scan,
}

/// A piece of the tar stream: what a member holds.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The member's number, from 0. Pieces of an archive that is not made of our members are counted alike.
    pub number: u64,
    /// Its first byte in the archive; of a foreign archive, unknown and 0.
    pub archive_offset: u64,
    /// Its first byte in the tar stream.
    pub tar_offset: u64,
    /// How long it is in the tar stream; 0 when that is not known.
    pub tar_length: u64,
    /// The data; empty when it is lost.
    pub data: Vec<u8>,
    /// Why the data is lost.
    pub lost: Option<String>,
    /// The index's lines of the entries that start in it; `None` when it is read without an index.
    pub entries: Option<Vec<EntryLine>>,
}

impl Chunk {
    /// Whether the index says that the member holds nothing. A member's own header is not believed when it is damaged.
    pub fn is_padding(&self) -> bool {
        self.entries.is_some() && self.tar_length == 0
    }
}

/// Something that is wrong with the archive or its index, seen while reading members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFinding {
    /// Whether the index is to blame and not the archive.
    pub in_index: bool,
    /// The member.
    pub member: Option<u64>,
    /// Its first byte, or that of what is wrong, in the archive.
    pub offset: u64,
    /// What is wrong, one line.
    pub what: String,
}

/// What an archive is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Members that say how long they are.
    #[default]
    Members,
    /// Any other gzip file.
    Gzip,
    /// A tar stream that is not compressed.
    Plain,
}

/// What is known after the last member.
#[derive(Clone, Debug, Default)]
pub struct StreamOutcome {
    /// What the archive is made of.
    pub form: Form,
    /// SHA-1 of the archive's bytes, when asked for and all of them could be read.
    pub archive_sha1: Option<[u8; 20]>,
    /// How many bytes of the archive were read.
    pub archive_bytes: u64,
    /// How many members were read.
    pub members: u64,
    /// How much of the tar stream they have.
    pub tar_bytes: u64,
    /// What is wrong; the first thousand.
    pub findings: Vec<StreamFinding>,
    /// How many things are wrong.
    pub findings_total: u64,
    /// It was told to stop.
    pub stopped: bool,
}

/// A member on its way. Its buffers are used again.
#[derive(Default)]
pub(super) struct Job {
    pub(super) member: Vec<u8>,
    pub(super) chunk: Chunk,
    /// The digest that the index says.
    pub(super) digest: Option<MemberDigest>,
    /// The member is read, but its header is not what it should be.
    pub(super) header_damaged: bool,
    /// What was found about it.
    pub(super) findings: Vec<StreamFinding>,
}

/// The reading end. Dropping it stops everything.
pub struct MemberStream {
    done: Option<Receiver<(u64, Job)>>,
    free: Option<Sender<Job>>,
    reader: Option<JoinHandle<StreamOutcome>>,
    early: BTreeMap<u64, Job>,
    next: u64,
    findings: Findings,
    /// The job of the piece that was given last.
    held: Option<Job>,
}

/// Things that are wrong, a bounded number of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) first: Vec<StreamFinding>,
    pub(super) total: u64,
}

impl Findings {
    const KEPT: usize = 1000;

    pub(super) fn add(&mut self, finding: StreamFinding) {
        self.total += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(finding);
        }
    }
}

/// How much memory reading takes at most, with room to spare: each thread has a stack and buffers for some members.
const EACH_BYTES: usize = 8 << 20;
const BASE_BYTES: usize = 40 << 20;
const INFLATER_BYTES: usize = 64 << 10;

impl MemberStream {
    /// Begins to read `archive`, from its first byte.
    pub fn new(archive: File, plan: Plan, options: &ReadOptions) -> io::Result<Self> {
        let threads = options.threads.max(1);
        memory::require(BASE_BYTES + threads * EACH_BYTES)?;
        // libdeflater panics when there is no memory.
        let inflater = |_| memory::made(INFLATER_BYTES, Decompressor::new);
        let inflaters = Arc::new(Mutex::new((0..threads).map(inflater).collect::<io::Result<Vec<_>>>()?));
        let pool = Workers::new(threads, "inflate", || {})?;
        let (free, take) = channel();
        for _ in 0..2 * threads + SPARE_BUFFERS {
            // The receiver lives in this function.
            let _ = free.send(Job::default());
        }
        let (give, done) = channel();
        let options = options.clone();
        let reader = std::thread::Builder::new().name("read".to_owned()).spawn(move || {
            let submit = Submit { pool, inflaters, give, take, next: 0, stop: options.stop };
            match plan {
                Plan::Index(plan) => read_archive(&archive, *plan, options.hash_archive, submit),
                Plan::Scan => scan_archive(&archive, options.hash_archive, submit),
            }
        })?;
        Ok(Self {
            done: Some(done),
            free: Some(free),
            reader: Some(reader),
            early: BTreeMap::new(),
            next: 0,
            findings: Findings::default(),
            held: None,
        })
    }

    /// The next piece, `None` after the last. `done_with` is the piece before it, whose buffer is used again.
    pub fn next_chunk(&mut self, done_with: Option<Chunk>) -> Option<Chunk> {
        if let (Some(mut job), Some(free)) = (self.held.take(), &self.free) {
            job.chunk.data = done_with.map_or_else(Vec::new, |chunk| chunk.data);
            // Fails only when all is read.
            let _ = free.send(job);
        }
        while !self.early.contains_key(&self.next) {
            let (number, job) = self.done.as_ref()?.recv().ok()?;
            self.early.insert(number, job);
        }
        let mut job = self.early.remove(&self.next)?;
        self.next += 1;
        job.findings.drain(..).for_each(|finding| self.findings.add(finding));
        let chunk = std::mem::take(&mut job.chunk);
        self.held = Some(job);
        Some(chunk)
    }

    /// Ends reading, early or not, and says what was seen.
    pub fn finish(mut self) -> StreamOutcome {
        // A reader that still has something to give sees that nobody takes it.
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
            // Given up: what the reader has to say is of no interest any more.
            let _ = reader.join();
        }
    }
}

/// The reading thread's way to hand members on.
pub(super) struct Submit {
    pool: Workers,
    inflaters: Arc<Mutex<Vec<Decompressor>>>,
    give: Sender<(u64, Job)>,
    take: Receiver<Job>,
    next: u64,
    stop: Vec<Arc<AtomicBool>>,
}

/// Nobody wants more, or somebody wants it to stop.
pub(super) struct Over {
    pub(super) stopped: bool,
}

impl Submit {
    /// An empty job, as soon as one is free.
    pub(super) fn job(&self) -> Result<Job, Over> {
        if self.stop.iter().any(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Over { stopped: true });
        }
        self.take.recv().map_err(|_| Over { stopped: false })
    }

    /// Hands on a member to be checked and inflated.
    pub(super) fn inflate(&mut self, mut job: Job) {
        let (number, give, inflaters) = (self.next, self.give.clone(), Arc::clone(&self.inflaters));
        self.next += 1;
        self.pool.give(move || {
            let lock = || inflaters.lock().unwrap_or_else(PoisonError::into_inner);
            // As many inflaters as threads: one is always there.
            let Some(mut inflater) = lock().pop() else { return };
            check_and_inflate(&mut job, &mut inflater);
            lock().push(inflater);
            // Fails only when nobody wants it any more.
            let _ = give.send((number, job));
        });
    }

    /// Hands on a piece that needs no inflating: one that is lost, or was inflated already.
    pub(super) fn pass(&mut self, job: Job) {
        let _ = self.give.send((self.next, job));
        self.next += 1;
    }
}

/// Fills the chunk with the member's data, or says why that is lost.
fn check_and_inflate(job: &mut Job, inflater: &mut Decompressor) {
    let chunk = &mut job.chunk;
    let mut find = |what: String| {
        let (member, offset) = (Some(chunk.number), chunk.archive_offset);
        job.findings.push(StreamFinding { in_index: false, member, offset, what });
    };
    let as_indexed = job.digest.is_none_or(|digest| digest.is_of(&job.member));
    match inflate(&job.member, chunk.tar_length, &mut chunk.data, inflater) {
        Ok(()) => {
            // The bytes differ, and what they decompress to is whole all the same: in the header, or made to be so.
            if !as_indexed {
                find("its digest is not the one in the index".to_owned());
            } else if job.header_damaged {
                find("its header is damaged".to_owned());
            }
        }
        Err(what) => {
            chunk.data.clear();
            find(what.clone());
            chunk.lost = Some(what);
        }
    }
}

/// Inflates a member of ours. Exactly `data_bytes` must come out, with the right CRC.
fn inflate(member: &[u8], data_bytes: u64, data: &mut Vec<u8>, inflater: &mut Decompressor) -> Result<(), String> {
    let len = usize::try_from(data_bytes).ok().filter(|len| *len <= MAX_MEMBER_DATA);
    let (Some(len), true) = (len, member.len() > HEADER_BYTES + TRAILER_BYTES) else {
        return Err("its lengths are out of bounds".to_owned());
    };
    data.resize(len, 0);
    let (deflated, trailer) = member[HEADER_BYTES..].split_at(member.len() - HEADER_BYTES - TRAILER_BYTES);
    match inflater.deflate_decompress(deflated, data) {
        Ok(found) if found == len => {}
        Ok(found) => return Err(format!("it decompresses to {found} bytes, not {len}")),
        Err(_) => return Err("it cannot be decompressed".to_owned()),
    }
    let crc = libdeflater::crc32(data);
    if trailer[..4] != crc.to_le_bytes() {
        return Err("its CRC is wrong".to_owned());
    }
    if trailer[4..] != u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes() {
        return Err("the length at its end is wrong".to_owned());
    }
    Ok(())
}
