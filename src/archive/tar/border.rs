//! Where members end.

use sha2::{Digest, Sha256};

/// An entry that takes this much has members of its own.
const TARGET_MEMBER_BYTES: u64 = 512 * 1024;
/// Smaller entries share members of about this size on average: the smaller, the less has to be read again for
/// one that changed, and the less is compressed together.
const SHARED_MEMBER_BYTES: u64 = 80 * 1024;
/// And where entries are so small that more would go in there, of about this many beyond [`MIN_MEMBER_BYTES`].
const SHARED_MEMBER_ENTRIES: u64 = 3;
/// A shared member is not ended before it has this much.
const MIN_MEMBER_BYTES: usize = 20 * 1024;

/// Whether an entry of this length shares its members with no other.
pub(super) fn has_members_of_its_own(entry_bytes: u64) -> bool {
    entry_bytes >= TARGET_MEMBER_BYTES
}

/// Whether a member that holds so much may end.
pub(super) fn may_end_member(member_bytes: usize) -> bool {
    member_bytes >= MIN_MEMBER_BYTES
}

/// Whether the member ends after this entry: decided by the entry alone, so that a change elsewhere changes nothing
/// here. On average one member ends for each [`SHARED_MEMBER_BYTES`], and for each [`SHARED_MEMBER_ENTRIES`].
pub(super) fn ends_member(path: &[u8], entry_bytes: u64, member_bytes: usize) -> bool {
    if has_members_of_its_own(entry_bytes) {
        return true;
    }
    if !may_end_member(member_bytes) {
        return false;
    }
    let digest: [u8; 32] = Sha256::digest(path).into();
    let fraction =
        u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]);
    let share = entry_bytes.max(SHARED_MEMBER_BYTES / SHARED_MEMBER_ENTRIES);
    fraction < share.saturating_mul(u64::MAX / SHARED_MEMBER_BYTES)
}
