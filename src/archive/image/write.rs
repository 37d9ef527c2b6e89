//! Writes an image archive: reads the used blocks of a volume once, in ascending order, and compresses them in parallel.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::BORDER_BYTES;
use super::index::Holds;
use super::mapping::{BorderMapping, MappingDigest, VolumeMapping};
use super::parent::{ImageParent, OldMember};
use super::sink::{ImageSink, Item, Job, Origin};
use super::volume::{Content, Used};
use crate::archive::codec::{self, Encode, MAX_MEMBER_DATA, WIDEST};
use crate::archive::counts::CarryCounts;
use crate::archive::data::{DataOutcome, read_or_zero};
use crate::archive::error::ArchiveError;
use crate::archive::kind::Compression;
use crate::archive::level::{LevelControl, LevelNow};
use crate::archive::members::{
    Delivered, Failed, Outputs, SPARE_BUFFERS, Sequencer, Spares, WrittenMembers, yield_to_the_others,
};
use crate::archive::workers::Workers;
use crate::archive::write::WriteOptions;
use crate::events::{Event, Observer};
use crate::outside::BlockRead;
use crate::outside::zeros::is_zero;
use crate::units::ByteRange;

/// How far ahead of the reading the kernel is asked to read.
const AHEAD_BYTES: u64 = 4 << 20;

/// The volume.
#[derive(Clone, Copy)]
pub struct ImageOf<'a> {
    /// Its bytes.
    pub blocks: &'a dyn BlockRead,
    /// The ranges that are kept, ascending and not adjacent; all other bytes become zeros.
    pub used: &'a [ByteRange],
    /// What its thin pool says about it; `None` if that is not known.
    pub mapping: Option<&'a VolumeMapping>,
    /// Members of which the pool says what it said at the previous archive, all chunks older than this time, have their content
    /// and are not read. `None`: everything is read.
    pub unchanged_before: Option<u64>,
}

/// A finished image archive.
#[derive(Clone, Debug)]
pub struct WrittenImage {
    /// Lengths and digests; the decompressed archive is the volume.
    pub members: WrittenMembers,
    /// The bytes in members that are not zeros.
    pub data_bytes: u64,
    /// The bytes that were read.
    pub read_bytes: u64,
    /// The used bytes that were not read, since they are unchanged.
    pub unread_bytes: u64,
    /// Why, from some place on, everything was read.
    pub mapping_lost: Option<String>,
    /// What was copied; `None` without a previous archive.
    pub carried: Option<CarryCounts>,
    /// What could not be read, one line each; it is zeros in the archive.
    pub complaints: Vec<String>,
    /// What was read only at the second attempt.
    pub warning: Option<String>,
}

/// Writes the archive and its index.
pub fn write_image(
    of: ImageOf<'_>,
    outputs: Outputs,
    options: &WriteOptions,
    parent: Option<ImageParent>,
    observer: &dyn Observer,
) -> Result<WrittenImage, ArchiveError> {
    options.level.check()?;
    let threads = options.threads.max(1);
    let level = LevelNow::new(options.level);
    let control = LevelControl::new(options.level, Arc::clone(&level), threads);
    let codec = Compression::Gzip.codec_for(options.recipients.as_ref());
    let encoders = (0..threads).map(|_| codec.encoder(level.get())).collect::<Result<Vec<_>, _>>()?;
    let (give_back, free) = channel();
    let sink = ImageSink::new(outputs, options.recipients.clone(), of.mapping.is_some(), give_back, control);
    let mut sink = sink.map_err(ArchiveError::Write)?;
    if let Some(parent) = &parent {
        sink.refer_to(parent.archive(), parent.members());
        if let Some(table) = parent.segments() {
            sink.know_segments_of(table);
        }
    }
    let had_parent = parent.is_some();
    let mut writer = Writer {
        of,
        observer,
        parent,
        compressing: Compressing {
            order: Arc::new(Sequencer::new(sink)),
            encoders: Arc::new(Mutex::new(encoders)),
            level,
        },
        free: Spares::new(2 * threads + SPARE_BUFFERS, free),
        next_number: 0,
        outcome: DataOutcome::default(),
        read_bytes: 0,
        unread_bytes: 0,
        mapping_lost: None,
        asked_until: 0,
        pool: Workers::new(threads, "compress", yield_to_the_others).map_err(ArchiveError::Write)?,
    };
    observer.on_event(&Event::ExpectedBytes { bytes: of.used.iter().map(|run| run.len).sum() });
    writer.write_all(options)?;
    let written = writer.compressing.order.finish(writer.next_number).map_err(ArchiveError::Write)?;
    Ok(WrittenImage {
        members: written.members,
        data_bytes: written.data_bytes,
        read_bytes: writer.read_bytes,
        unread_bytes: writer.unread_bytes,
        mapping_lost: writer.mapping_lost.take(),
        carried: had_parent.then_some(written.carried),
        complaints: writer.outcome.complaints(of.blocks.len_bytes()),
        warning: writer.outcome.warning(),
    })
}

