//! Members on their way to the archive.

use std::sync::Arc;

use super::cut::CutMembers;
use super::recheck::{Carried, CarriedMember};
use crate::archive::codec::{MAX_MEMBER_DATA, WIDEST};
use crate::archive::index::{EntryLine, MemberDigest};
use crate::outside::{BlockRead, StoredObject};

/// A member being filled, compressed and written. Its buffers are reused.
pub(super) struct Job {
    /// Always of full length; its first `data_len` bytes are valid.
    pub(super) data: Vec<u8>,
    pub(super) data_len: usize,
    /// Its first `member_len` bytes are valid.
    pub(super) member: Vec<u8>,
    pub(super) member_len: usize,
    pub(super) level: i32,
    pub(super) digest: MemberDigest,
    pub(super) heads: Option<[u8; 16]>,
    pub(super) entries: Vec<EntryLine>,
    /// Where members end in the data, if these are data of a large file or a raw image between borders.
    pub(super) cut_ends: Vec<usize>,
    /// The archive that some of them were copied from.
    pub(super) previous: Option<Arc<dyn BlockRead>>,
    /// These members, instead of one.
    pub(super) cut: CutMembers,
    /// Whether all members that are copied are compared with the data.
    pub(super) compares_all: bool,
}

/// A compressed member, or several carried ones.
pub(super) enum Ready {
    Compressed(Job),
    Carried(Carried),
    Stored(Stored),
}

/// Members that are adjacent in the previous archive, which lies in an object store, and is not read.
pub(super) struct Stored {
    /// The object that its store copies them from; `None` if the new archive refers to them.
    pub(super) source: Option<Arc<StoredObject>>,
    pub(super) members: Vec<CarriedMember>,
}

impl Job {
    pub(super) fn empty() -> Self {
        Self {
            data: vec![0; MAX_MEMBER_DATA],
            data_len: 0,
            // Untouched pages take no memory.
            member: vec![0; WIDEST.max_member_bytes],
            member_len: 0,
            level: 0,
            digest: MemberDigest::Blake3([0; 32]),
            heads: None,
            entries: Vec::new(),
            cut_ends: Vec::new(),
            previous: None,
            cut: CutMembers::default(),
            compares_all: false,
        }
    }
}
