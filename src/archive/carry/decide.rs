//! Decides for each entry of the walk whether it is copied from the previous backup or read.
//!
//! If an entry begins a group of the previous index, the entries of the walk are compared with its lines one by
//! one, and held. If all match, the group can be copied; at the first difference the held entries are read. This
//! module does not write: [`Carry::offer`] returns the decision, and the caller acts on it.

use std::collections::VecDeque;

use super::Share;
use super::candidate::{Candidate, CompleteGroup, Taken};
use super::group::{Group, GroupReader};
use super::parent::{Parent, key_of};
use super::stretch::Stretch;
use super::tally::Tally;
use crate::archive::counts::CarryCounts;
use crate::archive::error::{ArchiveError, StopCheck};
use crate::archive::head_digest::{HeadDigests, MemberHeads};
use crate::archive::index::{EntryLine, IndexedKind};
use crate::archive::pax::{self, EntryType};
use crate::archive::placed::{Link, MemberPlace, Placed, PreviousLine, Same};
use crate::archive::runs::Runs;
use crate::entry::{EntryKind, Metadata, Timestamp};

/// How many lines of its group are searched for a changed entry.
const SEARCHED_LINES: usize = 128;

/// The decision for an offered entry.
pub(in crate::archive) enum Offer {
    /// It is read.
    Read(Box<Placed>),
    /// It matches, and so does its group so far: a later entry decides.
    Held,
    /// It completes a group, which is copied.
    Copy(Box<CompleteGroup>),
    /// The held entries are read first, before anything else.
    GiveUp(GivenUp),
}

/// Held entries that are read.
pub(in crate::archive) struct GivenUp {
    pub(in crate::archive) held: Vec<Taken>,
    pub(in crate::archive) why: Why,
}

/// Why a group is not copied.
pub(in crate::archive) enum Why {
    /// The offered entry is not the next one of the group, or differs from it. It is offered again.
    Differs(Box<Placed>),
    /// The headers of its entries differ from those in the archive.
    OtherHeads,
    /// The filesystem has no more entries.
    Ends,
}

/// What is re-read today although it is unchanged.
enum Due {
    /// Single groups, by the key of their first path.
    Groups(Share),
    /// A stretch of the archive.
    Stretch(Stretch),
}

/// The previous backup, and the position of the walk in it.
pub(in crate::archive) struct Carry {
    parent: Parent,
    due: Due,
    stop: StopCheck,
    /// Entries with a ctime older than this can be trusted: a later change would have updated it. `None`: carry nothing.
    trusted_before: Option<Timestamp>,
    candidate: Option<Candidate>,
    /// The digest of the headers of the candidate's entries.
    heads: MemberHeads,
    /// The remaining lines of the last group that was given up.
    stale: VecDeque<EntryLine>,
    head_digests: HeadDigests,
    /// A buffer for headers that are compared and not written.
    head_buffer: Vec<u8>,
    tally: Tally,
}

impl Carry {
    /// Carries from `parent`, except for the share that is re-read today.
    pub(in crate::archive) fn new(parent: Parent, share: Share, stop: StopCheck) -> Self {
        Self::with(parent, Due::Groups(share), stop)
    }

    /// The same, where the share is one stretch that begins at `from` in the tar stream of `parent`.
    pub(in crate::archive) fn in_stretches(parent: Parent, share: Share, from: u64, stop: StopCheck) -> Self {
        let stretch = Stretch::new(&share, from, parent.tar_bytes());
        Self::with(parent, Due::Stretch(stretch), stop)
    }

    fn with(parent: Parent, due: Due, stop: StopCheck) -> Self {
        let tally = Tally::new(parent.stem(), parent.archive_name());
        Self {
            parent,
            due,
            stop,
            trusted_before: None,
            candidate: None,
            heads: MemberHeads::default(),
            stale: VecDeque::new(),
            head_digests: HeadDigests::default(),
            head_buffer: Vec::new(),
            tally,
        }
    }

    /// Begins the next filesystem. Its entries can be carried if they last changed before `trusted_before`.
    pub(in crate::archive) fn start_filesystem(&mut self, trusted_before: Option<Timestamp>) {
        self.trusted_before = trusted_before;
        self.stale.clear();
    }

    /// Ends the filesystem: gives up held entries.
    pub(in crate::archive) fn end_filesystem(&mut self) -> Option<GivenUp> {
        let candidate = self.candidate.take()?;
        Some(self.give_up(candidate, Why::Ends))
    }

    /// Drops held entries and stops carrying.
    pub(in crate::archive) fn stop_carrying(&mut self) {
        self.candidate = None;
        self.trusted_before = None;
    }