struct Writer<'a> {
    of: ImageOf<'a>,
    observer: &'a dyn Observer,
    parent: Option<ImageParent>,
    compressing: Compressing,
    free: Spares<Job>,
    next_number: u64,
    outcome: DataOutcome,
    read_bytes: u64,
    unread_bytes: u64,
    mapping_lost: Option<String>,
    /// The kernel was asked to read up to here.
    asked_until: u64,
    /// Last: dropping it waits for what it does, after the order was given up.
    pool: Workers,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // No effect after it was finished.
        self.compressing.order.give_up();
    }
}

impl Writer<'_> {
    fn write_all(&mut self, options: &WriteOptions) -> Result<(), ArchiveError> {
        let len = self.of.blocks.len_bytes();
        let mut used = Used { runs: self.of.used, len };
        let mut at = 0;
        while at < len {
            if (options.stop)() {
                return Err(ArchiveError::Stopped);
            }
            let next = used.next(at).map_or(len, |run| run.start / BORDER_BYTES * BORDER_BYTES);
            if next > at {
                self.deliver_zeros(next - at)?;
                at = next;
                continue;
            }
            let bytes = (len - at).min(BORDER_BYTES);
            let mapping = self.mapping_at(at);
            let digest = mapping.as_ref().map(|mapping| mapping.digest(used.within(at, at + bytes)));
            if let Some((mapping, digest)) = mapping.zip(digest)
                && self.carry_unread(at, bytes, &mapping, digest)?
            {
                let unread = used.within(at, at + bytes).map(|(from, to)| to - from).sum();
                self.unread_bytes += unread;
                self.observer.on_event(&Event::Carried { bytes: unread });
                at += bytes;
                continue;
            }
            let mut job = self.read(at, bytes, &mut used)?;
            // What could not be read is zeros, and is tried again next time.
            job.mapping = digest.filter(|_| !self.outcome.is_damaged());
            let job_bytes = job.data_len as u64;
            self.compress(at, job);
            at += job_bytes;
        }
        if (options.stop)() { Err(ArchiveError::Stopped) } else { Ok(()) }
    }

    /// The mapping of a piece of the volume. After a failure there is none any more.
    fn mapping_at(&mut self, start: u64) -> Option<BorderMapping> {
        let found = self.of.mapping?.at(start / BORDER_BYTES);
        found.map_err(|error| (self.of.mapping, self.mapping_lost) = (None, Some(error.to_string()))).ok()
    }

    /// Takes the member of the previous archive without reading its piece of the volume, if that is unchanged. False if it must
    /// be read.
    fn carry_unread(
        &mut self,
        start: u64,
        len: u64,
        mapping: &BorderMapping,
        digest: MappingDigest,
    ) -> Result<bool, ArchiveError> {
        if !self.of.unchanged_before.is_some_and(|before| mapping.is_older_than(before)) {
            return Ok(false);
        }
        let old = self.parent.as_mut().and_then(|parent| parent.member_at(start, len));
        let Some(old) = old.filter(|old| !old.is_due && old.member.mapping == Some(digest)) else { return Ok(false) };
        let Holds::Data(content) = old.member.holds else { return Ok(false) };
        let mut job = self.free_job()?;
        if !take_old(&old, &mut job) {
            // It is read, found damaged once more, and counted as such.
            self.free.put_back(job);
            return Ok(false);
        }
        job.data_len = usize::try_from(len).unwrap_or(0).min(MAX_MEMBER_DATA);
        (job.content, job.mapping, job.origin) = (content, Some(digest), Origin::Carried(old.member.offset));
        self.deliver(Item::Read(job))?;
        Ok(true)
    }

    fn deliver_zeros(&mut self, len: u64) -> Result<(), ArchiveError> {
        self.deliver(Item::Zeros(len))
    }

    /// Delivers what the compressing threads have nothing to do with.
    fn deliver(&mut self, item: Item) -> Result<(), ArchiveError> {
        let order = &self.compressing.order;
        let delivered = order.deliver(self.next_number, item).map_err(|Failed| self.error())?;
        self.next_number += 1;
        if delivered == Delivered::ToWrite {
            let order = Arc::clone(order);
            self.pool.give_first(move || order.write_on());
        }
        Ok(())
    }

    /// Reads the used bytes of a piece of the volume; all others are zeros.
    fn read(&mut self, start: u64, len: u64, used: &mut Used<'_>) -> Result<Job, ArchiveError> {
        let mut job = self.free_job()?;
        // At most a border.
        job.data_len = usize::try_from(len).unwrap_or(0).min(MAX_MEMBER_DATA);
        self.read_ahead(start, used);
        let (mut at, end) = (start, start + len);
        let content = Content(self.of.blocks);
        let place = |at: u64| usize::try_from(at - start).unwrap_or(0);
        let mut read_bytes = 0;
        while at < end {
            let run = used.next(at).map(|run| (run.start.min(end), run.start.saturating_add(run.len).min(end)));
            let (from, to) = run.unwrap_or((end, end));
            job.data[place(at)..place(from)].fill(0);
            read_or_zero(&content, from, &mut job.data[place(from)..place(to)], &mut self.outcome);
            read_bytes += to - from;
            at = to;
        }
        self.read_bytes += read_bytes;
        self.observer.on_event(&Event::Read { bytes: read_bytes });
        Ok(job)
    }

    fn free_job(&mut self) -> Result<Job, ArchiveError> {
        loop {
            match self.free.take(Job::empty) {
                Some(job) => return Ok(job),
                None => self.free.wait().map_err(|_| self.error())?,
            }
        }
    }

    /// Asks the kernel for the used bytes that come next.
    fn read_ahead(&mut self, start: u64, used: &Used<'_>) {
        let until = start + AHEAD_BYTES;
        if self.asked_until > start + AHEAD_BYTES / 2 {
            return;
        }
        let from = self.asked_until.max(start);
        for run in used.runs.iter().take_while(|run| run.start < until) {
            let (first, end) = (run.start.max(from), run.start.saturating_add(run.len).min(until));
            if first < end {
                self.of.blocks.will_read(first, end - first);
            }
        }
        self.asked_until = until;
    }

    fn compress(&mut self, start: u64, job: Job) {
        let old = self.parent.as_mut().and_then(|parent| parent.member_at(start, job.data_len as u64));
        let (number, compressing) = (self.next_number, self.compressing.clone());
        self.next_number += 1;
        self.pool.give(move || compressing.run(number, job, old));
    }

    fn error(&self) -> ArchiveError {
        ArchiveError::Write(self.compressing.order.error())
    }
}

