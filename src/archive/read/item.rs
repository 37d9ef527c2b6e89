//! The items of a walk through a tar stream.

use super::head::EntryHead;
use crate::archive::index::EntryLine;

/// A place in the archive, for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TarPlace {
    /// The member, or the piece of a foreign archive.
    pub member: u64,
    /// The offset in the tar stream.
    pub tar_offset: u64,
}

/// An item of the walk.
#[derive(Debug)]
pub enum Item {
    /// An entry, followed by its data.
    Entry(Box<EntryHead>, Option<Box<EntryLine>>),
    /// An entry that cannot be read, or invalid bytes.
    Lost {
        /// The entry, if the index has it.
        line: Option<Box<EntryLine>>,
        /// The place.
        place: TarPlace,
        /// The reason, one line.
        what: String,
        /// Whether the reason is an unreadable member, which is reported separately.
        member_lost: bool,
    },
}

/// Lost data of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLost {
    /// The member with the data.
    pub place: TarPlace,
    /// The number of bytes of the entry's stored data lost at this point.
    pub bytes: u64,
    /// The reason, one line.
    pub what: String,
}

/// How the tar stream ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// Whether the end-of-archive marker is present.
    pub complete: bool,
    /// The number of entries.
    pub entries: u64,
    /// The length of the walked part, in bytes.
    pub tar_bytes: u64,
}
