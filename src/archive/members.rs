//! Cuts the tar stream into members, compresses them in parallel, and writes and hashes them in order.
//!
//! Each member owns one pair of buffers from filling until hashing, and their number is fixed. This bounds memory.
//! The member that is written next always has a pair, since pairs are taken in the order of the stream. Members
//! carried forward from the previous archive use separate buffers, so that waiting ones do not take any of these.

mod checked_read;
mod cut;
mod hashing;
mod job;
mod output;
mod recheck;
mod sequencer;
mod sink;
mod spares;

use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub(super) use self::checked_read::MemberFault;
use self::checked_read::Source;
pub(super) use self::cut::KnownMembers;
pub(crate) use self::hashing::Hashing;
use self::job::{Job, Ready, Stored};
pub use self::output::{
    ArchiveFile, KnownMember, KnownMembersOf, LEAST_SHARED_BLOCKS, OpenPart, Outputs, WrittenMembers,
};
use self::recheck::Carrier;
pub(super) use self::recheck::{CarriedMember, CheckedPiece, RUN_BYTES, weight};
pub(super) use self::sequencer::{Delivered, Failed, InOrder, Sequencer};
use self::sink::Sink;
pub(super) use self::spares::Spares;
use super::carry::Share;
use super::carry::known_data::KnownData;
use super::codec::{CodecRef, Encode, MAX_MEMBER_DATA};
use super::error::ArchiveError;
use super::head_digest::MemberHeads;
use super::index::{EntryLine, MemberDigest, MemberLine};
use super::kind::ArchiveKind;
use super::level::{CompressionLevel, LevelControl, LevelNow};
use super::workers::Workers;
use crate::outside::{BlockRead, StoredObject, memory};

/// Pairs of buffers in addition to those being compressed: one being filled, the others waiting. With fewer,
/// threads would wait for each other when members are small.
pub(super) const SPARE_BUFFERS: usize = 8;

/// Entries of members that are referred to may wait until all before is written, but no more of them.
const MOST_UNSETTLED: usize = 8192;

/// How much the niceness of the compression threads exceeds that of the others.
const COMPRESSING_NICE: i32 = 5;

/// The writing end. Dropping it without [`MemberWriter::finish`] cancels everything.
pub struct MemberWriter {
    pool: Workers,
    codec: CodecRef,
    encoders: Arc<Mutex<Vec<Box<dyn Encode>>>>,
    level: Arc<LevelNow>,
    order: Arc<Sequencer<Sink>>,
    free: Spares<Job>,
    current: Job,
    /// The headers of entries that end in the current member.
    heads: MemberHeads,
    next_number: u64,
    threads: usize,
    carrier: Option<Carrier>,
    known: Option<Arc<KnownMembers>>,
    compares_all: bool,
    /// Entries of members that were referred to since all was written.
    unsettled_entries: usize,
}

impl MemberWriter {
    /// Compresses with `threads` threads.
    pub(super) fn new(
        codec: CodecRef,
        outputs: Outputs,
        wanted: CompressionLevel,
        threads: usize,
    ) -> Result<Self, ArchiveError> {
        wanted.check()?;
        let threads = threads.max(1);
        let level = LevelNow::new(wanted);
        let control = LevelControl::new(wanted, Arc::clone(&level), threads);
        let encoders = (0..threads).map(|_| codec.encoder(level.get())).collect::<Result<Vec<_>, _>>()?;
        let pool = Workers::new(threads, "compress", yield_to_the_others).map_err(ArchiveError::Write)?;
        let (give_back, free) = channel();
        let order =
            Arc::new(Sequencer::new(Sink::new(codec, outputs, give_back, control).map_err(ArchiveError::Write)?));
        Ok(Self {
            pool,
            codec,
            encoders: Arc::new(Mutex::new(encoders)),
            level,
            order,
            free: Spares::new(2 * threads + SPARE_BUFFERS - 1, free),
            current: Job::empty(),
            heads: MemberHeads::default(),
            next_number: 0,
            threads,
            carrier: None,
            known: None,
            compares_all: false,
            unsettled_entries: 0,
        })
    }

    /// Enables carrying members forward from `archive`, and those with `data` of large files and raw images. Returns the
    /// copier of the latter.
    pub(super) fn carry_from(
        &mut self,
        archive: Arc<dyn BlockRead>,
        members: KnownMembersOf,
        data: &Arc<KnownData>,
        share: Share,
    ) -> Arc<KnownMembers> {
        // Shared blocks are the disk's, so check those and not the page cache; so are parts that are referred to.
        let from_disk = self.order.refer_to(&archive, members) || archive.parts().is_some();
        let source = Source::new(self.codec, Arc::clone(&archive), from_disk);
        self.carrier = Some(Carrier::new(self.codec, archive, self.threads, from_disk));
        let known = Arc::new(KnownMembers::new(Arc::clone(data), share, source));
        self.known = (!data.is_empty()).then(|| Arc::clone(&known));
        known
    }