    pub(in crate::archive) fn counts(&self) -> CarryCounts {
        self.tally.counts()
    }

    pub(in crate::archive) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// For copying: the lines of the previous index, and the tally.
    pub(in crate::archive) fn copying(&mut self) -> (&mut GroupReader, &mut Tally) {
        (self.parent.lines(), &mut self.tally)
    }

    /// Where the next backup goes on re-reading in the new tar stream; `None` if it re-reads single groups.
    pub(in crate::archive) fn reread_to(&self) -> Option<u64> {
        match &self.due {
            Due::Groups(_) => None,
            Due::Stretch(stretch) => Some(stretch.next()),
        }
    }

    /// Decides on the next entry of the walk. `written`: the bytes of the tar stream so far. Fails when the operation is
    /// cancelled.
    pub(in crate::archive) fn offer(&mut self, mut placed: Box<Placed>, written: u64) -> Result<Offer, ArchiveError> {
        // A socket has no line; holding sockets in a group would need unbounded memory.
        if matches!(placed.entry.kind, EntryKind::Socket) || self.trusted_before.is_none() {
            return Ok(Offer::Read(placed));
        }
        if let Some(candidate) = self.candidate.take() {
            return self.compare(candidate, placed);
        }
        let key = key_of(&placed.path);
        if let Some(group) = self.parent.group(key, &placed.path) {
            placed.is_due = self.is_due(&group, key, written);
            if !placed.is_due && self.is_eligible(&group) {
                self.heads.clear();
                match self.compare(Candidate::new(group), placed)? {
                    // The first entry of a group differs, so no other is held.
                    Offer::GiveUp(GivenUp { why: Why::Differs(offered), .. }) => placed = offered,
                    decided => return Ok(decided),
                }
            } else {
                self.stale = group.entries.lines().collect();
            }
        }
        self.note_stale_line(&mut placed);
        Ok(Offer::Read(placed))
    }

    fn is_trusted(&self, damaged: bool, ctime: Timestamp) -> bool {
        !damaged && self.trusted_before.is_some_and(|before| ctime < before)
    }

    /// Whether the group with this key is re-read today.
    fn is_due(&mut self, group: &Group, key: u64, written: u64) -> bool {
        let is_due = match &mut self.due {
            Due::Groups(share) => share.is_due(key),
            Due::Stretch(stretch) => stretch.is_due(group.first.tar_offset, written),
        };
        if is_due {
            self.tally.note_reread();
        }
        is_due
    }

    /// Whether a group may be copied at all, whatever the walk yields.
    fn is_eligible(&self, group: &Group) -> bool {
        let mut facts = group.entries.facts();
        !self.tally.is_given_up() && facts.all(|facts| self.is_trusted(facts.damaged, facts.ctime))
    }

    /// Finds the line of the previous index for an entry that is now read.
    fn note_stale_line(&mut self, placed: &mut Placed) {
        let mut lines = self.stale.iter().take(SEARCHED_LINES);
        let found = lines.position(|line| line.path == placed.path);
        let Some(line) = found.and_then(|at| self.stale.drain(..=at).next_back()) else { return };
        placed.place = MemberPlace::before(self.stale.len());
        placed.previous = self.is_trusted(line.damaged, line.ctime).then(|| PreviousLine::of(&line));
    }

    /// Adds an entry to the group if it is the next one; otherwise gives up the group.
    fn compare(&mut self, mut candidate: Candidate, mut placed: Box<Placed>) -> Result<Offer, ArchiveError> {
        let Some(same) = self.same_as(&mut placed, &candidate.group, candidate.taken.len())? else {
            return Ok(Offer::GiveUp(self.give_up(candidate, Why::Differs(placed))));
        };
        candidate.taken.push(Taken { placed, same });
        if !candidate.is_complete() {
            self.candidate = Some(candidate);
            return Ok(Offer::Held);
        }
        if self.has_same_heads(&candidate.group) || self.has_same_heads_with_flags(&mut candidate)? {
            let Candidate { group, taken } = candidate;
            return Ok(Offer::Copy(Box::new(CompleteGroup { group, taken })));
        }
        Ok(Offer::GiveUp(self.give_up(candidate, Why::OtherHeads)))
    }

    /// Gives up a group. Its remaining lines may still match later entries.
    fn give_up(&mut self, candidate: Candidate, why: Why) -> GivenUp {
        let Candidate { group, taken: mut held } = candidate;
        let mut lines: VecDeque<EntryLine> = group.entries.lines().collect();
        for Taken { placed, .. } in &mut held {
            placed.previous = lines.pop_front().as_ref().map(PreviousLine::of);
            placed.place = MemberPlace::before(lines.len());
        }
        self.stale = lines;
        GivenUp { held, why }
    }

