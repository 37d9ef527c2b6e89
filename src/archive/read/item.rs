//! What the walk through a tar stream gives.

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

/// What the walk comes to.
#[derive(Debug)]
pub enum Item {
    /// An entry, whose data comes next.
    Entry(Box<EntryHead>, Option<Box<EntryLine>>),
    /// An entry that cannot be read, or bytes that are none.
    Lost {
        /// The entry, when the index names it.
        line: Option<Box<EntryLine>>,
        /// Where.
        place: TarPlace,
        /// Why, one line.
        what: String,
        /// The reason is a member that cannot be read, which is reported by itself.
        member_lost: bool,
    },
}

/// Data of an entry that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLost {
    /// The member that it was in.
    pub place: TarPlace,
    /// How many bytes of the entry's stored data are lost with it, at this point of it.
    pub bytes: u64,
    /// Why, one line.
    pub what: String,
}

/// How the tar stream ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// The blocks of zeros that end an archive are there.
    pub complete: bool,
    /// How many entries there were.
    pub entries: u64,
    /// How much of it was walked, in bytes.
    pub tar_bytes: u64,
}
