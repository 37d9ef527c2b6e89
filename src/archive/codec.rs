//! Codecs: compression of members, and the frame by which members are found in an archive.
//!
//! A codec is one file that implements `Codec`, one entry of `KNOWN`, and a name in `kind`. All members of an archive use the same
//! codec.

pub(super) mod contract;

pub(super) use self::contract::{Bounds, CodecRef, Decode, Encode, FineMembers, MemberSizes, SharedMembers};
pub use self::contract::{DecodeError, EncoderError, MAX_MEMBER_DATA, MemberFrame};
use super::gzip::{self, Gzip};
#[cfg(feature = "encryption")]
use super::sealed;
use super::zstd::{self, Zstd};
#[cfg(feature = "encryption")]
use crate::encryption::segment::GZIP_SIGNATURE;
use crate::outside::BlockRead;

/// The codec of images, and of archives unless another one is asked for.
pub(super) const WRITTEN: CodecRef = &Gzip;

/// The codec of a member of an image, which may be encrypted.
pub(super) fn of_image_member(member: &[u8]) -> CodecRef {
    #[cfg(feature = "encryption")]
    if member.starts_with(GZIP_SIGNATURE) {
        return &sealed::READ_GZIP;
    }
    let _ = member;
    WRITTEN
}

/// All readable codecs.
#[cfg(feature = "encryption")]
static KNOWN: [CodecRef; 4] = [WRITTEN, &Zstd, &sealed::READ_GZIP, &sealed::READ_ZSTD];
#[cfg(not(feature = "encryption"))]
static KNOWN: [CodecRef; 2] = [WRITTEN, &Zstd];

/// The widest bounds of all known codecs: for buffers, and for an index, which does not name its codec.
#[cfg(feature = "encryption")]
pub(super) const WIDEST: Bounds =
    wider(wider(gzip::BOUNDS, zstd::BOUNDS), wider(sealed::GZIP_BOUNDS, sealed::ZSTD_BOUNDS));
#[cfg(not(feature = "encryption"))]
pub(super) const WIDEST: Bounds = wider(gzip::BOUNDS, zstd::BOUNDS);

const fn wider(one: Bounds, other: Bounds) -> Bounds {
    const fn more(one: usize, other: usize) -> usize {
        if one > other { one } else { other }
    }
    const fn less(one: usize, other: usize) -> usize {
        if one < other { one } else { other }
    }
    Bounds {
        header_bytes: more(one.header_bytes, other.header_bytes),
        frame_bytes: less(one.frame_bytes, other.frame_bytes),
        max_member_bytes: more(one.max_member_bytes, other.max_member_bytes),
        min_padding_bytes: less(one.min_padding_bytes, other.min_padding_bytes),
        max_padding_bytes: more(one.max_padding_bytes, other.max_padding_bytes),
    }
}

/// The codec of an archive: that of its first member, or if that is damaged, of another one near the start. That of
/// new archives without either.
pub(super) fn of_archive(archive: &dyn BlockRead) -> CodecRef {
    let mut start = vec![0; WIDEST.header_bytes];
    // A read error is found and reported when the archive is read.
    let len = archive.read_some(0, &mut start).unwrap_or(0);
    let at_start = KNOWN.iter().copied().find(|codec| codec.frame(&start[..len]).is_some());
    at_start.or_else(|| of_other_member(archive)).unwrap_or(WRITTEN)
}

/// The codec of the first member within the length of one.
fn of_other_member(archive: &dyn BlockRead) -> Option<CodecRef> {
    let wanted = WIDEST.max_member_bytes + WIDEST.header_bytes;
    let mut bytes = vec![0; usize::try_from(archive.len_bytes()).map_or(wanted, |len| len.min(wanted))];
    let len = archive.read_some(0, &mut bytes).unwrap_or(0);
    let first_of = |codec: CodecRef| {
        let mut found = memchr::memmem::find_iter(&bytes[..len], codec.signature());
        found.find(|at| codec.frame(&bytes[*at..len]).is_some())
    };
    let found = KNOWN.iter().copied().filter_map(|codec| Some((first_of(codec)?, codec)));
    found.min_by_key(|(at, _)| *at).map(|(_, codec)| codec)
}

#[cfg(test)]
pub(super) mod tests;
