//! Writes an archive: the entries of the walk are named, carried forward from the previous backup or read, and
//! added.
//!
//! Each step has its own type. `Namer` gives an entry its path and its hard link state; `Carry` decides whether it
//! is copied from the previous backup together with its neighbours; `Queue` holds decided entries, so that the
//! kernel prefetches files and members are checked in parallel; `TarWriter` adds them to the archive.

mod held;
mod namer;
mod queue;
mod referred;
mod stored;

use std::sync::Arc;

use self::held::StoredParent;
use self::namer::Namer;
use self::queue::{Queue, Queued};
use super::carry::Share;
use super::carry::candidate::CompleteGroup;
use super::carry::copy;
use super::carry::decide::{Carry, GivenUp, Offer, Why};
use super::carry::parent::{Parent, ParentArchive};
use super::counts::{CarryCounts, Counts};
use super::error::{ArchiveError, StopCheck};
use super::kind::Compression;
use super::level::CompressionLevel;
use super::members::{KnownMembers, MemberWriter, Outputs, WrittenMembers};
use super::placed::{Link, Placed, tell};
use super::tar::TarWriter;
use crate::encryption::Recipients;
use crate::entry::{Entry, EntryKind, FileContent, Metadata, Timestamp};
use crate::events::{Observer, Severity};
use crate::outside::{BlockRead, Composed, Parts};

/// Options for writing an archive.
#[derive(Clone)]
#[non_exhaustive]
pub struct WriteOptions {
    /// The compression level.
    pub level: CompressionLevel,
    /// How its members are compressed.
    pub compression: Compression,
    /// Who can decrypt it; `None`: it is not encrypted.
    pub recipients: Option<Recipients>,
    /// The number of compression threads.
    pub threads: usize,
    /// Whether members are so small that archives of many nights share most of them.
    pub(crate) has_fine_members: bool,
    /// Writing stops soon after this returns true.
    pub stop: StopCheck,
}

impl WriteOptions {
    /// Options for an archive in gzip members that is written to its end.
    pub fn new(level: CompressionLevel, threads: usize) -> Self {
        let (compression, stop) = (Compression::default(), Arc::new(|| false));
        Self { level, compression, recipients: None, threads, has_fine_members: false, stop }
    }
}

/// A finished archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenArchive {
    /// Lengths and digests.
    #[doc(hidden)]
    pub members: WrittenMembers,
    /// Counts of its content.
    pub counts: Counts,
    /// Counts of carried content; `None` without a previous backup.
    pub carried: Option<CarryCounts>,
    /// Where the next backup goes on re-reading in the tar stream, if the previous archive is an object.
    #[doc(hidden)]
    pub reread_to: Option<u64>,
}

/// Writes an archive: filesystems and raw images in sequence.
pub struct ArchiveWriter<'a> {
    stop: StopCheck,
    namer: Namer,
    /// The previous backup, if there is one to carry forward from.
    carry: Option<Carry>,
    /// The previous backup's members with data of large files and raw images.
    known: Option<Arc<KnownMembers>>,
    /// What is copied if the previous archive is an object.
    stored: Option<StoredParent>,
    /// What is referred to if the previous archive lies in parts in an object store.
    referred: Option<Arc<Parts>>,
    queue: Queue,
    tar: TarWriter<'a>,
}

impl<'a> ArchiveWriter<'a> {
    /// Starts an archive. Problems with single files are reported to `observer` and do not stop it.
    pub fn new(outputs: Outputs, options: &WriteOptions, observer: &'a dyn Observer) -> Result<Self, ArchiveError> {
        let codec = options.compression.codec_for(options.recipients.as_ref());
        let members = MemberWriter::new(codec, outputs, options.level, options.threads)?;
        let sizes = if options.has_fine_members { codec.format().fine_sizes } else { codec.format().sizes };
        Ok(Self {
            stop: Arc::clone(&options.stop),
            namer: Namer::new(),
            carry: None,
            known: None,
            stored: None,
            referred: None,
            queue: Queue::default(),
            tar: TarWriter::new(members, sizes, Arc::clone(&options.stop), observer),
        })
    }

