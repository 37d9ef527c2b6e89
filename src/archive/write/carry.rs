//! Carries what is unchanged forward from the previous backup.
//!
//! Where an entry begins a group of the previous index, the entries of the walk are held against its lines one by one.
//! When all are the same, the group's member is read and checked by another thread, and put into the archive when its
//! turn comes (`run`). At the first difference what was held back is read like any other entry.

mod run;

use std::collections::VecDeque;

pub(super) use self::run::CarriedRun;
use super::ArchiveWriter;
use super::place::{Before, Link, Placed};
use super::store::take_flags;
use crate::archive::carry::Share;
use crate::archive::carry::group::Group;
use crate::archive::carry::parent::{Parent, key_of};
use crate::archive::counts::CarryCounts;
use crate::archive::error::ArchiveError;
use crate::archive::head_digest::MemberHeads;
use crate::archive::index::{EntryLine, IndexedKind};
use crate::archive::pax::{self, EntryType};
use crate::archive::runs::Runs;
use crate::entry::{EntryKind, Metadata, Timestamp};
use crate::events::Severity;

/// After so many members that were not what the index says, nothing more is carried.
const MAX_MISMATCHES: u64 = 100;
/// A changed entry's line is looked for among so many of its group.
const SEARCHED_LINES: usize = 128;

/// The previous backup, and how far the walk is in it.
pub(super) struct Carrying {
    parent: Parent,
    share: Share,
    /// What was changed before this in the filesystem at hand has no younger change that its times do not show.
    before: Option<Timestamp>,
    candidate: Option<Candidate>,
    /// The headers that the candidate's entries have tonight.
    heads: MemberHeads,
    /// Complete groups that are not in the queue yet: the next one may be checked with them.
    run: CarriedRun,
    /// The lines of the last group that is not carried, from the next one on.
    stale: VecDeque<EntryLine>,
    counts: CarryCounts,
}

impl Carrying {
    pub(super) fn new(parent: Parent, share: Share) -> Self {
        let counts = CarryCounts::default();
        let (heads, run) = (MemberHeads::default(), CarriedRun::default());
        Self { parent, share, before: None, candidate: None, heads, run, stale: VecDeque::new(), counts }
    }

    pub(super) fn start_filesystem(&mut self, before: Option<Timestamp>) {
        self.before = before;
        self.stale.clear();
    }

    pub(super) fn counts(&self) -> CarryCounts {
        self.counts
    }

    pub(super) fn give_up(&mut self) {
        self.candidate = None;
        self.run = CarriedRun::default();
        self.before = None;
    }

    fn is_trusted(&self, damaged: bool, ctime: Timestamp) -> bool {
        !damaged && self.before.is_some_and(|before| ctime < before)
    }

    /// Whether a group, which is found by this key, may be carried, whatever the walk gives.
    fn is_eligible(&mut self, group: &Group, key: u64) -> bool {
        if self.share.is_due(key) {
            self.counts.groups_reread += 1;
            return false;
        }
        let mut facts = group.entries.facts();
        self.counts.mismatches < MAX_MISMATCHES && facts.all(|facts| self.is_trusted(facts.damaged, facts.ctime))
    }

    /// What the previous index said of an entry that is now read.
    fn stale_line(&mut self, path: &[u8]) -> Option<Before> {
        let at = self.stale.iter().take(SEARCHED_LINES).position(|line| line.path == path)?;
        let line = self.stale.drain(..=at).next_back()?;
        self.is_trusted(line.damaged, line.ctime).then(|| Before::of(&line))
    }
}

impl Before {
    fn of(line: &EntryLine) -> Self {
        Self { head: line.head, ino: line.ino, ctime: line.ctime, content: line.content }
    }
}

/// A group of which all entries so far are the same, their headers perhaps excepted.
struct Candidate {
    group: Group,
    /// As many as of its lines were found to be the same.
    taken: Vec<Taken>,
}

/// An entry that is as its line says.
struct Taken {
    placed: Box<Placed>,
    same: Same,
}

/// What has to be counted and told of an entry that is carried.
struct Same {
    is_sparse: bool,
    data_bytes: u64,
    left_out_xattrs: Vec<Vec<u8>>,
}

