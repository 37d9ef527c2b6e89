//! Carries what is unchanged forward from the previous backup.
//!
//! Where an entry begins a group of the previous index, the entries of the walk are held against its lines one by one.
//! When all are the same, the group's member is read and checked by another thread, and put into the archive when its
//! turn comes. At the first difference what was held back is read like any other entry.

use std::collections::VecDeque;

use super::place::{Before, Link, Placed};
use super::{ArchiveError, ArchiveWriter, CarryCounts, MIN_MEMBER_BYTES, TARGET_MEMBER_BYTES};
use crate::archive::carry::Share;
use crate::archive::carry::group::Group;
use crate::archive::carry::parent::{Parent, key_of};
use crate::archive::index::{EntryLine, IndexedKind, MemberLine};
use crate::archive::members::{CarriedMember, RUN_BYTES, weight};
use crate::archive::pax::{self, EntryType};
use crate::archive::runs::Runs;
use crate::events::{Event, Problem, Severity};
use crate::reader::{EntryKind, Metadata, Timestamp};

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
    /// Complete groups that are not in the queue yet: the next one may be checked with them.
    run: CarriedRun,
    /// The lines of the last group that is not carried, from the next one on.
    stale: VecDeque<EntryLine>,
    counts: CarryCounts,
}

impl Carrying {
    pub(super) fn new(parent: Parent, share: Share) -> Self {
        let counts = CarryCounts::default();
        let run = CarriedRun::default();
        Self { parent, share, before: None, candidate: None, run, stale: VecDeque::new(), counts }
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

    fn is_trusted(&self, line: &EntryLine) -> bool {
        !line.damaged && self.before.is_some_and(|before| line.ctime < before)
    }

    /// Whether a group may be carried, whatever the walk gives.
    fn is_eligible(&mut self, group: &Group) -> bool {
        let first = group.entries.first().map_or(&b""[..], |entry| &entry.path);
        if self.share.is_due(key_of(first)) {
            self.counts.groups_reread += 1;
            return false;
        }
        self.counts.mismatches < MAX_MISMATCHES && group.entries.iter().all(|entry| self.is_trusted(entry))
    }

    /// What the previous index said of an entry that is now read.
    fn stale_line(&mut self, path: &[u8]) -> Option<Before> {
        let at = self.stale.iter().take(SEARCHED_LINES).position(|line| line.path == path)?;
        let line = self.stale.drain(..=at).next_back()?;
        self.is_trusted(&line).then(|| Before::of(&line))
    }
}

impl Before {
    fn of(line: &EntryLine) -> Self {
        Self { head: line.head, ino: line.ino, ctime: line.ctime, content: line.content }
    }
}

/// A group of which all entries so far are the same.
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

/// Groups of one member each that lie one behind the other in the previous archive, and are checked together.
#[derive(Default)]
pub(super) struct CarriedRun {
    members: Vec<MemberLine>,
    /// For each member, its entries.
    entries: Vec<(Vec<EntryLine>, Vec<Taken>)>,
    weight: usize,
}

impl CarriedRun {
    /// Whether a member lies behind the last one, and there is room for it.
    fn takes(&self, member: &MemberLine) -> bool {
        let Some(last) = self.members.last() else { return true };
        last.offset.checked_add(last.length) == Some(member.offset) && self.weight + weight(member) <= RUN_BYTES
    }
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
        if let Some(group) = carrying.parent.group(&placed.path) {
            if carrying.is_eligible(&group) {
                let taken = Vec::with_capacity(group.entries.len());
                let candidate = Candidate { group, taken };
                match self.hold_against(candidate, placed)? {
                    None => return Ok(()),
                    Some(not_taken) => placed = not_taken,
                }
            } else {
                carrying.stale = group.entries.into();
            }
        }
        placed.before = self.carrying.as_mut().and_then(|carrying| carrying.stale_line(&placed.path));
        self.queue_read(placed)
    }

    /// Takes an entry into the group if it is the next one there; gives it back otherwise, and then the group is given up.
    fn hold_against(
        &mut self,
        mut candidate: Candidate,
        placed: Box<Placed>,
    ) -> Result<Option<Box<Placed>>, ArchiveError> {
        let same = match candidate.group.entries.get(candidate.taken.len()) {
            Some(line) => self.same_as(&placed, line)?,
            None => None,
        };
        let Some(same) = same else {
            self.dissolve(candidate)?;
            return Ok(Some(placed));
        };
        candidate.taken.push(Taken { placed, same });
        if candidate.taken.len() == candidate.group.entries.len() {
            self.queue_group(candidate)?;
        } else if let Some(carrying) = &mut self.carrying {
            carrying.candidate = Some(candidate);
        }
        Ok(None)
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
        let mut lines = VecDeque::from(candidate.group.entries);
        for Taken { mut placed, .. } in candidate.taken {
            placed.before = lines.pop_front().map(|line| Before::of(&line));
            self.queue_read(placed)?;
        }
        if let Some(carrying) = &mut self.carrying {
            carrying.stale = lines;
        }
        Ok(())
    }

