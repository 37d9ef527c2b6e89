//! Entries become a tar stream, cut into members where the entries themselves say so.
//!
//! An entry is first given its place among the names and links that came before it (`place`); then it is found out whether
//! it is carried forward from the previous backup, together with its neighbours (`carry`). What is not is queued, so
//! that the kernel reads some files ahead, and then read (`store`).

mod carry;
mod place;
mod store;

use std::io;
use std::sync::Arc;

use self::carry::Carrying;
use self::place::Queue;
use super::carry::Share;
use super::carry::parent::Parent;
use super::counts::{CarryCounts, Counts};
use super::error::ArchiveError;
use super::head_digest::HeadDigests;
use super::index::IndexedKind;
use super::level::Level;
use super::links::Links;
use super::members::{MemberWriter, Outputs, WrittenMembers};
use super::pax::{self, EntryType};
use crate::entry::{Entry, EntryKind, FileContent, Metadata, Timestamp};
use crate::events::{Event, Observer, Problem, Severity};
use crate::shown;

/// An entry that takes this much has members of its own.
const TARGET_MEMBER_BYTES: u64 = 512 * 1024;
/// Smaller entries share members that are of about this size on average: the smaller, the less has to be read again for
/// one that changed, and the less is compressed together.
const SHARED_MEMBER_BYTES: u64 = 80 * 1024;
/// And where entries are so small that more would go in there, of about this many beyond [`MIN_MEMBER_BYTES`].
const SHARED_MEMBER_ENTRIES: u64 = 3;
/// A shared member is not ended before it has this much.
const MIN_MEMBER_BYTES: usize = 20 * 1024;
/// Headers up to this length do not count in [`Room`]: what is longer holds extended attributes, which inodes can share.
const USUAL_HEAD_BYTES: u64 = 4096;
/// How much of a sparse map is made at once.
const MAP_PIECE_BYTES: usize = 64 * 1024;
/// So many entries that are done with are handed back at once.
const SPENT_ENTRIES: usize = 256;
/// The observer is told of what was read in steps of at least this size.
const PROGRESS_STEP_BYTES: u64 = 1 << 20;

/// Asked now and then whether the work is to stop.
pub type StopCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// How an archive is written.
#[derive(Clone)]
pub struct ArchiveOptions {
    /// How hard members are compressed.
    pub level: Level,
    /// How many threads compress.
    pub threads: usize,
    /// Writing stops soon after this says so.
    pub stop: StopCheck,
}

/// A finished archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenArchive {
    /// Lengths and digests.
    pub members: WrittenMembers,
    /// What is in it.
    pub counts: Counts,
    /// What of it was carried forward; `None` without a previous backup.
    pub carried: Option<CarryCounts>,
}

/// How much of a filesystem is archived at most: data, maps of holes, and headers beyond their usual length. A tenant can
/// have a few blocks mapped as often as he likes.
#[derive(Clone, Copy, Debug)]
struct Room {
    limit_bytes: u64,
    taken_bytes: u64,
}

impl Room {
    const UNLIMITED: Self = Self { limit_bytes: u64::MAX, taken_bytes: 0 };

    fn take(&mut self, bytes: u64) {
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
    }

    /// Whether there is room for so many bytes more.
    fn check(&self, more_bytes: u64) -> Result<(), ArchiveError> {
        if self.taken_bytes.saturating_add(more_bytes) > self.limit_bytes {
            return Err(ArchiveError::TooMuch { limit_bytes: self.limit_bytes });
        }
        Ok(())
    }
}

/// Writes an archive, one filesystem or raw image after the other.
pub struct ArchiveWriter<'a> {
    members: MemberWriter,
    stop: StopCheck,
    observer: &'a dyn Observer,
    tar_offset: u64,
    max_tar_bytes: u64,
    prefix: Vec<u8>,
    links: Links,
    counts: Counts,
    unreported_bytes: u64,
    queue: Queue,
    /// Of the filesystem that was started last.
    room: Room,
    /// Entries that are done with: see [`ArchiveWriter::take_spent`].
    spent: Vec<Entry>,
    head_digests: HeadDigests,
    /// In which the headers of an entry are made that are not written.
    head_buffer: Vec<u8>,
    carrying: Option<Carrying>,
    /// So many of the next entry's bytes are in the archive already, carried from the previous one: the rest of it was
    /// damaged there.
    carried_bytes: u64,
    /// Whether the entry that is being read has such bytes.
    has_carried_part: bool,
}

impl<'a> ArchiveWriter<'a> {
    /// Starts an archive. Problems of single files are told to `observer`, and the archive goes on.
    pub fn new(outputs: Outputs, options: &ArchiveOptions, observer: &'a dyn Observer) -> Result<Self, ArchiveError> {
        Ok(Self {
            members: MemberWriter::new(outputs, options.level, options.threads)?,
            stop: Arc::clone(&options.stop),
            observer,
            tar_offset: 0,
            max_tar_bytes: u64::MAX,
            prefix: b".".to_vec(),
            links: Links::default(),
            counts: Counts::default(),
            unreported_bytes: 0,
            queue: Queue::default(),
            room: Room::UNLIMITED,
            spent: Vec::new(),
            head_digests: HeadDigests::default(),
            head_buffer: Vec::new(),
            carrying: None,
            carried_bytes: 0,
            has_carried_part: false,
        })
    }

    /// What is as it was in `parent` is carried forward from there, but for what is to be read again today.
    pub fn carry_from(&mut self, parent: Parent, share: Share) {
        self.members.carry_from(Arc::clone(parent.archive()));
        self.carrying = Some(Carrying::new(parent, share));
    }