    /// Sets the table of segments of the previous archive.
    pub(super) fn know_segments_of(&mut self, table: Arc<dyn BlockRead>) {
        // Fails only after an error, which the next member reports.
        let _ = self.order.when_written(0, |sink| sink.know_segments_of(table));
    }

    /// Submits members that are adjacent in the previous archive, to be read and checked in parallel. False if no
    /// buffer is free: then take earlier results first, or call [`MemberWriter::wait_for_carrying`].
    pub(super) fn check_carried(&mut self, lines: &[MemberLine]) -> bool {
        self.carrier.as_mut().is_some_and(|carrier| carrier.check(&self.pool, &self.level, lines))
    }

    /// Waits for a free buffer. All submitted members must have been taken.
    pub(super) fn wait_for_carrying(&mut self) {
        if let Some(carrier) = &mut self.carrier {
            carrier.wait();
        }
    }

    /// The oldest submitted piece; `None` without any.
    pub(super) fn take_carried(&mut self) -> Option<CheckedPiece> {
        self.carrier.as_mut().and_then(Carrier::take)
    }

    /// Appends members of a piece, from index `first`, after everything before.
    pub(super) fn write_carried(
        &mut self,
        piece: &CheckedPiece,
        first: usize,
        members: Vec<CarriedMember>,
    ) -> Result<(), ArchiveError> {
        self.end_member()?;
        let carried = Ready::Carried(piece.carry(first, members));
        let delivered = self.order.deliver(self.next_number, carried).map_err(|Failed| self.error())?;
        self.next_number += 1;
        if delivered == Delivered::ToWrite {
            let order = Arc::clone(&self.order);
            self.pool.give_first(move || order.write_on());
        }
        Ok(())
    }

    /// Waits until everything before is written; returns the part of an upload that is being filled.
    pub(super) fn settle_part(&mut self) -> Result<OpenPart, ArchiveError> {
        self.end_member()?;
        self.order.when_written(self.next_number, Sink::open_part).map_err(|Failed| self.error())
    }

    /// Appends members that are adjacent in an object, which its store copies. Everything before is written: see
    /// [`MemberWriter::settle_part`], so that they need not wait in memory.
    pub(super) fn write_stored(
        &mut self,
        source: &Arc<StoredObject>,
        members: Vec<CarriedMember>,
    ) -> Result<(), ArchiveError> {
        self.end_member()?;
        self.deliver_stored(Stored { source: Some(Arc::clone(source)), members })
    }

    /// Sets the previous archive, which lies in an object store in parts.
    pub(super) fn refer_to(&mut self, archive: &Arc<dyn BlockRead>, members: KnownMembersOf) {
        self.order.refer_to(archive, members);
    }

    /// Appends members that are adjacent in the previous archive, by referring to them.
    pub(super) fn write_referred(&mut self, members: Vec<CarriedMember>) -> Result<(), ArchiveError> {
        self.end_member()?;
        self.unsettled_entries += members.iter().map(|member| 1 + member.entries.len()).sum::<usize>();
        self.deliver_stored(Stored { source: None, members })?;
        if self.unsettled_entries > MOST_UNSETTLED {
            // What waits behind a slow upload is not bounded by buffers.
            self.unsettled_entries = 0;
            self.settle_part()?;
        }
        Ok(())
    }

    fn deliver_stored(&mut self, stored: Stored) -> Result<(), ArchiveError> {
        let stored = Ready::Stored(stored);
        let delivered = self.order.deliver(self.next_number, stored).map_err(|Failed| self.error())?;
        self.next_number += 1;
        if delivered == Delivered::ToWrite {
            self.order.write_on();
        }
        Ok(())
    }

    /// The length of the tar stream in the current member.
    pub fn current_bytes(&self) -> usize {
        self.current.data_len
    }