    /// Whether an entry is what a line of the previous index says: its own data excepted, of which inode number, change
    /// time and length answer.
    fn same_as(&mut self, placed: &Placed, line: &EntryLine) -> Result<Option<Same>, ArchiveError> {
        let Placed { entry, path, link, .. } = placed;
        let Metadata { ino, ctime, size, .. } = entry.metadata;
        if *path != line.path || (ino, ctime, size) != (line.ino, line.ctime, line.size) {
            return Ok(None);
        }
        let entry_type = match (link, &entry.kind, line.kind) {
            (Link::Further(first), _, IndexedKind::HardLink) => EntryType::HardLink(first),
            (Link::Further(_), ..) => return Ok(None),
            (_, EntryKind::File(_), IndexedKind::File) => EntryType::File,
            (_, EntryKind::File(content), IndexedKind::SparseFile) => {
                let runs = Runs::find(content.as_ref(), size, || self.check_stop())?;
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
        let is_same = tar_length == line.tar_length && self.head_digests.of(&head.bytes) == line.head;
        self.head_buffer = head.bytes;
        let is_sparse = line.kind == IndexedKind::SparseFile;
        Ok(is_same.then_some(Same { is_sparse, data_bytes: head.data_bytes, left_out_xattrs: head.left_out_xattrs }))
    }

    /// Has the members of a complete group checked.
    fn queue_group(&mut self, candidate: Candidate) -> Result<(), ArchiveError> {
        if candidate.group.members > 1 {
            return self.carry_large(candidate);
        }
        let Candidate { group, taken, .. } = candidate;
        if self.carrying.as_ref().is_some_and(|carrying| !carrying.run.takes(&group.first)) {
            self.queue_run()?;
        }
        if let Some(Carrying { run, .. }) = &mut self.carrying {
            run.weight += weight(&group.first);
            run.members.push(group.first);
            run.entries.push((group.entries, taken));
        }
        Ok(())
    }

    /// Queues the groups that were held back to be checked together. Whatever comes behind them must not be queued before.
    pub(super) fn queue_run(&mut self) -> Result<(), ArchiveError> {
        let Some(carrying) = self.carrying.as_mut().filter(|carrying| !carrying.run.members.is_empty()) else {
            return Ok(());
        };
        let run = std::mem::take(&mut carrying.run);
        while !self.members.check_carried(&run.members) {
            if self.queue.is_empty() {
                self.members.wait_for_carrying();
            } else {
                self.read_next()?;
            }
        }
        self.queue.push_run(run);
        Ok(())
    }

    /// Puts the members of a run that are whole into the archive, and reads the entries of the others.
    pub(super) fn carry_run(&mut self, run: CarriedRun) -> Result<(), ArchiveError> {
        let Some(piece) = self.members.take_carried() else {
            // Each run in the queue was asked for.
            return Err(ArchiveError::Write(std::io::Error::other("a piece of the previous archive was lost")));
        };
        // Whole members one behind the other, the first of them by its number.
        let (mut first, mut whole) = (0, Vec::new());
        for (number, (member, (mut lines, taken))) in run.members.into_iter().zip(run.entries).enumerate() {
            let fault = piece.fault(number);
            // Otherwise its entries complete the member before it: else ever more small ones would come of ever more changes.
            if fault.is_none() && (!whole.is_empty() || self.may_end_here(&lines)) {
                let mut data_bytes = 0;
                for Taken { placed, same } in &taken {
                    data_bytes += self.count_carried(placed, same);
                }
                for line in &mut lines {
                    line.tar_offset = line.tar_offset - member.tar_offset + self.tar_offset;
                }
                self.tar_offset += member.tar_length;
                self.note_carried(member.length, lines.len() as u64, data_bytes);
                if whole.is_empty() {
                    first = number;
                }
                whole.push(CarriedMember { line: member, entries: lines });
                continue;
            }
            if !whole.is_empty() {
                self.members.write_carried(&piece, first, std::mem::take(&mut whole))?;
            }
            if let Some(what) = fault {
                self.tell_mismatch(&member, what);
            }
            for (Taken { mut placed, .. }, line) in taken.into_iter().zip(lines) {
                placed.before = Some(Before::of(&line));
                self.store(*placed)?;
            }
        }
        if whole.is_empty() { Ok(()) } else { self.members.write_carried(&piece, first, whole) }
    }

    /// Whether the member that is being filled may end before these entries.
    fn may_end_here(&self, lines: &[EntryLine]) -> bool {
        let current = self.members.current_bytes();
        let begins_its_own = lines.first().is_some_and(|line| line.tar_length >= TARGET_MEMBER_BYTES);
        current == 0 || current >= MIN_MEMBER_BYTES || begins_its_own
    }

    /// Carries an entry that has several members, after all that is queued. They are too many to be checked before the
    /// first is written, so when one of them is damaged the rest of the entry is read.
    fn carry_large(&mut self, candidate: Candidate) -> Result<(), ArchiveError> {
        let Candidate { mut group, mut taken, .. } = candidate;
        self.read_queue()?;
        let (Some(line), Some(Taken { mut placed, same })) = (group.entries.pop(), taken.pop()) else { return Ok(()) };
        self.members.end_member()?;
        placed.before = Some(Before::of(&line));
        if !matches!(placed.entry.kind, EntryKind::File(_)) {
            // Its headers alone are that long, with its attributes: too rare to be carried in part.
            return self.store(*placed);
        }
        let rebased = EntryLine { tar_offset: self.tar_offset, ..line.clone() };
        let begins_at = line.tar_offset;
        let ends_at = begins_at.saturating_add(line.tar_length);
        let mut asked: VecDeque<MemberLine> = VecDeque::new();
        let (mut asked_to, mut done_to) = (begins_at, begins_at);
        let mut next = None;
        if let Some(carrying) = &mut self.carrying
            && carrying.parent.lines().rewind(&group).is_err()
        {
            return self.store(*placed);
        }
        while done_to < ends_at {
            self.check_stop()?;
            while asked_to < ends_at {
                if next.is_none() {
                    let read = self.carrying.as_mut().map(|carrying| carrying.parent.lines().next_member(asked_to));
                    next = read.and_then(Result::ok);
                }
                let Some(member) = &next else { break };
                if !self.members.check_carried(std::slice::from_ref(member)) {
                    break;
                }
                asked_to += member.tar_length;
                asked.extend(next.take());
            }
            let Some(member) = asked.pop_front() else {
                if next.is_some() {
                    self.members.wait_for_carrying();
                    continue;
                }
                // The index is not what it was: what is left is read.
                break;
            };
            // As many as were asked for.
            let Some(piece) = self.members.take_carried() else { break };
            if let Some(what) = piece.fault(0) {
                self.tell_mismatch(&member, what);
                break;
            }
            done_to += member.tar_length;
            let entries = if done_to == ends_at { vec![rebased.clone()] } else { Vec::new() };
            self.note_carried(member.length, entries.len() as u64, member.tar_length);
            self.members.write_carried(&piece, 0, vec![CarriedMember { line: member, entries }])?;
        }
        for _ in asked {
            // Whether they are whole does not matter any more.
            let _ = self.members.take_carried();
        }
        if done_to == ends_at {
            self.count_carried(&placed, &same);
            self.tar_offset += line.tar_length;
            return Ok(());
        }
        self.carried_bytes = done_to - begins_at;
        self.has_carried_part = self.carried_bytes > 0;
        let stored = self.store(*placed);
        self.carried_bytes = 0;
        self.has_carried_part = false;
        stored
    }

    fn note_carried(&mut self, bytes: u64, entries: u64, data_bytes: u64) {
        if let Some(carrying) = &mut self.carrying {
            carrying.counts.members += 1;
            carrying.counts.bytes += bytes;
            carrying.counts.entries += entries;
        }
        self.observer.on_event(&Event::Carried { bytes: data_bytes });
    }

    /// Counts an entry that is carried, and tells again what has to be told of it; gives its bytes.
    fn count_carried(&mut self, placed: &Placed, same: &Same) -> u64 {
        self.tell_left_out(&placed.path, &same.left_out_xattrs);
        let counts = &mut self.counts;
        if matches!(placed.link, Link::Further(_)) {
            counts.hard_links += 1;
            return 0;
        }
        match &placed.entry.kind {
            EntryKind::File(_) => counts.files += 1,
            EntryKind::Directory => counts.directories += 1,
            EntryKind::Symlink(_) => counts.symlinks += 1,
            EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => counts.devices += 1,
            EntryKind::Fifo => counts.fifos += 1,
            EntryKind::Socket => {}
        }
        counts.sparse_files += u64::from(same.is_sparse);
        counts.data_bytes += same.data_bytes;
        same.data_bytes
    }

    fn tell_mismatch(&mut self, member: &MemberLine, what: &str) {
        let Some(carrying) = &mut self.carrying else { return };
        carrying.counts.mismatches += 1;
        let location = format!("{}.tar.gz", carrying.parent.stem());
        let number = member.number;
        let mut text = format!(
            "member {number} of the previous backup (byte {}) is damaged: {what}; what is in it was read from the source",
            member.offset
        );
        if carrying.counts.mismatches == MAX_MISMATCHES {
            text.push_str("; so was all that follows, after so many of them");
        }
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Warning, location, text)));
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
