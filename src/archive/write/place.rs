//! The entries' names and links, in the order of the walk; and the queue of those that are to be read.

use std::collections::VecDeque;

use super::ArchiveWriter;
use super::carry::CarriedRun;
use crate::archive::error::ArchiveError;
use crate::archive::links::Name;
use crate::entry::{Entry, EntryKind, Timestamp};
use crate::events::Severity;

/// Linux's `PATH_MAX` without its final NUL: no program can make a longer path in one piece.
const LONGEST_PATH_BYTES: usize = 4095;
/// So many files are opened before their turn, for the kernel to read them ahead.
const AHEAD_ENTRIES: usize = 128;
/// The attributes of the entries that wait have at most about this much together.
const AHEAD_XATTR_BYTES: usize = 8 << 20;

/// An entry with its name in the archive and its place among the hard links.
pub(super) struct Placed {
    pub(super) entry: Entry,
    pub(super) path: Vec<u8>,
    pub(super) link: Link,
    /// What the previous index says of it, when nothing points at a change.
    pub(super) before: Option<Before>,
}

impl Placed {
    /// Whether it is a further name of an inode that is in the archive.
    pub(super) fn is_further_name(&self) -> bool {
        matches!(self.link, Link::Further(_))
    }
}

/// Whether other names of its inode are in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It has no other names, or they are not known.
    None,
    /// Others may come.
    First,
    /// The first of them is this path.
    Further(Vec<u8>),
}

/// What is kept of a line of the previous index.
pub(super) struct Before {
    pub(super) head: [u8; 16],
    pub(super) ino: u64,
    pub(super) ctime: Timestamp,
    pub(super) content: Option<[u8; 32]>,
}

/// What is next in the archive.
enum Queued {
    Read(Box<Placed>),
    Carried(Box<CarriedRun>),
}

/// What was decided on and is not in the archive yet.
#[derive(Default)]
pub(super) struct Queue {
    items: VecDeque<Queued>,
    reads: usize,
    xattr_bytes: usize,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.reads >= AHEAD_ENTRIES || self.xattr_bytes >= AHEAD_XATTR_BYTES
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn push_run(&mut self, run: CarriedRun) {
        self.items.push_back(Queued::Carried(Box::new(run)));
    }

    fn push_read(&mut self, placed: Box<Placed>) {
        self.reads += 1;
        self.xattr_bytes += placed.entry.xattr_bytes();
        self.items.push_back(Queued::Read(placed));
    }

    fn pop(&mut self) -> Option<Queued> {
        let item = self.items.pop_front();
        if let Some(Queued::Read(placed)) = &item {
            self.reads -= 1;
            self.xattr_bytes -= placed.entry.xattr_bytes();
        }
        item
    }
}

impl ArchiveWriter<'_> {
    /// Gives an entry its path, and notes it among the names of its inode.
    pub(super) fn place(&mut self, mut entry: Entry) -> Box<Placed> {
        let mut path = Vec::with_capacity(self.prefix.len() + 1 + entry.path.len());
        path.extend_from_slice(&self.prefix);
        if !entry.path.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&entry.path);
        }
        if path.len() > LONGEST_PATH_BYTES {
            let what = "its path is longer than 4095 bytes: archived, but tar restores it only with --strip-components";
            self.tell(Severity::Warning, &path, what);
        }
        let mut link = Link::None;
        let may_have_links = !matches!(entry.kind, EntryKind::Directory | EntryKind::Socket);
        if may_have_links && entry.metadata.nlink > 1 {
            let key = (entry.metadata.dev, entry.metadata.ino);
            link = match self.links.note(key, entry.metadata.nlink, &path) {
                Name::First => Link::First,
                Name::Further(first) => {
                    // They are in the archive with the first name. A group may have thousands of further ones.
                    entry.xattrs = Vec::new();
                    Link::Further(first)
                }
                Name::NotKept => {
                    let what = "there are too many hard links; archived, but its other names become files of their own";
                    self.tell(Severity::Warning, &path, what);
                    Link::None
                }
            };
        }
        Box::new(Placed { entry, path, link, before: None })
    }

    /// Queues an entry that is to be read, and has its data read ahead. What cannot be opened is left out.
    pub(super) fn queue_read(&mut self, placed: Box<Placed>) -> Result<(), ArchiveError> {
        self.queue_run()?;
        while self.queue.is_full() {
            self.read_next()?;
        }
        if let (EntryKind::File(content), Link::None | Link::First) = (&placed.entry.kind, &placed.link)
            && let Err(error) = content.prefetch()
        {
            let metadata = &placed.entry.metadata;
            if placed.link == Link::None || self.links.take_back((metadata.dev, metadata.ino), metadata.nlink) {
                self.tell(Severity::Error, &placed.path, format!("the file cannot be opened, left out: {error}"));
                return Ok(());
            }
            // Its other names lead to this one, which is therefore needed: what reads it gives zeros, and says so.
        }
        self.queue.push_read(placed);
        Ok(())
    }

    /// Brings all that is queued into the archive.
    pub(super) fn read_queue(&mut self) -> Result<(), ArchiveError> {
        self.queue_run()?;
        while !self.queue.is_empty() {
            self.read_next()?;
        }
        Ok(())
    }

    /// Brings what is next into the archive.
    pub(super) fn read_next(&mut self) -> Result<(), ArchiveError> {
        self.check_stop()?;
        match self.queue.pop() {
            Some(Queued::Read(placed)) => self.store(*placed),
            Some(Queued::Carried(run)) => self.carry_run(*run),
            None => Ok(()),
        }
    }
}
