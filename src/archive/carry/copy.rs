//! Copies complete groups into the archive. Members that are adjacent in the previous archive are checked together;
//! content of damaged ones is read from the source.

use std::collections::VecDeque;
use std::io;

use super::candidate::{CompleteGroup, Taken};
use super::decide::Carry;
use super::group::GroupReader;
use super::tally::Tally;
use crate::archive::error::ArchiveError;
use crate::archive::index::{KeptEntries, MemberLine};
use crate::archive::members::{CarriedMember, MemberWriter, RUN_BYTES, weight};
use crate::archive::placed::{Placed, PreviousLine};
use crate::archive::tar::TarWriter;
use crate::entry::EntryKind;

/// The members of a large file that are given to the archive at once.
const AT_ONCE: usize = 1024;

/// Groups of one member each that are adjacent in the previous archive, and are checked together.
#[derive(Default)]
pub(in crate::archive) struct CopyRun {
    members: Vec<MemberLine>,
    /// The entries of each member.
    entries: Vec<(KeptEntries, Vec<Taken>)>,
    weight: usize,
}

impl CopyRun {
    pub(in crate::archive) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Its members, in the order of the previous archive.
    pub(in crate::archive) fn members(&self) -> &[MemberLine] {
        &self.members
    }

    /// Whether a group's member follows the last one directly, and there is room for it.
    pub(in crate::archive) fn takes(&self, complete: &CompleteGroup) -> bool {
        let Some(last) = self.members.last() else { return true };
        let follows = last.offset.checked_add(last.length) == Some(complete.group.first.offset);
        follows && self.weight + weight_of(complete) <= RUN_BYTES
    }

    /// Adds a group of one member.
    pub(in crate::archive) fn push(&mut self, complete: CompleteGroup) {
        self.weight += weight_of(&complete);
        let CompleteGroup { group, taken } = complete;
        self.members.push(group.first);
        self.entries.push((group.entries, taken));
    }
}

fn weight_of(complete: &CompleteGroup) -> usize {
    weight(&complete.group.first).max(complete.group.entries.text_bytes())
}

/// Adds an entry that is read. Reports it if its data changed although its times did not.
pub(in crate::archive) fn read(
    tar: &mut TarWriter<'_>,
    placed: Placed,
    present_bytes: u64,
    tally: Option<&mut Tally>,
) -> Result<(), ArchiveError> {
    let changed = tar.append(placed, present_bytes)?;
    if let (Some(path), Some(tally)) = (changed, tally) {
        tally.note_changed_unseen(&path, present_bytes > 0, tar.observer());
    }
    Ok(())
}

/// Counts entries that are copied; returns the length of their data.
pub(in crate::archive) fn count(tar: &mut TarWriter<'_>, taken: Vec<Taken>) -> u64 {
    let mut data_bytes = 0;
    for Taken { placed, same } in taken {
        data_bytes += tar.count_copied(&placed, &same);
        tar.spend(placed.entry);
    }
    data_bytes
}

/// The entries of a group, to be read; each knows its line in the previous index.
pub(in crate::archive) fn to_read(lines: &KeptEntries, taken: Vec<Taken>) -> impl Iterator<Item = Box<Placed>> {
    taken.into_iter().enumerate().map(|(number, Taken { mut placed, .. })| {
        placed.previous = lines.line(number).as_ref().map(PreviousLine::of);
        placed
    })
}

/// Copies the sound members of a run, and reads the entries of the others. The run must be the oldest one submitted
/// for checking.
pub(in crate::archive) fn copy_run(
    tar: &mut TarWriter<'_>,
    run: CopyRun,
    tally: &mut Tally,
) -> Result<(), ArchiveError> {
    let Some(piece) = tar.members().take_carried() else {
        // Each run in the queue was submitted.
        return Err(ArchiveError::Write(io::Error::other("a piece of the previous archive was lost")));
    };
    // Adjacent sound members, the first of them by its number.
    let (mut first, mut whole) = (0, Vec::new());
    for (number, (member, (lines, taken))) in run.members.into_iter().zip(run.entries).enumerate() {
        let fault = piece.fault(number);
        // Otherwise its entries go into the member before: repeated changes would make ever more small members.
        let first_bytes = lines.facts().next().map(|first| first.tar_length);
        if fault.is_none() && (!whole.is_empty() || tar.may_end_member_before(first_bytes)) {
            let data_bytes = count(tar, taken);
            tar.note_copied(member.tar_length);
            tally.note_copied(member.length, lines.len() as u64, data_bytes, tar.observer());
            if whole.is_empty() {
                first = number;
            }
            whole.push(CarriedMember { line: member, entries: lines });
            continue;
        }
        if !whole.is_empty() {
            tar.members().write_carried(&piece, first, std::mem::take(&mut whole))?;
        }
        if let Some(what) = fault {
            tally.note_mismatch(&member, what, tar.observer());
        }
        for placed in to_read(&lines, taken) {
            read(tar, *placed, 0, Some(tally))?;
        }
    }
    if whole.is_empty() { Ok(()) } else { tar.members().write_carried(&piece, first, whole) }
}

