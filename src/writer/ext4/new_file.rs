//! A file between its first and its last byte.

use super::extents::Extent;

/// A file whose data is being written. It has no name yet.
pub(crate) struct NewFile {
    pub(super) inode: u32,
    pub(super) size: u64,
    pub(super) extents: Vec<Extent>,
    /// The blocks of the extent tree.
    pub(super) tree: Vec<u64>,
    /// The extent of the next byte.
    pub(super) current: usize,
    /// Up to here the blocks of the file are filled.
    pub(super) filled: u64,
    /// The bytes that are still to come.
    pub(super) left: u64,
}
