//! Puts complete groups into the archive: their members are checked together where they lie one behind the other, and what
//! is damaged is read from the source.

use std::collections::VecDeque;

use super::{Before, Candidate, Carrying, Link, MAX_MISMATCHES, Same, Taken};
use crate::archive::error::ArchiveError;
use crate::archive::index::{KeptEntries, MemberLine};
use crate::archive::members::{CarriedMember, RUN_BYTES, weight};
use crate::archive::write::place::Placed;
use crate::archive::write::{ArchiveWriter, MIN_MEMBER_BYTES, TARGET_MEMBER_BYTES};
use crate::entry::EntryKind;
use crate::events::{Event, Problem, Severity};

/// Groups of one member each that lie one behind the other in the previous archive, and are checked together.
#[derive(Default)]
pub(in crate::archive::write) struct CarriedRun {
    members: Vec<MemberLine>,
    /// For each member, its entries.
    entries: Vec<(KeptEntries, Vec<Taken>)>,
    weight: usize,
}

impl CarriedRun {
    /// Whether a member of this weight lies behind the last one, and there is room for it.
    fn takes(&self, member: &MemberLine, weight: usize) -> bool {
        let Some(last) = self.members.last() else { return true };
        last.offset.checked_add(last.length) == Some(member.offset) && self.weight + weight <= RUN_BYTES
    }
}

impl ArchiveWriter<'_> {
    /// Has the members of a complete group checked.
    pub(super) fn queue_group(&mut self, candidate: Candidate) -> Result<(), ArchiveError> {
        if candidate.group.members > 1 {
            return self.carry_large(candidate);
        }
        let Candidate { group, taken, .. } = candidate;
        let weight = weight(&group.first).max(group.entries.text_bytes());
        if self.carrying.as_ref().is_some_and(|carrying| !carrying.run.takes(&group.first, weight)) {
            self.queue_run()?;
        }
        if let Some(Carrying { run, .. }) = &mut self.carrying {
            run.weight += weight;
            run.members.push(group.first);
            run.entries.push((group.entries, taken));
        }
        Ok(())
    }

    /// Queues the groups that were held back to be checked together. Whatever comes behind them must not be queued before.
    pub(in crate::archive::write) fn queue_run(&mut self) -> Result<(), ArchiveError> {
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
    pub(in crate::archive::write) fn carry_run(&mut self, run: CarriedRun) -> Result<(), ArchiveError> {
        let Some(piece) = self.members.take_carried() else {
            // Each run in the queue was asked for.
            return Err(ArchiveError::Write(std::io::Error::other("a piece of the previous archive was lost")));
        };
        // Whole members one behind the other, the first of them by its number.
        let (mut first, mut whole) = (0, Vec::new());
        for (number, (member, (lines, taken))) in run.members.into_iter().zip(run.entries).enumerate() {
            let fault = piece.fault(number);
            // Otherwise its entries complete the member before it: else ever more small ones would come of ever more changes.
            if fault.is_none() && (!whole.is_empty() || self.may_end_here(&lines)) {
                let mut data_bytes = 0;
                for Taken { placed, same } in taken {
                    data_bytes += self.count_carried(&placed, &same);
                    self.spend(placed.entry);
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
            for (number, Taken { mut placed, .. }) in taken.into_iter().enumerate() {
                placed.before = lines.line(number).as_ref().map(Before::of);
                self.store(*placed)?;
            }
        }
        if whole.is_empty() { Ok(()) } else { self.members.write_carried(&piece, first, whole) }
    }

    /// Whether the member that is being filled may end before these entries.
    fn may_end_here(&self, lines: &KeptEntries) -> bool {
        let current = self.members.current_bytes();
        let begins_its_own = lines.facts().next().is_some_and(|first| first.tar_length >= TARGET_MEMBER_BYTES);
        current == 0 || current >= MIN_MEMBER_BYTES || begins_its_own
    }

    /// Carries an entry that has several members, after all that is queued. They are too many to be checked before the
    /// first is written, so when one of them is damaged the rest of the entry is read.
    fn carry_large(&mut self, candidate: Candidate) -> Result<(), ArchiveError> {
        let Candidate { group, mut taken, .. } = candidate;
        self.read_queue()?;
        let Some(Taken { mut placed, same }) = taken.pop() else { return Ok(()) };
        self.members.end_member()?;
        let Some(line) = group.entries.line(0) else { return self.store(*placed) };
        let (begins_at, tar_length) = (line.tar_offset, line.tar_length);
        placed.before = Some(Before::of(&line));
        if !matches!(placed.entry.kind, EntryKind::File(_)) {
            // Its headers alone are that long, with its attributes: too rare to be carried in part.
            return self.store(*placed);
        }
        let ends_at = begins_at.saturating_add(tar_length);
        let mut asked: VecDeque<MemberLine> = VecDeque::new();
        let (mut asked_to, mut done_to) = (begins_at, begins_at);
        let mut next = None;
        if let Some(carrying) = &mut self.carrying
            && carrying.parent.lines().seek(group.at).is_err()
        {
            return self.store(*placed);
        }
        while done_to < ends_at {
            self.check_stop()?;
            while asked_to < ends_at {
                if next.is_none() {
                    let read =
                        self.carrying.as_mut().map(|carrying| carrying.parent.lines().next_member(asked_to, ends_at));
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
            let entries = if done_to == ends_at { group.entries.clone() } else { KeptEntries::default() };
            self.note_carried(member.length, entries.len() as u64, member.tar_length);
            self.members.write_carried(&piece, 0, vec![CarriedMember { line: member, entries }])?;
        }
        for _ in asked {
            // Whether they are whole does not matter any more.
            let _ = self.members.take_carried();
        }
        if done_to == ends_at {
            self.count_carried(&placed, &same);
            self.tar_offset += tar_length;
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
        self.room.take(same.data_bytes);
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
}
