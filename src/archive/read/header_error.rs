//! Errors in the headers of an entry.

use std::io;

/// Why the headers of an entry cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The block has no checksum in octal digits.
    #[error("it is not a tar header")]
    NotAHeader,
    /// The checksum does not match.
    #[error("the checksum of its tar header is wrong")]
    Checksum,
    /// A number field contains other characters than digits, or is out of range.
    #[error("its {0} is wrong")]
    Field(&'static str),
    /// A block of zeros where the entry's own header should be.
    #[error("zeros follow an extended header")]
    Zeros,
    /// A block after the entry's own header that does not belong to it.
    #[error("too many headers")]
    Behind,
    /// Too many headers before the entry's own.
    #[error("it has too many headers")]
    TooMany,
    /// An extended header or long name above the limit.
    #[error("its extended header has {bytes} bytes, and {most} is the most")]
    TooLarge {
        /// Its size in bytes.
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
    /// A record contains a NUL byte, which no path has.
    #[error("its record {} holds a zero byte", .0.escape_ascii())]
    ZeroByte(Vec<u8>),
    /// A record's value contains other characters than digits, or is out of range.
    #[error("its record {} is no number that can be used", .0.escape_ascii())]
    Number(Vec<u8>),
    /// The value of `mtime` is invalid or out of range.
    #[error("its time is no number that can be used")]
    Time,
    /// The map of holes is wrong.
    #[error(transparent)]
    Map(#[from] HolesError),
}

/// Why a map of holes cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HolesError {
    /// A number contains other characters than digits, or too many digits.
    #[error("its map of holes is damaged")]
    Damaged,
    /// Runs overlap, are out of order, or extend past the file's end.
    #[error("its map of holes contradicts itself")]
    Contradiction,
    /// The total length of the runs differs from that of the stored data.
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
    /// The list of a map has an odd number of values, or too many.
    #[error("its map of holes is cut off or too long")]
    List,
    /// The stored data ends within the map.
    #[error("its map of holes is cut off")]
    CutOff,
    /// The archive ends within the map.
    #[error("the archive ends in its map of holes")]
    ArchiveEnds,
    /// A member with part of the map is lost, for this reason.
    #[error("{0}")]
    Lost(String),
    /// A version newer than PAX format 1.0.
    #[error("its map of holes is of a version that is not known")]
    Version,
    /// `GNU.sparse.realsize` is missing.
    #[error("it has holes and no real size")]
    NoRealSize,
    /// A long map goes to a temporary file, and writing it failed.
    #[error("its map of holes cannot be put aside: {0}")]
    PutAside(io::Error),
}