    /// The free part of the current member, to be filled and then added with [`MemberWriter::commit`]. Empty when
    /// the member is full.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.current.data[self.current.data_len..]
    }

    /// Adds the first `len` bytes of [`MemberWriter::space`].
    pub fn commit(&mut self, len: usize) {
        self.current.data_len = (self.current.data_len + len).min(MAX_MEMBER_DATA);
    }

    /// Adds bytes, ending members that are full.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let space = self.space();
            let len = space.len().min(bytes.len());
            if len == 0 {
                self.end_member()?;
                continue;
            }
            space[..len].copy_from_slice(&bytes[..len]);
            self.commit(len);
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Records an entry that ends in the current member, and its headers.
    pub fn note_entry(&mut self, entry: EntryLine, head: &[u8]) {
        self.current.entries.push(entry);
        self.heads.add(head);
    }

    /// Ends a member with data of a large file or a raw image in the current piece of the stream. It is copied from the
    /// previous archive if that has the same data. The piece, of one or more such members, ends with
    /// [`MemberWriter::end_member`].
    pub(super) fn end_cut_member(&mut self) {
        let Job { cut_ends, data_len, .. } = &mut self.current;
        if cut_ends.last().copied().unwrap_or(0) < *data_len {
            cut_ends.push(*data_len);
        }
    }

    /// Whether such a member ends here.
    pub(super) fn is_at_cut(&self) -> bool {
        self.current.cut_ends.last() == Some(&self.current.data_len)
    }

    /// Whether each member that ends from now on with [`MemberWriter::end_cut_member`], and is copied, is compared with
    /// the data: not by digest only.
    pub(super) fn compare_all(&mut self, compares_all: bool) {
        self.compares_all = compares_all;
    }

    /// Ends the current member, unless it is empty.
    pub fn end_member(&mut self) -> Result<(), ArchiveError> {
        if self.current.data_len == 0 {
            return Ok(());
        }
        if !self.current.cut_ends.is_empty() {
            // The data behind the last border are a member, too.
            self.end_cut_member();
        }
        let next = loop {
            match self.free.take(Job::empty) {
                Some(next) => break next,
                None => self.free.wait().map_err(|_| self.error())?,
            }
        };
        let mut job = std::mem::replace(&mut self.current, next);
        job.heads = self.heads.finish();
        let (number, order, encoders) = (self.next_number, Arc::clone(&self.order), Arc::clone(&self.encoders));
        let level = Arc::clone(&self.level);
        job.compares_all = self.compares_all;
        let known = self.known.clone().filter(|_| !job.cut_ends.is_empty());
        self.pool.give(move || {
            let lock = || encoders.lock().unwrap_or_else(PoisonError::into_inner);
            // There are as many encoders as threads, so one is available.
            let Some(mut encoder) = lock().pop() else { return };
            let began = Instant::now();
            // The level was checked; on failure the encoder keeps its present level.
            let _ = encoder.set_level(level.get());
            let data = &job.data[..job.data_len];
            if job.cut_ends.is_empty() {
                job.level = encoder.level();
                job.member_len = encoder.encode(data, &mut job.member);
                job.digest = MemberDigest::of(&job.member[..job.member_len]);
            } else {
                let known = (known.as_deref(), job.compares_all);
                job.cut.make(data, &job.cut_ends, known, encoder.as_mut(), &mut job.member);
                job.previous = known.0.map(|known| Arc::clone(known.archive()));
            }
            lock().push(encoder);
            level.note_busy(began.elapsed());
            // The next call returns the error.
            if let Ok(Delivered::ToWrite) = order.deliver(number, Ready::Compressed(job)) {
                order.write_on();
            }
        });
        self.next_number += 1;
        Ok(())
    }

    /// Ends the last member and waits until everything is written.
    pub fn finish(mut self) -> Result<WrittenMembers, ArchiveError> {
        self.end_member()?;
        self.order.finish(self.next_number).map_err(ArchiveError::Write)
    }

    fn error(&self) -> ArchiveError {
        ArchiveError::Write(self.order.error())
    }
}

impl Drop for MemberWriter {
    fn drop(&mut self) {
        // No effect after [`MemberWriter::finish`].
        self.order.give_up();
    }
}

/// Lowers the priority of compression, which takes all available CPU time. The threads that walk and read, and the
/// kernel's read-ahead, need little and must not be delayed: everything else would wait for them.
pub(super) fn yield_to_the_others() {
    let own = rustix::thread::gettid();
    if let Ok(nice) = rustix::process::getpriority_process(Some(own)) {
        // Without permission this costs speed only.
        let _ = rustix::process::setpriority_process(Some(own), (nice + COMPRESSING_NICE).min(19));
    }
}

/// Fails if the limits of this process do not allow the memory that writing an archive needs.
pub(crate) fn require_memory(kind: ArchiveKind, threads: usize, wanted: CompressionLevel) -> io::Result<()> {
    memory::require(needed_bytes(kind.codec(), threads.max(1), LevelNow::new(wanted).get()))
}

/// An upper bound of the memory for writing an archive: threads' stacks, buffers, encoders, and the other parts of
/// a backup. Measured, with a margin (the minimum limit for two threads is 76 MB, including 27 MB of the program
/// itself).
fn needed_bytes(codec: CodecRef, threads: usize, level: i32) -> usize {
    const EACH_BYTES: usize = 8 << 20;
    const BASE_BYTES: usize = 48 << 20;
    threads.saturating_mul(EACH_BYTES + codec.encoder_bytes(level)).saturating_add(BASE_BYTES)
}
