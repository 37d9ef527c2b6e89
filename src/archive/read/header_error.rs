//! Errors of the headers before an entry.

use std::io;

/// Why the headers of an entry cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The block has no checksum in octal digits.
    #[error("it is not a tar header")]
    NotAHeader,
    /// The sum of its bytes is another one.
    #[error("the checksum of its tar header is wrong")]
    Checksum,
    /// A number field has other characters than digits, or is out of range.
    #[error("its {0} is wrong")]
    Field(&'static str),
    /// A block of zeros stands where the entry's own header is due.
    #[error("zeros follow an extended header")]
    Zeros,
    /// A block follows the entry's own header and is not a part of it.
    #[error("too many headers")]
    Behind,
    /// More headers than any entry needs stand before the entry's own.
    #[error("it has too many headers")]
    TooMany,
    /// An extended header, or a long name, is larger than the reader takes.
    #[error("its extended header has {bytes} bytes, and {most} is the most")]
    TooLarge {
        /// The size that it gives, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        most: u64,
    },
    /// GNU tar's header for a long name has no name.
    #[error("its long name is empty")]
    EmptyName,
    /// The headers end before the entry's own.
    #[error("it has no header")]
    Missing,
    /// A size is larger than the largest file.
    #[error("its size is out of bounds")]
    Size,
    /// An extended header does not consist of records.
    #[error("its extended header is damaged: {0}")]
    Records(&'static str),
    /// A record's text has a byte that no path has.
    #[error("its record {} holds a zero byte", .0.escape_ascii())]
    ZeroByte(Vec<u8>),
    /// A record's value has other characters than digits, or is out of range.
    #[error("its record {} is no number that can be used", .0.escape_ascii())]
    Number(Vec<u8>),
    /// The value of `mtime` is no time, or out of range.
    #[error("its time is no number that can be used")]
    Time,
    /// The map of holes is wrong.
    #[error(transparent)]
    Map(#[from] HolesError),
}

/// Why the map of a file's holes cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HolesError {
    /// A number in it has other characters than digits, or too many of them.
    #[error("its map of holes is damaged")]
    Damaged,
    /// Runs overlap, go back, or lie behind the file's end.
    #[error("its map of holes contradicts itself")]
    Contradiction,
    /// The runs together have another length than the data that is stored.
    #[error("its map of holes has {mapped} bytes of data, and {stored} are stored")]
    Length {
        /// The length of all runs, in bytes.
        mapped: u64,
        /// The length of the stored data, in bytes.
        stored: u64,
    },
    /// The map in the headers has more runs than the reader takes.
    #[error("its map of holes is too long")]
    TooLong,
    /// The list of a map has an odd number of numbers, or more than the reader takes.
    #[error("its map of holes is cut off or too long")]
    List,
    /// The stored data ends before the map does.
    #[error("its map of holes is cut off")]
    CutOff,
    /// The archive ends before the map does.
    #[error("the archive ends in its map of holes")]
    ArchiveEnds,
    /// A member with a part of the map is lost; the text says why.
    #[error("{0}")]
    Lost(String),
    /// PAX format 1.0 is the newest that GNU tar has.
    #[error("its map of holes is of a version that is not known")]
    Version,
    /// `GNU.sparse.realsize` is missing.
    #[error("it has holes and no real size")]
    NoRealSize,
    /// A long map is kept in a temporary file, which cannot be written.
    #[error("its map of holes cannot be put aside: {0}")]
    PutAside(io::Error),
}
