//! Writes an archive: the entries of the walk are named, carried forward from the previous backup or read, and added.
//!
//! Each step has a type of its own. `Namer` gives an entry its path and its place among the hard links; `Carry` says
//! whether it is copied from the previous backup, together with its neighbours; `Queue` holds what was decided, so that the
//! kernel reads some files ahead and members are checked in parallel; `TarWriter` adds it to the archive.

mod namer;
mod queue;

use std::sync::Arc;

use self::namer::Namer;
use self::queue::{Queue, Queued};
use super::carry::Share;
use super::carry::candidate::CompleteGroup;
use super::carry::copy;
use super::carry::decide::{Carry, GivenUp, Offer, Why};
use super::carry::parent::Parent;
use super::counts::{CarryCounts, Counts};
use super::error::{ArchiveError, StopCheck};
use super::level::CompressionLevel;
use super::members::{MemberWriter, Outputs, WrittenMembers};
use super::placed::{Link, Placed, tell};
use super::tar::TarWriter;
use crate::entry::{Entry, EntryKind, FileContent, Timestamp};
use crate::events::{Observer, Severity};

/// How an archive is written.
#[derive(Clone)]
pub struct WriteOptions {
    /// How hard members are compressed.
    pub level: CompressionLevel,
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

/// Writes an archive, one filesystem or raw image after the other.
pub struct ArchiveWriter<'a> {
    stop: StopCheck,
    namer: Namer,
    /// The previous backup, if there is one to carry forward from.
    carry: Option<Carry>,
    queue: Queue,
    tar: TarWriter<'a>,
}

impl<'a> ArchiveWriter<'a> {
    /// Starts an archive. Problems of single files are reported to `observer`, and the archive goes on.
    pub fn new(outputs: Outputs, options: &WriteOptions, observer: &'a dyn Observer) -> Result<Self, ArchiveError> {
        let members = MemberWriter::new(outputs, options.level, options.threads)?;
        Ok(Self {
            stop: Arc::clone(&options.stop),
            namer: Namer::new(),
            carry: None,
            queue: Queue::default(),
            tar: TarWriter::new(members, Arc::clone(&options.stop), observer),
        })
    }

    /// Carries forward from `parent` what is as it was there, except for the share that is read again today.
    #[doc(hidden)]
    pub fn carry_from(&mut self, parent: Parent, share: Share) {
        self.tar.members().carry_from(Arc::clone(parent.archive()));
        self.carry = Some(Carry::new(parent, share, Arc::clone(&self.stop)));
    }

    /// The next entries are those of a filesystem whose root is `.` or `./directory`. They can be carried forward if they were
    /// last changed before `carry_before`; `None`: all are read.
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

    /// The archive may have at most `limit_bytes` before it is compressed. An entry that would pass this fails with
    /// [`ArchiveError::TooLong`].
    pub fn limit_archive(&mut self, limit_bytes: u64) {
        self.tar.room().limit_archive(limit_bytes);
    }

    /// At most `limit_bytes` of the filesystem that was started last are archived: data, maps of holes, and the part of each
    /// header beyond 4 KiB. The entry that would pass this fails with [`ArchiveError::TooMuch`] before any of its data is
    /// written.
    pub fn limit_filesystem(&mut self, limit_bytes: u64) {
        self.tar.room().limit_filesystem(limit_bytes);
    }

    /// Adds an entry of the filesystem that was started last. It may be read later than this, before
    /// [`ArchiveWriter::end_filesystem`] returns.
    pub fn append(&mut self, entry: Entry) -> Result<(), ArchiveError> {
        self.tar.check()?;
        let mut placed = self.namer.place(entry, self.tar.observer());
        loop {
            let Some(carry) = &mut self.carry else { return self.queue_read(placed) };
            match carry.offer(placed)? {
                Offer::Read(placed) => return self.queue_read(placed),
                Offer::Held => return Ok(()),
                Offer::Copy(complete) => return self.queue_copy(complete),
                Offer::GiveUp(given_up) => match self.queue_given_up(given_up)? {
                    Some(offered) => placed = offered,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Entries that are done with, as soon as there are some hundred: the walk that made them may use their memory again. The
    /// others are freed here.
    pub fn take_spent(&mut self) -> Option<Vec<Entry>> {
        self.tar.take_spent()
    }

    /// All entries of the filesystem were added; nothing of it is needed any more when this returns.
    pub fn end_filesystem(&mut self) -> Result<(), ArchiveError> {
        if let Some(given_up) = self.carry.as_mut().and_then(Carry::end_filesystem) {
            self.queue_given_up(given_up)?;
        }
        self.write_queued()?;
        self.tar.end_filesystem();
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
        self.tar.append_raw_image(file_name, image, size, mtime)
    }

    /// How many bytes of the filesystem that was started last count for its limit so far.
    pub fn taken_bytes(&self) -> u64 {
        self.tar.taken_bytes()
    }

    /// Ends the archive and waits until all of it is written.
    pub fn finish(mut self) -> Result<WrittenArchive, ArchiveError> {
        self.tar.check_stop()?;
        self.end_filesystem()?;
        let (members, counts) = self.tar.finish()?;
        Ok(WrittenArchive { members, counts, carried: self.carry.map(|carry| carry.counts()) })
    }

    /// Closes all files that wait for their turn, so that their filesystem can be unmounted. The archive cannot be
    /// finished afterwards.
    pub fn give_up(&mut self) {
        self.queue.clear();
        self.tar.free_spent();
        if let Some(carry) = &mut self.carry {
            carry.stop_carrying();
        }
    }

    /// Queues an entry that is to be read, and has its data read ahead. An entry that cannot be opened is left out.
    fn queue_read(&mut self, placed: Box<Placed>) -> Result<(), ArchiveError> {
        self.close_run()?;
        while self.queue.is_full() {
            self.write_next()?;
        }
        // Where other names lead to a file that cannot be opened it is needed: what reads it gives zeros, and says so.
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

    /// Queues the entries of a group that is not copied. Gives back the entry that is offered again.
    fn queue_given_up(&mut self, given_up: GivenUp) -> Result<Option<Box<Placed>>, ArchiveError> {
        for taken in given_up.held {
            self.queue_read(taken.placed)?;
        }
        Ok(match given_up.why {
            Why::Differs(offered) => Some(offered),
            Why::OtherHeads | Why::Ends => None,
        })
    }

    /// Queues a group that is copied. One of several members is copied at once, after all that is queued.
    fn queue_copy(&mut self, complete: CompleteGroup) -> Result<(), ArchiveError> {
        if complete.group.members > 1 {
            self.write_queued()?;
            // Only a previous backup has groups.
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

    /// Has the members of the open run checked, and queues it. Nothing that comes behind it must be queued before.
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

    /// Brings all that is queued into the archive.
    fn write_queued(&mut self) -> Result<(), ArchiveError> {
        self.close_run()?;
        while !self.queue.is_empty() {
            self.write_next()?;
        }
        Ok(())
    }

    /// Brings what is next into the archive.
    fn write_next(&mut self) -> Result<(), ArchiveError> {
        self.tar.check_stop()?;
        match self.queue.pop() {
            Some(Queued::Read(placed)) => copy::read(&mut self.tar, *placed, 0, self.carry.as_mut().map(Carry::tally)),
            Some(Queued::Copy(run)) => match &mut self.carry {
                Some(carry) => copy::copy_run(&mut self.tar, *run, carry.tally()),
                // Only a previous backup has runs.
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