    /// Carries unchanged content forward from `parent`, except for the share that is re-read today. If its archive is an
    /// object, that is one stretch, which begins at `reread_from` in its tar stream.
    #[doc(hidden)]
    pub fn carry_from(&mut self, parent: Parent, share: Share, reread_from: u64) {
        let stop = Arc::clone(&self.stop);
        if let Some(table) = parent.segments() {
            self.tar.members().know_segments_of(Arc::clone(table));
        }
        let carry = match (parent.archive().clone(), parent.known_data()) {
            (ParentArchive::File(file), Some(data)) => {
                self.known = Some(self.tar.members().carry_from(file, parent.members(), data, share));
                Carry::new(parent, share, stop)
            }
            (ParentArchive::File(_), None) => return,
            (ParentArchive::Stored(object), _) => {
                self.stored = Some(StoredParent::new(object));
                Carry::in_stretches(parent, share, reread_from, stop)
            }
            (ParentArchive::Referred(parts), _) => {
                let archive: Arc<dyn BlockRead> = Arc::new(Composed(Arc::clone(&parts)));
                self.tar.members().refer_to(&archive, parent.members());
                self.referred = Some(parts);
                Carry::new(parent, share, stop)
            }
        };
        self.carry = Some(carry);
    }

    /// Begins a filesystem whose root is `.` or `./directory`. Its entries can be carried forward if they last
    /// changed before `carry_before`; `None`: all are read.
    #[doc(hidden)]
    pub fn start_filesystem(
        &mut self,
        directory: Option<&str>,
        carry_before: Option<Timestamp>,
    ) -> Result<(), ArchiveError> {
        self.end_filesystem()?;
        self.namer.start_filesystem(directory);
        if let Some(carry) = &mut self.carry {
            carry.start_filesystem(carry_before);
        }
        Ok(())
    }

    /// Limits the archive's length before compression. An entry beyond it fails with [`ArchiveError::TooLong`].
    pub(crate) fn limit_archive(&mut self, limit_bytes: u64) {
        self.tar.room().limit_archive(limit_bytes);
    }

    /// Limits the archived bytes of the current filesystem: data, maps of holes, and the part of each header beyond
    /// 4 KiB. An entry beyond it fails with [`ArchiveError::TooMuch`] before any of its data is written.
    pub(crate) fn limit_filesystem(&mut self, limit_bytes: u64) {
        self.tar.room().limit_filesystem(limit_bytes);
    }

    /// Sets the size of the region of the current filesystem. In a large region the members of large files are longer, so
    /// that there are not more than the next backup remembers.
    pub(crate) fn cut_for_region(&mut self, region_bytes: u64) {
        self.tar.cuts().set_region(region_bytes);
    }

    /// Adds an entry of the current filesystem. Its data may be read later, until `ArchiveWriter::end_filesystem`
    /// returns.
    pub fn append(&mut self, entry: Entry) -> Result<(), ArchiveError> {
        self.tar.check()?;
        let mut placed = self.namer.place(entry, self.tar.observer());
        loop {
            let Some(carry) = &mut self.carry else { return self.queue_read(placed) };
            match carry.offer(placed, self.tar.tar_offset())? {
                Offer::Read(placed) => return self.read_after_stored(placed),
                Offer::Held => return Ok(()),
                Offer::Copy(complete) if self.referred.is_some() => return self.take_referred(*complete),
                Offer::Copy(complete) if self.stored.is_some() => return self.take_stored(*complete),
                Offer::Copy(complete) => return self.queue_copy(*complete),
                Offer::GiveUp(given_up) => match self.queue_given_up(given_up)? {
                    Some(offered) => placed = offered,
                    None => return Ok(()),
                },
            }
        }
    }

    /// A batch of used entries, once there are a few hundred, so that the walk can reuse their memory. The rest is
    /// freed here.
    pub(crate) fn take_spent(&mut self) -> Option<Vec<Entry>> {
        self.tar.take_spent()
    }

    /// Ends the filesystem. After this returns, nothing of it is accessed.
    pub(crate) fn end_filesystem(&mut self) -> Result<(), ArchiveError> {
        if let Some(given_up) = self.carry.as_mut().and_then(Carry::end_filesystem) {
            self.queue_given_up(given_up)?;
        }
        self.read_stored()?;
        self.write_queued()?;
        self.tar.end_filesystem();
        Ok(())
    }

    /// Adds the raw image of a region of `size` bytes as `./file_name`. All of its data are read; members between two
    /// borders whose data the previous backup has are copied from there.
    pub(crate) fn append_raw_image(
        &mut self,
        file_name: &str,
        image: &dyn FileContent,
        size: u64,
        mtime: Timestamp,
    ) -> Result<(), ArchiveError> {
        self.end_filesystem()?;
        let metadata = Metadata { mode: 0o600, size, mtime, nlink: 1, ..Metadata::default() };
        self.tar.append_raw_image([b"./", file_name.as_bytes()].concat(), &metadata, image)
    }