    /// What follows is a filesystem whose root is `.` or `./directory`. Its entries may be carried forward if they were
    /// last changed before `carry_before`; without that, all of it is read.
    pub fn start_filesystem(
        &mut self,
        directory: Option<&str>,
        carry_before: Option<Timestamp>,
    ) -> Result<(), ArchiveError> {
        self.end_filesystem()?;
        self.prefix = b".".to_vec();
        if let Some(directory) = directory {
            self.prefix.push(b'/');
            self.prefix.extend_from_slice(directory.as_bytes());
        }
        // The next filesystem may use the same device and inode numbers.
        self.links.clear();
        if let Some(carrying) = &mut self.carrying {
            carrying.start_filesystem(carry_before);
        }
        Ok(())
    }

    /// The archive may be no longer than so many bytes, before it is compressed. An entry that would pass this fails with
    /// [`ArchiveError::TooLong`].
    pub fn limit_archive(&mut self, limit_bytes: u64) {
        self.max_tar_bytes = limit_bytes;
    }

    /// No more than so many bytes of the filesystem that was started last are archived: data, maps of holes, and the part
    /// of each header beyond 4 KiB. The entry that would pass this fails with [`ArchiveError::TooMuch`] before any of its
    /// data is written.
    pub fn limit_filesystem(&mut self, limit_bytes: u64) {
        self.room = Room { limit_bytes, ..self.room };
    }

    /// Adds an entry of the filesystem that was started last. It may be read later than this: before
    /// [`ArchiveWriter::end_filesystem`] returns.
    pub fn append(&mut self, entry: Entry) -> Result<(), ArchiveError> {
        self.check_stop()?;
        self.room.check(0)?;
        self.check_length(0)?;
        let placed = self.place(entry);
        self.decide(placed)
    }

    /// Entries that are done with, as soon as there are some hundred: whoever made them may want to free them. What is not
    /// taken is freed here.
    pub fn take_spent(&mut self) -> Option<Vec<Entry>> {
        (self.spent.len() >= SPENT_ENTRIES)
            .then(|| std::mem::replace(&mut self.spent, Vec::with_capacity(SPENT_ENTRIES)))
    }

    /// All entries of the filesystem were added; nothing of it is needed any more when this returns.
    pub fn end_filesystem(&mut self) -> Result<(), ArchiveError> {
        self.give_up_group()?;
        self.read_queue()?;
        self.spent.clear();
        self.room = Room::UNLIMITED;
        Ok(())
    }

    /// Adds the raw image of a region of `size` bytes as `./file_name`.
    pub fn append_raw_image(
        &mut self,
        file_name: &str,
        image: &dyn FileContent,
        size: u64,
        mtime: Timestamp,
    ) -> Result<(), ArchiveError> {
        self.end_filesystem()?;
        let path = [b"./", file_name.as_bytes()].concat();
        let metadata = Metadata { mode: 0o600, size, mtime, nlink: 1, ..Metadata::default() };
        let runs = self.runs_of(&path, image, size)?;
        let head = pax::head(&path, EntryType::SparseFile(runs.area()), &metadata, &[]);
        self.counts.raw_images += 1;
        self.put_data(path, &head, &runs, image, IndexedKind::RawImage, &metadata, None)
    }

    /// How many bytes of the filesystem that was started last count for its limit so far.
    pub fn taken_bytes(&self) -> u64 {
        self.room.taken_bytes
    }

    /// Ends the archive and waits until all of it is written.
    pub fn finish(mut self) -> Result<WrittenArchive, ArchiveError> {
        self.check_stop()?;
        self.end_filesystem()?;
        self.members.end_member()?;
        self.members.push(&pax::END)?;
        self.report_progress(true);
        let Self { members, counts, carrying, tar_offset, .. } = self;
        let carried = carrying.map(|carrying| carrying.counts());
        let members = members.finish()?;
        if members.totals.tar_bytes != tar_offset + pax::END.len() as u64 {
            return Err(ArchiveError::Write(io::Error::other("the tar stream is not as long as its entries together")));
        }
        Ok(WrittenArchive { members, counts, carried })
    }

    /// Lets go of all files that wait for their turn, so that their filesystem can be unmounted. The archive cannot be
    /// finished afterwards.
    pub fn give_up(&mut self) {
        self.queue.clear();
        self.spent.clear();
        if let Some(carrying) = &mut self.carrying {
            carrying.give_up();
        }
    }

    fn spend(&mut self, mut entry: Entry) {
        if let EntryKind::File(content) = &entry.kind {
            content.close();
        }
        // What they take has no bound but its own.
        entry.xattrs = Vec::new();
        if self.spent.len() == SPENT_ENTRIES {
            self.spent.clear();
        }
        self.spent.push(entry);
    }

    fn check_length(&self, more_bytes: u64) -> Result<(), ArchiveError> {
        if self.tar_offset.saturating_add(more_bytes) > self.max_tar_bytes {
            return Err(ArchiveError::TooLong { limit_bytes: self.max_tar_bytes });
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), ArchiveError> {
        if (self.stop)() { Err(ArchiveError::Stopped) } else { Ok(()) }
    }

    fn report_progress(&mut self, all: bool) {
        if self.unreported_bytes >= PROGRESS_STEP_BYTES || (all && self.unreported_bytes > 0) {
            self.observer.on_event(&Event::Read { bytes: self.unreported_bytes });
            self.unreported_bytes = 0;
        }
    }

    fn tell(&self, severity: Severity, path: &[u8], what: impl Into<String>) {
        self.observer.on_event(&Event::Problem(Problem::new(severity, shown::path(path), what)));
    }
}

#[cfg(test)]
mod tests;
