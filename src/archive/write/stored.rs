//! Carrying forward in an object store: the store copies long ranges of the previous archive, and this host reads the rest
//! from the source. No byte of that archive comes to this host.

use std::sync::Arc;

use super::ArchiveWriter;
use crate::archive::carry::candidate::CompleteGroup;
use crate::archive::carry::copy;
use crate::archive::carry::segment::{Piece, Settled, Step};
use crate::archive::error::ArchiveError;
use crate::archive::index::KeptEntries;
use crate::archive::members::CarriedMember;
use crate::archive::placed::Placed;
use crate::entry::EntryKind;

/// The members of a large file that are written at once.
const AT_ONCE: usize = 1024;
/// What an entry takes in memory besides its text and its attributes.
const ENTRY_BYTES: usize = 512;

fn piece_of(complete: &CompleteGroup) -> Option<Piece> {
    let CompleteGroup { group, taken } = complete;
    // An entry other than a file is that long only because of its attributes; too rare to be copied.
    let is_file = || taken.iter().all(|taken| matches!(taken.placed.entry.kind, EntryKind::File(_)));
    let length = group.length.filter(|_| group.members == 1 || is_file())?;
    let xattr_bytes: usize = taken.iter().map(|taken| taken.placed.entry.xattr_bytes()).sum();
    let weight = group.entries.text_bytes() + taken.len() * ENTRY_BYTES + xattr_bytes;
    Some(Piece { offset: group.first.offset, length, tar_length: group.tar_length, weight })
}

impl ArchiveWriter<'_> {
    /// Takes a group that is unchanged: it is copied, held, or read.
    pub(super) fn take_stored(&mut self, complete: CompleteGroup) -> Result<(), ArchiveError> {
        let Some(piece) = piece_of(&complete) else {
            self.read_stored()?;
            return self.read_group(complete);
        };
        loop {
            let Some(stored) = &mut self.stored else { return Ok(()) };
            match stored.plan.offer(piece) {
                Step::Copy => return self.copy_group(complete),
                Step::Hold => {
                    stored.held.push_back(complete);
                    return self.settle_stored();
                }
                Step::ReadHeld => self.read_stored()?,
            }
        }
    }

    /// Reads the groups that are held. Must precede any entry that is read.
    pub(super) fn read_stored(&mut self) -> Result<(), ArchiveError> {
        let Some(stored) = &mut self.stored else { return Ok(()) };
        stored.plan.read_held();
        for complete in std::mem::take(&mut stored.held) {
            self.read_group(complete)?;
        }
        Ok(())
    }

    /// Copies or reads the groups that are held, if they are enough.
    fn settle_stored(&mut self) -> Result<(), ArchiveError> {
        while self.stored.as_ref().is_some_and(|stored| stored.plan.is_enough()) {
            self.write_queued()?;
            let open = self.tar.members().settle_part()?;
            let Some(stored) = &mut self.stored else { break };
            match stored.plan.settle(open) {
                Settled::Copy => {
                    for complete in std::mem::take(&mut stored.held) {
                        self.copy_group(complete)?;
                    }
                    break;
                }
                Settled::Read(count) => {
                    for complete in stored.held.drain(..count).collect::<Vec<_>>() {
                        self.read_group(complete)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Queues the entries of a group to be read.
    fn read_group(&mut self, CompleteGroup { group, taken }: CompleteGroup) -> Result<(), ArchiveError> {
        copy::to_read(&group.entries, taken).try_for_each(|placed| self.queue_read(placed))
    }

    /// Lets the store copy a group, after everything before.
    fn copy_group(&mut self, CompleteGroup { group, taken }: CompleteGroup) -> Result<(), ArchiveError> {
        let (Some(stored), Some(carry)) = (&self.stored, &mut self.carry) else { return Ok(()) };
        self.tar.check_stop()?;
        let source = Arc::clone(&stored.source);
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
                    tally.note_copied(line.length, entries.len() as u64, line.tar_length, self.tar.observer());
                    members.push(CarriedMember { line, entries });
                }
                self.tar.members().write_stored(&source, members)?;
            }
            copy::count(&mut self.tar, taken);
        } else {
            let data_bytes = copy::count(&mut self.tar, taken);
            tally.note_copied(group.first.length, group.entries.len() as u64, data_bytes, self.tar.observer());
            let member = CarriedMember { line: group.first, entries: group.entries };
            self.tar.members().write_stored(&source, vec![member])?;
        }
        self.tar.note_copied(group.tar_length);
        Ok(())
    }

    /// Queues an entry to be read, after the groups that are held.
    pub(super) fn read_after_stored(&mut self, placed: Box<Placed>) -> Result<(), ArchiveError> {
        // A socket is left out, and interrupts no range.
        if !matches!(placed.entry.kind, EntryKind::Socket) {
            self.read_stored()?;
        }
        self.queue_read(placed)
    }
}