    /// The bytes of the current filesystem that count for its limit.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.tar.taken_bytes()
    }

    /// Ends the archive and waits until all of it is written.
    pub fn finish(mut self) -> Result<WrittenArchive, ArchiveError> {
        self.tar.check_stop()?;
        self.end_filesystem()?;
        let observer = self.tar.observer();
        let (members, counts) = self.tar.finish()?;
        if let (Some(known), Some(carry)) = (self.known, &mut self.carry) {
            let copied = known.take_copied();
            carry.tally().note_copied_data(copied.members, copied.bytes);
            for (line, fault) in &copied.faults {
                carry.tally().note_mismatch(line, fault, observer);
            }
        }
        let reread_to = self.carry.as_ref().and_then(Carry::reread_to);
        Ok(WrittenArchive { members, counts, carried: self.carry.map(|carry| carry.counts()), reread_to })
    }

    /// Closes all waiting files, so that their filesystem can be unmounted. The archive cannot be finished
    /// afterwards.
    pub(crate) fn give_up(&mut self) {
        self.queue.clear();
        self.tar.free_spent();
        if let Some(stored) = &mut self.stored {
            stored.clear();
        }
        if let Some(carry) = &mut self.carry {
            carry.stop_carrying();
        }
    }

    /// Queues an entry to be read, and prefetches its data. An entry that cannot be opened is left out.
    fn queue_read(&mut self, placed: Box<Placed>) -> Result<(), ArchiveError> {
        self.close_run()?;
        while self.queue.is_full() {
            self.write_next()?;
        }
        // A file with other names is needed even if it cannot be opened: it is archived as zeros and reported.
        if let (EntryKind::File(content), Link::None | Link::First) = (&placed.entry.kind, &placed.link)
            && let Err(error) = content.prefetch()
            && self.namer.leave_out(&placed)
        {
            let what = format!("the file cannot be opened, left out: {error}");
            tell(self.tar.observer(), Severity::Error, &placed.path, what);
            return Ok(());
        }
        self.queue.push_read(placed);
        Ok(())
    }

    /// Queues the entries of a group that was given up. Returns the entry to offer again.
    fn queue_given_up(&mut self, given_up: GivenUp) -> Result<Option<Box<Placed>>, ArchiveError> {
        for taken in given_up.held {
            self.read_after_stored(taken.placed)?;
        }
        Ok(match given_up.why {
            Why::Differs(offered) => Some(offered),
            Why::OtherHeads | Why::Ends => None,
        })
    }

    /// Queues a group to be copied. A group with several members is copied at once, after everything queued.
    fn queue_copy(&mut self, complete: CompleteGroup) -> Result<(), ArchiveError> {
        if complete.group.members > 1 {
            self.write_queued()?;
            // Groups exist only with a previous backup.
            let Some(carry) = &mut self.carry else { return Ok(()) };
            let (index, tally) = carry.copying();
            return copy::copy_large(&mut self.tar, complete, index, tally);
        }
        if !self.queue.takes_group(&complete) {
            self.close_run()?;
        }
        self.queue.push_group(complete);
        Ok(())
    }

    /// Submits the members of the open run for checking, and queues it. Must precede any later entry.
    fn close_run(&mut self) -> Result<(), ArchiveError> {
        let Some(run) = self.queue.take_open_run() else { return Ok(()) };
        while !self.tar.members().check_carried(run.members()) {
            if self.queue.is_empty() {
                self.tar.members().wait_for_carrying();
            } else {
                self.write_next()?;
            }
        }
        self.queue.push_run(run);
        Ok(())
    }

    /// Writes everything queued.
    fn write_queued(&mut self) -> Result<(), ArchiveError> {
        self.close_run()?;
        while !self.queue.is_empty() {
            self.write_next()?;
        }
        Ok(())
    }

    /// Writes the next queued item.
    fn write_next(&mut self) -> Result<(), ArchiveError> {
        self.tar.check_stop()?;
        match self.queue.pop() {
            Some(Queued::Read(placed)) => copy::read(&mut self.tar, *placed, 0, self.carry.as_mut().map(Carry::tally)),
            Some(Queued::Copy(run)) => match &mut self.carry {
                Some(carry) => copy::copy_run(&mut self.tar, *run, carry.tally()),
                // Runs exist only with a previous backup.
                None => Ok(()),
            },
            Some(Queued::Refer(complete)) => self.refer_to_group(*complete),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
