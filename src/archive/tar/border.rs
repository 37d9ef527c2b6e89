//! The borders of members.

use sha2::{Digest, Sha256};

/// Entries from this length have their own members.
const TARGET_MEMBER_BYTES: u64 = 512 * 1024;
/// Smaller entries share members of about this size on average. Smaller members mean less to re-read after a
/// change, but worse compression.
const SHARED_MEMBER_BYTES: u64 = 80 * 1024;
/// For very small entries a member ends after about this many beyond [`MIN_MEMBER_BYTES`].
const SHARED_MEMBER_ENTRIES: u64 = 3;
/// The minimum size of a shared member.
const MIN_MEMBER_BYTES: usize = 20 * 1024;

/// Whether an entry of this length has members of its own.
pub(super) fn has_members_of_its_own(entry_bytes: u64) -> bool {
    entry_bytes >= TARGET_MEMBER_BYTES
}

/// Whether a member of this length may end.
pub(super) fn may_end_member(member_bytes: usize) -> bool {
    member_bytes >= MIN_MEMBER_BYTES
}

/// Whether the member ends after this entry. Only the entry itself decides, so that a change elsewhere does not
/// move borders here. On average one member ends per [`SHARED_MEMBER_BYTES`], and per [`SHARED_MEMBER_ENTRIES`].
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