    /// Whether the headers of a complete group's entries are those in the previous archive.
    fn has_same_heads(&mut self, group: &Group) -> bool {
        let heads = self.heads.finish();
        heads.is_some() && heads == group.heads
    }

    /// The same after querying all its files for flags: the walk of a mounted filesystem does not know all of them.
    fn has_same_heads_with_flags(&mut self, candidate: &mut Candidate) -> Result<bool, ArchiveError> {
        let mut any = false;
        for Taken { placed, .. } in candidate.taken.iter_mut().filter(|taken| !taken.placed.is_further_name()) {
            any |= placed.take_flags();
            // A group may have thousands of files.
            placed.close();
        }
        if !any {
            return Ok(false);
        }
        self.heads.clear();
        let Candidate { group, taken } = candidate;
        for (number, Taken { placed, same }) in taken.iter_mut().enumerate() {
            match self.same_now(placed, group, number)? {
                Some(now) => *same = now,
                None => return Ok(false),
            }
        }
        Ok(self.has_same_heads(group))
    }

    /// Whether an entry matches the line with this number, by inode number, change time and length in place of its
    /// data. Headers are compared once the group is complete.
    fn same_as(&mut self, placed: &mut Placed, group: &Group, number: usize) -> Result<Option<Same>, ArchiveError> {
        if let Some(same) = self.same_now(placed, group, number)? {
            return Ok(Some(same));
        }
        let Metadata { ino, ctime, size, .. } = placed.entry.metadata;
        let line = group.entries.facts_of(number, &placed.path);
        let is_unchanged = line.is_some_and(|line| (ino, ctime, size) == (line.ino, line.ctime, line.size));
        // Times unchanged but headers different: most likely flags that the walk does not know.
        let asks = is_unchanged && !placed.is_further_name() && placed.take_flags();
        if is_unchanged {
            placed.close();
        }
        if asks { self.same_now(placed, group, number) } else { Ok(None) }
    }

    fn same_now(&mut self, placed: &Placed, group: &Group, number: usize) -> Result<Option<Same>, ArchiveError> {
        let Placed { entry, path, link, .. } = placed;
        let Metadata { ino, ctime, size, .. } = entry.metadata;
        let line = match group.entries.facts_of(number, path) {
            Some(line) if (ino, ctime, size) == (line.ino, line.ctime, line.size) => *line,
            _ => return Ok(None),
        };
        let entry_type = match (link, &entry.kind, line.kind) {
            (Link::Further(first), _, IndexedKind::HardLink) => EntryType::HardLink(first),
            (Link::Further(_), ..) => return Ok(None),
            (_, EntryKind::File(_), IndexedKind::File) => EntryType::File,
            (_, EntryKind::File(content), IndexedKind::SparseFile) => {
                let runs = Runs::find(content.as_ref(), size, |_| {
                    if (self.stop)() { Err(ArchiveError::Stopped) } else { Ok(()) }
                })?;
                // A group may have thousands of such files.
                content.close();
                if runs.unasked.is_some() {
                    return Ok(None);
                }
                EntryType::SparseFile(runs.area())
            }
            (_, EntryKind::Directory, IndexedKind::Directory) => EntryType::Directory,
            (_, EntryKind::Symlink(target), IndexedKind::Symlink) => EntryType::Symlink(target),
            (_, EntryKind::CharDevice(number), IndexedKind::CharDevice) => EntryType::CharDevice(*number),
            (_, EntryKind::BlockDevice(number), IndexedKind::BlockDevice) => EntryType::BlockDevice(*number),
            (_, EntryKind::Fifo, IndexedKind::Fifo) => EntryType::Fifo,
            _ => return Ok(None),
        };
        let xattrs = if line.kind == IndexedKind::HardLink { &[] } else { entry.xattrs.as_slice() };
        let buffer = std::mem::take(&mut self.head_buffer);
        let head = pax::head_in(buffer, path, entry_type, &entry.metadata, xattrs);
        let mut is_same = head.entry_bytes() == line.tar_length;
        if group.members > 1 {
            // If a later member is damaged, the rest is read and must fit the copied part.
            is_same &= group.entries.line(number).is_some_and(|line| line.head == self.head_digests.of(&head.bytes));
        }
        if is_same {
            self.heads.add(&head.bytes);
        }
        self.head_buffer = head.bytes;
        let is_sparse = line.kind == IndexedKind::SparseFile;
        Ok(is_same.then_some(Same { is_sparse, data_bytes: head.data_bytes, left_out_xattrs: head.left_out_xattrs }))
    }
}

#[cfg(test)]
mod tests;
