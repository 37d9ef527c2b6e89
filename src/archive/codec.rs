//! Codecs: how the data of a member is compressed, and the frame by which members are found in an archive.
//!
//! A codec is one file that implements `Codec`, and one entry of `KNOWN`. An archive has one codec for all of its members.

pub(super) mod contract;

pub(super) use self::contract::{Bounds, CodecRef, Decode, Encode};
pub use self::contract::{DecodeError, EncoderError, MAX_MEMBER_DATA, MemberFrame};
use super::gzip::{self, Gzip};
use crate::outside::BlockRead;

/// The codec of new archives.
pub(super) const WRITTEN: CodecRef = &Gzip;

/// All codecs that are read.
const KNOWN: [CodecRef; 1] = [WRITTEN];

/// The widest bounds of all known codecs: for buffers, and for an index, which does not name its codec.
pub(super) const WIDEST: Bounds = gzip::BOUNDS;

/// The codec of an archive, by its first bytes; that of new archives where they do not say.
pub(super) fn of_archive(archive: &dyn BlockRead) -> CodecRef {
    let mut header = vec![0; KNOWN.iter().map(|codec| codec.bounds().header_bytes).max().unwrap_or(0)];
    // What cannot be read is found, and reported, by whoever reads the archive.
    let len = archive.read_some(0, &mut header).unwrap_or(0);
    KNOWN.into_iter().find(|codec| codec.frame(&header[..len]).is_some()).unwrap_or(WRITTEN)
}

#[cfg(test)]
mod tests;
