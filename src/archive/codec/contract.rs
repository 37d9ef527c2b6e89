//! The interface of a codec and its types.

use std::io;

use crate::archive::level::BadLevel;
use crate::encryption::LockedError;

/// The maximum amount of data in a member, in bytes, for every codec.
pub const MAX_MEMBER_DATA: usize = 1 << 20;

/// Codecs are static.
pub(in crate::archive) type CodecRef = &'static dyn Codec;

/// Lengths of members and of their parts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit is the last word of each name")]
pub(in crate::archive) struct Bounds {
    /// The header with the frame.
    pub(in crate::archive) header_bytes: usize,
    /// Header and trailer together. Every member is longer.
    pub(in crate::archive) frame_bytes: usize,
    /// The maximum length of a member.
    pub(in crate::archive) max_member_bytes: usize,
    /// The minimum length of a member without data; the maximum is `max_padding_bytes`.
    pub(in crate::archive) min_padding_bytes: usize,
    pub(in crate::archive) max_padding_bytes: usize,
}

/// When a member that several small entries share ends. Larger members compress better, and a change costs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) struct SharedMembers {
    /// No member ends before it has this much data, in bytes.
    pub(in crate::archive) min_bytes: usize,
    /// From there on, one ends per this many bytes on average,
    pub(in crate::archive) mean_bytes: u64,
    /// or per this many entries.
    pub(in crate::archive) mean_entries: u64,
    /// Further rules, where many archives share their members.
    pub(in crate::archive) fine: Option<FineMembers>,
}

/// Rules that keep members small and the same from night to night.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) struct FineMembers {
    /// No member ends before it has this much data, in bytes. With it, one ends where it ended in the previous archive,
    pub(in crate::archive) least_bytes: usize,
    /// and before an entry of at least this many bytes.
    pub(in crate::archive) apart_bytes: u64,
}

/// Where the members of an archive end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) struct MemberSizes {
    /// Those of small entries.
    pub(in crate::archive) shared: SharedMembers,
    /// The least distance of the borders at which members end in a large file, in bytes, a power of two.
    pub(in crate::archive) file_bytes: u64,
}

/// What is the same for all members of a codec.
pub(in crate::archive) struct Format {
    pub(in crate::archive) bounds: Bounds,
    pub(in crate::archive) sizes: MemberSizes,
    /// The sizes of members in archives of which many share their bytes.
    pub(in crate::archive) fine_sizes: MemberSizes,
    pub(in crate::archive) signature: &'static [u8],
}

/// The lengths in a member's own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberFrame {
    /// The length of the whole member, including header and trailer.
    pub member_bytes: u32,
    /// The length of its data.
    pub data_bytes: u32,
}

impl MemberFrame {
    /// Whether the index gives the same lengths.
    pub(in crate::archive) fn is(self, member_bytes: u64, data_bytes: u64) -> bool {
        (u64::from(self.member_bytes), u64::from(self.data_bytes)) == (member_bytes, data_bytes)
    }
}

/// Compresses and decompresses the members of an archive. The contract is the test suite in `tests.rs`.
pub(in crate::archive) trait Codec: Sync {
    /// What is the same for all its members.
    fn format(&self) -> &'static Format;

    /// The possible lengths of its members.
    fn bounds(&self) -> &'static Bounds {
        &self.format().bounds
    }

    /// The bytes at the start of every member, to find members in arbitrary data.
    fn signature(&self) -> &'static [u8] {
        self.format().signature
    }

    /// Parses the header of a member. `None` if the bytes do not start with one, or its lengths are out of bounds.
    fn frame(&self, bytes: &[u8]) -> Option<MemberFrame>;

    /// An encoder for a level from 1 to 12.
    fn encoder(&self, level: i32) -> Result<Box<dyn Encode>, EncoderError>;

    /// The maximum memory of an encoder, in bytes.
    fn encoder_bytes(&self, level: i32) -> usize;

    /// A decoder. Fails if memory is lacking.
    fn decoder(&self) -> io::Result<Box<dyn Decode>>;

    /// A member of about this length without data; the length must be within the bounds for padding.
    fn padding(&self, len: usize) -> Vec<u8>;

    /// Whether padding has exactly the length that was asked for. Otherwise an archive shares no blocks with the previous
    /// one.
    fn has_exact_padding(&self) -> bool {
        true
    }
}

/// Makes members. Expensive to create, so it is reused.
pub(in crate::archive) trait Encode: Send {
    /// The current level.
    fn level(&self) -> i32;

    /// Changes the level. Cheap if it is the current one.
    fn set_level(&mut self, level: i32) -> Result<(), EncoderError>;

    /// Makes a member that holds `data`, at most [`MAX_MEMBER_DATA`] bytes, at the start of `out`, and returns its
    /// length. `out` grows if needed, and never shrinks. The same data at the same level gives the same member.
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> usize;
}

/// Decodes members.
pub(in crate::archive) trait Decode: Send {
    /// Fills `data` with the content of `member`. It must be exactly `data_bytes` with the right checksum. The
    /// header is ignored: the caller knows the lengths.
    fn decode(&mut self, member: &[u8], data_bytes: u64, data: &mut Vec<u8>) -> Result<(), DecodeError>;
}

/// Why there is no encoder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// The level does not exist.
    #[error(transparent)]
    Level(#[from] BadLevel),
    /// Its tables need more memory than this process may use.
    #[error("there is too little memory for compression")]
    Memory(#[source] io::Error),
    /// The codec encrypts, and knows nobody to encrypt for.
    #[error("there are no recipients to encrypt for")]
    NoRecipients,
}

/// Why a member cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is too short, or its expected length is too large.
    #[error("its lengths are out of bounds")]
    Bounds,
    /// The length of its data is wrong.
    #[error("it decompresses to {found} bytes, not {expected}")]
    Length {
        /// The length found, in bytes.
        found: usize,
        /// The expected length.
        expected: usize,
    },
    /// Its compressed data is damaged.
    #[error("it cannot be decompressed")]
    Data,
    /// The checksum of its data does not match.
    #[error("its CRC is wrong")]
    Crc,
    /// The length in its trailer does not match.
    #[error("the length at its end is wrong")]
    Trailer,
    /// Bytes follow its compressed data that do not belong to it. gunzip stops there.
    #[error("it contains other bytes behind its compressed data")]
    Surplus,
    /// It is encrypted, and cannot be decrypted.
    #[error("it is encrypted: {0}")]
    Sealed(LockedError),
}
