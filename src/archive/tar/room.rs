//! How much may be archived.

use crate::archive::error::ArchiveError;

/// Headers up to this length do not count: what is longer holds extended attributes, which inodes can share.
const USUAL_HEAD_BYTES: u64 = 4096;

/// How much of a filesystem is archived at most: data, maps of holes, and headers beyond their usual length, since a tenant can
/// have a few blocks mapped as often as he likes; and how long the archive may become before it is compressed.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "the unit is the last word of each name")]
pub(in crate::archive) struct Room {
    limit_bytes: u64,
    taken_bytes: u64,
    max_tar_bytes: u64,
}

impl Room {
    pub(super) const UNLIMITED: Self = Self { limit_bytes: u64::MAX, taken_bytes: 0, max_tar_bytes: u64::MAX };

    /// Another filesystem begins, of which nothing was taken and all may be.
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

    /// Takes the part of an entry's headers that counts.
    pub(super) fn take_head(&mut self, head_bytes: u64) {
        self.take(head_bytes.saturating_sub(USUAL_HEAD_BYTES));
    }

    /// Whether the filesystem has room for `more_bytes`.
    pub(super) fn check(&self, more_bytes: u64) -> Result<(), ArchiveError> {
        if self.taken_bytes.saturating_add(more_bytes) > self.limit_bytes {
            return Err(ArchiveError::TooMuch { limit_bytes: self.limit_bytes });
        }
        Ok(())
    }

    /// Whether the tar stream, which is at `tar_offset`, has room for `more_bytes`.
    pub(super) fn check_archive(&self, tar_offset: u64, more_bytes: u64) -> Result<(), ArchiveError> {
        if tar_offset.saturating_add(more_bytes) > self.max_tar_bytes {
            return Err(ArchiveError::TooLong { limit_bytes: self.max_tar_bytes });
        }
        Ok(())
    }
}
