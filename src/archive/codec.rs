//! Codecs: compression of members, and the frame by which members are found in an archive.
//!
//! A codec is one file that implements `Codec`, and one entry of `KNOWN`. All members of an archive use the same
//! codec.

pub(super) mod contract;

pub(super) use self::contract::{Bounds, CodecRef, Decode, Encode};
pub use self::contract::{DecodeError, EncoderError, MAX_MEMBER_DATA, MemberFrame};
use super::gzip::{self, Gzip};
use crate::outside::BlockRead;

/// The codec of new archives.
pub(super) const WRITTEN: CodecRef = &Gzip;

/// All readable codecs.
const KNOWN: [CodecRef; 1] = [WRITTEN];

/// The widest bounds of all known codecs: for buffers, and for an index, which does not name its codec.
pub(super) const WIDEST: Bounds = gzip::BOUNDS;

/// The codec of an archive, detected by its first bytes; that of new archives if they match none.
pub(super) fn of_archive(archive: &dyn BlockRead) -> CodecRef {
    let mut header = vec![0; KNOWN.iter().map(|codec| codec.bounds().header_bytes).max().unwrap_or(0)];
    // A read error is found and reported when the archive is read.
    let len = archive.read_some(0, &mut header).unwrap_or(0);
    KNOWN.into_iter().find(|codec| codec.frame(&header[..len]).is_some()).unwrap_or(WRITTEN)
}

#[cfg(test)]
mod tests;
