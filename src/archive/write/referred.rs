//! Carrying forward in the shared layout of an object store: the new archive refers to unchanged members of the previous one,
//! of which no byte comes to this host. The rest is read from the source.

use super::ArchiveWriter;
use crate::archive::carry::candidate::CompleteGroup;
use crate::archive::carry::copy;
use crate::archive::error::ArchiveError;
use crate::archive::members::CarriedMember;

impl ArchiveWriter<'_> {
    /// Queues a group that is unchanged: it is referred to, or read if it lies in a segment that is left.
    pub(super) fn take_referred(&mut self, complete: CompleteGroup) -> Result<(), ArchiveError> {
        let Some(parts) = &self.referred else { return Ok(()) };
        let range = complete.referred_range();
        if !range.is_some_and(|range| parts.may_be_referred_to(range.start, range.end - range.start)) {
            let CompleteGroup { group, taken } = complete;
            return copy::to_read(&group.entries, taken).try_for_each(|placed| self.queue_read(placed));
        }
        while self.queue.is_full() {
            self.write_next()?;
        }
        self.queue.push_referred(complete);
        Ok(())
    }

    /// Refers to a group, after everything before.
    pub(super) fn refer_to_group(&mut self, complete: CompleteGroup) -> Result<(), ArchiveError> {
        let Some(carry) = &mut self.carry else { return Ok(()) };
        let CompleteGroup { group, taken } = complete;
        // Otherwise its entries go into the member before: repeated changes would make ever more small members.
        let first_bytes = group.entries.facts().next().map(|first| first.tar_length);
        if !self.tar.may_end_member_before(first_bytes) {
            let tally = carry.tally();
            return copy::to_read(&group.entries, taken)
                .try_for_each(|placed| copy::read(&mut self.tar, *placed, 0, Some(&mut *tally)));
        }
        let complete = CompleteGroup { group, taken };
        copy::copy_unread(&mut self.tar, complete, carry, |members, whole: Vec<CarriedMember>| {
            members.write_referred(whole)
        })
    }
}