/// The next members that are adjacent in the previous archive, as many as are checked together. `next` is the one behind
/// the last run, if it was read. None at the end, or if the index has changed.
fn next_run(index: &mut GroupReader, next: &mut Option<MemberLine>, mut at: u64, ends_at: u64) -> Vec<MemberLine> {
    let (mut run, mut run_weight) = (Vec::<MemberLine>::new(), 0);
    while at < ends_at {
        let Some(member) = next.take().or_else(|| index.next_member(at, ends_at).ok()) else { break };
        let follows = run.last().is_none_or(|last| last.offset.checked_add(last.length) == Some(member.offset));
        run_weight += weight(&member);
        if !follows || (!run.is_empty() && run_weight > RUN_BYTES) {
            *next = Some(member);
            break;
        }
        at += member.tar_length;
        run.push(member);
    }
    run
}

/// Takes the members of a group, which are adjacent in the previous archive, without reading them: `write` gives them to the
/// archive.
pub(in crate::archive) fn copy_unread(
    tar: &mut TarWriter<'_>,
    complete: CompleteGroup,
    carry: &mut Carry,
    write: impl Fn(&mut MemberWriter, Vec<CarriedMember>) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let CompleteGroup { group, taken } = complete;
    let (index, tally) = carry.copying();
    if group.members > 1 {
        let changed = |error| ArchiveError::Write(error);
        index.seek(group.at).map_err(changed)?;
        let (mut at, end) = (group.first.tar_offset, group.first.tar_offset + group.tar_length);
        while at < end {
            let mut members: Vec<CarriedMember> = Vec::new();
            while at < end && members.len() < AT_ONCE {
                let line = index.next_member(at, end).map_err(changed)?;
                at += line.tar_length;
                let entries = if at == end { group.entries.clone() } else { KeptEntries::default() };
                tally.note_copied(line.length, entries.len() as u64, line.tar_length, tar.observer());
                members.push(CarriedMember { line, entries });
            }
            write(tar.members(), members)?;
        }
        count(tar, taken);
    } else {
        let data_bytes = count(tar, taken);
        tally.note_copied(group.first.length, group.entries.len() as u64, data_bytes, tar.observer());
        write(tar.members(), vec![CarriedMember { line: group.first, entries: group.entries }])?;
    }
    tar.note_copied(group.tar_length);
    Ok(())
}

/// Copies an entry with several members, after everything queued. They are too many to check all before the first
/// is written, so if one of them is damaged, the rest of the entry is read.
pub(in crate::archive) fn copy_large(
    tar: &mut TarWriter<'_>,
    complete: CompleteGroup,
    index: &mut GroupReader,
    tally: &mut Tally,
) -> Result<(), ArchiveError> {
    let CompleteGroup { group, mut taken } = complete;
    let Some(Taken { mut placed, same }) = taken.pop() else { return Ok(()) };
    tar.members().end_member()?;
    let Some(line) = group.entries.line(0) else { return read(tar, *placed, 0, Some(tally)) };
    let (begins_at, tar_length) = (line.tar_offset, line.tar_length);
    placed.previous = Some(PreviousLine::of(&line));
    // An entry other than a file is that long only because of its attributes; too rare to copy in part.
    let is_file = matches!(placed.entry.kind, EntryKind::File(_));
    if !is_file || index.seek(group.at).is_err() {
        return read(tar, *placed, 0, Some(tally));
    }
    let ends_at = begins_at.saturating_add(tar_length);
    let mut asked: VecDeque<Vec<MemberLine>> = VecDeque::new();
    let (mut asked_to, mut done_to) = (begins_at, begins_at);
    let (mut run, mut next) = (Vec::new(), None);
    while done_to < ends_at {
        tar.check_stop()?;
        loop {
            if run.is_empty() {
                run = next_run(index, &mut next, asked_to, ends_at);
            }
            if run.is_empty() || !tar.members().check_carried(&run) {
                break;
            }
            asked_to += run.iter().map(|member| member.tar_length).sum::<u64>();
            asked.push_back(std::mem::take(&mut run));
        }
        let Some(mut members) = asked.pop_front() else {
            if !run.is_empty() {
                tar.members().wait_for_carrying();
                continue;
            }
            // The index changed since it was checked: read the rest.
            break;
        };
        // As many as were submitted.
        let Some(piece) = tar.members().take_carried() else { break };
        let damaged = (0..members.len()).find_map(|number| Some((number, piece.fault(number)?)));
        if let Some((number, what)) = damaged {
            tally.note_mismatch(&members[number], what, tar.observer());
            members.truncate(number);
        }
        let sound: Vec<CarriedMember> = members
            .into_iter()
            .map(|line| {
                done_to += line.tar_length;
                let entries = if done_to == ends_at { group.entries.clone() } else { KeptEntries::default() };
                tally.note_copied(line.length, entries.len() as u64, line.tar_length, tar.observer());
                CarriedMember { line, entries }
            })
            .collect();
        if !sound.is_empty() {
            tar.members().write_carried(&piece, 0, sound)?;
        }
        if damaged.is_some() {
            break;
        }
    }
    for _ in asked {
        // Their results are no longer needed.
        let _ = tar.members().take_carried();
    }
    if done_to == ends_at {
        tar.count_copied(&placed, &same);
        tar.note_copied(tar_length);
        return Ok(());
    }
    read(tar, *placed, done_to - begins_at, Some(tally))
}