impl ArchiveWriter<'_> {
    /// Finds out whether an entry is carried or read.
    pub(super) fn decide(&mut self, placed: Box<Placed>) -> Result<(), ArchiveError> {
        if matches!(placed.entry.kind, EntryKind::Socket) {
            // It has no line, and a group would have to keep any number of them.
            return self.queue_read(placed);
        }
        let Some(carrying) = self.carrying.as_mut().filter(|carrying| carrying.before.is_some()) else {
            return self.queue_read(placed);
        };
        let mut placed = placed;
        if let Some(candidate) = carrying.candidate.take() {
            match self.hold_against(candidate, placed)? {
                None => return Ok(()),
                Some(not_taken) => placed = not_taken,
            }
        }
        let Some(carrying) = &mut self.carrying else { return self.queue_read(placed) };
        let key = key_of(&placed.path);
        if let Some(group) = carrying.parent.group(key, &placed.path) {
            if carrying.is_eligible(&group, key) {
                carrying.heads.clear();
                let taken = Vec::with_capacity(group.entries.len());
                let candidate = Candidate { group, taken };
                match self.hold_against(candidate, placed)? {
                    None => return Ok(()),
                    Some(not_taken) => placed = not_taken,
                }
            } else {
                carrying.stale = group.entries.lines().collect();
            }
        }
        placed.before = self.carrying.as_mut().and_then(|carrying| carrying.stale_line(&placed.path));
        self.queue_read(placed)
    }

    /// Takes an entry into the group if it is the next one there; gives it back otherwise, and then the group is given up.
    fn hold_against(
        &mut self,
        mut candidate: Candidate,
        mut placed: Box<Placed>,
    ) -> Result<Option<Box<Placed>>, ArchiveError> {
        let Some(same) = self.same_as(&mut placed, &candidate.group, candidate.taken.len())? else {
            self.dissolve(candidate)?;
            return Ok(Some(placed));
        };
        candidate.taken.push(Taken { placed, same });
        if candidate.taken.len() < candidate.group.entries.len() {
            if let Some(carrying) = &mut self.carrying {
                carrying.candidate = Some(candidate);
            }
        } else if self.has_same_heads(&candidate.group) || self.has_same_heads_with_flags(&mut candidate)? {
            self.queue_group(candidate)?;
        } else {
            self.dissolve(candidate)?;
        }
        Ok(None)
    }

    /// Whether the headers that a complete group's entries have tonight are those that are in the previous archive.
    fn has_same_heads(&mut self, group: &Group) -> bool {
        let heads = self.carrying.as_mut().and_then(|carrying| carrying.heads.finish());
        heads.is_some() && heads == group.heads
    }

    /// The same when all its files are asked for their flags: the walk of a mounted filesystem does not know all of them.
    fn has_same_heads_with_flags(&mut self, candidate: &mut Candidate) -> Result<bool, ArchiveError> {
        let mut any = false;
        for Taken { placed, .. } in candidate.taken.iter_mut().filter(|taken| !taken.placed.is_further_name()) {
            any |= take_flags(&mut placed.entry);
            if let EntryKind::File(content) = &placed.entry.kind {
                // A group may have thousands of files.
                content.close();
            }
        }
        if !any {
            return Ok(false);
        }
        if let Some(carrying) = &mut self.carrying {
            carrying.heads.clear();
        }
        let Candidate { group, taken } = candidate;
        for (number, Taken { placed, same }) in taken.iter_mut().enumerate() {
            match self.same_now(placed, group, number)? {
                Some(now) => *same = now,
                None => return Ok(false),
            }
        }
        Ok(self.has_same_heads(group))
    }

    /// Gives up the group that is not complete.
    pub(super) fn give_up_group(&mut self) -> Result<(), ArchiveError> {
        match self.carrying.as_mut().and_then(|carrying| carrying.candidate.take()) {
            Some(candidate) => self.dissolve(candidate),
            None => Ok(()),
        }
    }

    /// What was taken is read; the group's other lines may still tell of entries to come.
    fn dissolve(&mut self, candidate: Candidate) -> Result<(), ArchiveError> {
        let mut lines: VecDeque<EntryLine> = candidate.group.entries.lines().collect();
        for Taken { mut placed, .. } in candidate.taken {
            placed.before = lines.pop_front().as_ref().map(Before::of);
            self.queue_read(placed)?;
        }
        if let Some(carrying) = &mut self.carrying {
            carrying.stale = lines;
        }
        Ok(())
    }

    /// Whether an entry is what the line with this number says: its own data excepted, of which inode number, change time and
    /// length answer; and its headers, which are held against those of the archive when the group is complete.
    fn same_as(&mut self, placed: &mut Placed, group: &Group, number: usize) -> Result<Option<Same>, ArchiveError> {
        if let Some(same) = self.same_now(placed, group, number)? {
            return Ok(Some(same));
        }
        let Metadata { ino, ctime, size, .. } = placed.entry.metadata;
        let line = group.entries.facts_of(number, &placed.path);
        let is_unchanged = line.is_some_and(|line| (ino, ctime, size) == (line.ino, line.ctime, line.size));
        // Unchanged by its times, and with other headers: flags that the walk does not know, most likely.
        let asks = is_unchanged && !placed.is_further_name() && take_flags(&mut placed.entry);
        if let EntryKind::File(content) = &placed.entry.kind
            && is_unchanged
        {
            content.close();
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
                let runs = Runs::find(content.as_ref(), size, |_| self.check_stop())?;
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
        let area_bytes = head.sparse_map_bytes + head.data_bytes;
        let tar_length = head.bytes.len() as u64 + area_bytes + pax::padding_after(area_bytes);
        let mut is_same = tar_length == line.tar_length;
        if group.members > 1 {
            // If a member in its middle is damaged, the rest is read, and must fit to the line that comes from there.
            is_same &= group.entries.line(number).is_some_and(|line| line.head == self.head_digests.of(&head.bytes));
        }
        if let Some(carrying) = self.carrying.as_mut().filter(|_| is_same) {
            carrying.heads.add(&head.bytes);
        }
        self.head_buffer = head.bytes;
        let is_sparse = line.kind == IndexedKind::SparseFile;
        Ok(is_same.then_some(Same { is_sparse, data_bytes: head.data_bytes, left_out_xattrs: head.left_out_xattrs }))
    }

    /// Tells of a file whose data is not what it was, with all its times. True when the archive does not hold it as it
    /// is now.
    pub(super) fn tell_changed_unseen(
        &mut self,
        path: &[u8],
        head: &[u8],
        metadata: &Metadata,
        before: &Before,
    ) -> bool {
        let is_mixed = self.has_carried_part;
        let is_unseen =
            before.head == self.head_digests.of(head) && (before.ino, before.ctime) == (metadata.ino, metadata.ctime);
        let Some(carrying) = self.carrying.as_mut().filter(|_| is_unseen) else { return false };
        carrying.counts.changed_unseen += 1;
        let stem = carrying.parent.stem().to_owned();
        let what = format!("its content changed since {stem} though its times did not");
        if is_mixed {
            let what = format!("{what}, and a part of {stem} is damaged: the archive has a mixture of both");
            self.tell(Severity::Error, path, what);
        } else {
            self.tell(Severity::Warning, path, format!("{what}; archived as it is now"));
        }
        is_mixed
    }
}