/// What the compressing threads share.
#[derive(Clone)]
struct Compressing {
    order: Arc<Sequencer<ImageSink>>,
    encoders: Arc<Mutex<Vec<Box<dyn Encode>>>>,
    level: Arc<LevelNow>,
}

impl Compressing {
    /// Makes a member of a piece of the volume, or takes that of the previous archive if its content is the same.
    fn run(&self, number: u64, mut job: Job, old: Option<OldMember>) {
        let began = Instant::now();
        let data = &job.data[..job.data_len];
        if is_zero(data) {
            job.origin = Origin::Zeros;
        } else {
            job.content = blake3::hash(data).into();
            let old = old.filter(|old| old.member.holds == Holds::Data(job.content));
            let due = old.as_ref().is_some_and(|old| old.is_due);
            let copied = old.filter(|old| !old.is_due).map(|old| take_old(&old, &mut job).then_some(old.member.offset));
            if let Some(Some(offset)) = copied {
                job.origin = Origin::Carried(offset);
            } else {
                let level = self.encode(&mut job);
                job.origin = match copied {
                    Some(_) => Origin::Mismatch(level),
                    None if due => Origin::Due(level),
                    None => Origin::Compressed(level),
                };
            }
        }
        self.level.note_busy(began.elapsed());
        // The next call of the producer returns the error.
        if let Ok(Delivered::ToWrite) = self.order.deliver(number, Item::Read(job)) {
            self.order.write_on();
        }
    }

    fn encode(&self, job: &mut Job) -> i32 {
        let lock = || self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        // There are as many encoders as threads, so one is available.
        let Some(mut encoder) = lock().pop() else { return 0 };
        // The level was checked; on failure the encoder keeps its present level.
        let _ = encoder.set_level(self.level.get());
        job.member_len = encoder.encode(&job.data[..job.data_len], &mut job.member);
        let level = encoder.level();
        lock().push(encoder);
        job.digest = blake3::hash(&job.member[..job.member_len]).into();
        level
    }
}

/// Reads a member of the previous archive. False if it is not what its index says.
fn take_old(old: &OldMember, job: &mut Job) -> bool {
    let Some(len) = usize::try_from(old.member.length).ok().filter(|len| *len <= WIDEST.max_member_bytes) else {
        return false;
    };
    // An encrypted member leaves a buffer of its own length.
    if job.member.len() < len {
        job.member.resize(len, 0);
    }
    let member = &mut job.member[..len];
    // What is referred to has to be on the disk, and not only in the page cache.
    let is_referred_to = old.archive.parts().is_some();
    let let_go = || {
        if is_referred_to {
            old.archive.let_go(old.member.offset, old.member.length);
        }
    };
    let_go();
    if old.archive.read_at(old.member.offset, member).is_err() {
        return false;
    }
    let_go();
    let frame = codec::of_image_member(member).frame(member);
    if <[u8; 32]>::from(blake3::hash(member)) != old.member.digest
        || !frame.is_some_and(|frame| frame.is(old.member.length, old.member.volume_length))
    {
        return false;
    }
    (job.member_len, job.digest) = (len, old.member.digest);
    true
}

#[cfg(test)]
mod tests;
