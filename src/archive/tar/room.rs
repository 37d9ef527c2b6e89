//! Limits of the archived amount.

use crate::archive::error::ArchiveError;

/// Headers up to this length do not count. Longer ones hold extended attributes, which inodes can share.
const USUAL_HEAD_BYTES: u64 = 4096;

/// Limits per filesystem and per archive. The filesystem limit counts data, maps of holes, and headers beyond their
/// usual length, since a tenant can map a few blocks any number of times. The archive limit counts bytes before
/// compression.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "the unit is the last word of each name")]
pub(in crate::archive) struct Room {
    limit_bytes: u64,
    taken_bytes: u64,
    max_tar_bytes: u64,
}

impl Room {
    pub(super) const UNLIMITED: Self = Self { limit_bytes: u64::MAX, taken_bytes: 0, max_tar_bytes: u64::MAX };

    /// Resets the filesystem limit.
    pub(in crate::archive) fn start_filesystem(&mut self) {
        (self.limit_bytes, self.taken_bytes) = (u64::MAX, 0);
    }

    pub(in crate::archive) fn limit_filesystem(&mut self, limit_bytes: u64) {
        self.limit_bytes = limit_bytes;
    }

    pub(in crate::archive) fn limit_archive(&mut self, limit_bytes: u64) {
        self.max_tar_bytes = limit_bytes;
    }

    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
    }

    /// Counts an entry's headers beyond their usual length.
    pub(super) fn take_head(&mut self, head_bytes: u64) {
        self.take(head_bytes.saturating_sub(USUAL_HEAD_BYTES));
    }

    /// Checks that the filesystem may take `more_bytes`.
    pub(super) fn check(&self, more_bytes: u64) -> Result<(), ArchiveError> {
        if self.taken_bytes.saturating_add(more_bytes) > self.limit_bytes {
            return Err(ArchiveError::TooMuch { limit_bytes: self.limit_bytes });
        }
        Ok(())
    }

    /// Checks that the tar stream, now at `tar_offset`, may take `more_bytes`.
    pub(super) fn check_archive(&self, tar_offset: u64, more_bytes: u64) -> Result<(), ArchiveError> {
        if tar_offset.saturating_add(more_bytes) > self.max_tar_bytes {
            return Err(ArchiveError::TooLong { limit_bytes: self.max_tar_bytes });
        }
        Ok(())
    }
}
