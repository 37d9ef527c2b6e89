//! Carrying forward in an object store: the store copies long ranges of the previous archive, and this host reads the rest
//! from the source. No byte of that archive comes to this host.

use std::sync::Arc;

use super::ArchiveWriter;
use crate::archive::carry::candidate::CompleteGroup;
use crate::archive::carry::copy;
use crate::archive::carry::segment::{Piece, Settled, Step};
use crate::archive::error::ArchiveError;
use crate::archive::placed::Placed;
use crate::entry::EntryKind;

/// What an entry takes in memory besides its text and its attributes.
const ENTRY_BYTES: usize = 512;

fn piece_of(complete: &CompleteGroup) -> Option<Piece> {
    let CompleteGroup { group, taken } = complete;
    let range = complete.referred_range()?;
    let xattr_bytes: usize = taken.iter().map(|taken| taken.placed.entry.xattr_bytes()).sum();
    let weight = group.entries.text_bytes() + taken.len() * ENTRY_BYTES + xattr_bytes;
    Some(Piece { offset: range.start, length: range.end - range.start, tar_length: group.tar_length, weight })
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
    fn copy_group(&mut self, complete: CompleteGroup) -> Result<(), ArchiveError> {
        let (Some(stored), Some(carry)) = (&self.stored, &mut self.carry) else { return Ok(()) };
        self.tar.check_stop()?;
        let source = Arc::clone(&stored.source);
        copy::copy_unread(&mut self.tar, complete, carry, |members, whole| members.write_stored(&source, whole))
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
