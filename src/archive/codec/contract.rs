//! What a codec has to do, and the types that go with it.

use std::io;

use crate::archive::level::BadLevel;

/// The largest amount of data in a member, in bytes, whatever the codec.
pub const MAX_MEMBER_DATA: usize = 1 << 20;

/// A codec lives as long as the program.
pub(in crate::archive) type CodecRef = &'static dyn Codec;

/// Lengths of members and of their parts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit is the last word of each name")]
pub(in crate::archive) struct Bounds {
    /// The header, which holds the frame.
    pub(in crate::archive) header_bytes: usize,
    /// Header and trailer together. A member is longer.
    pub(in crate::archive) frame_bytes: usize,
    /// No member is longer.
    pub(in crate::archive) max_member_bytes: usize,
    /// No member without data is shorter, or longer than `max_padding_bytes`.
    pub(in crate::archive) min_padding_bytes: usize,
    pub(in crate::archive) max_padding_bytes: usize,
}

/// What a member's own header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberFrame {
    /// The length of the whole member, header and trailer included.
    pub member_bytes: u32,
    /// The length of the data in it.
    pub data_bytes: u32,
}

impl MemberFrame {
    /// Whether the index gives the same lengths.
    pub(in crate::archive) fn is(self, member_bytes: u64, data_bytes: u64) -> bool {
        (u64::from(self.member_bytes), u64::from(self.data_bytes)) == (member_bytes, data_bytes)
    }
}

/// How the members of an archive are made and read. The contract is a suite of tests in `tests.rs`.
pub(in crate::archive) trait Codec: Sync {
    /// What the name of an archive ends with, `.tar` included.
    fn suffix(&self) -> &'static str;

    /// The lengths that its members can have.
    fn bounds(&self) -> &'static Bounds;

    /// The bytes that every member begins with: for finding members in bytes that may be anything.
    fn signature(&self) -> &'static [u8];

    /// Reads the header of a member. `None` when these bytes do not begin one, or its lengths are out of bounds.
    fn frame(&self, bytes: &[u8]) -> Option<MemberFrame>;

    /// An encoder for a level from 1 to 12.
    fn encoder(&self, level: i32) -> Result<Box<dyn Encode>, EncoderError>;

    /// How much memory an encoder takes at most, in bytes.
    fn encoder_bytes(&self, level: i32) -> usize;

    /// A decoder. Fails without memory.
    fn decoder(&self) -> io::Result<Box<dyn Decode>>;

    /// A member of this length that holds no data, within the bounds for padding.
    fn padding(&self, len: usize) -> Vec<u8>;
}

/// Makes members. It is costly to make, and is used again for each member.
pub(in crate::archive) trait Encode: Send {
    /// The level that it compresses at.
    fn level(&self) -> i32;

    /// Goes on at another level. Costs something only when it is another one.
    fn set_level(&mut self, level: i32) -> Result<(), EncoderError>;

    /// Makes a member that holds `data`, at most [`MAX_MEMBER_DATA`] bytes, and returns its length. It is at the start of
    /// `out`, which is made longer where that is needed, and never shorter. The same data at the same level makes the same
    /// member.
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> usize;
}

/// Reads members back.
pub(in crate::archive) trait Decode: Send {
    /// Fills `data` with what `member` holds. Exactly `data_bytes` must come out, with the right checksum. The header is not
    /// read: whoever found the member knows its lengths.
    fn decode(&mut self, member: &[u8], data_bytes: u64, data: &mut Vec<u8>) -> Result<(), DecodeError>;
}

/// Why there is no encoder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// There is no such level.
    #[error(transparent)]
    Level(#[from] BadLevel),
    /// Its tables need more memory than this process may have.
    #[error("there is no memory for compressing")]
    Memory(#[source] io::Error),
}

/// Why a member has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is too short for a member, or is to hold more than one can.
    #[error("its lengths are out of bounds")]
    Bounds,
    /// It holds another amount of data.
    #[error("it decompresses to {found} bytes, not {expected}")]
    Length {
        /// How much it holds, in bytes.
        found: usize,
        /// How much it is to hold.
        expected: usize,
    },
    /// Its compressed data is damaged.
    #[error("it cannot be decompressed")]
    Data,
    /// Its data has another checksum.
    #[error("its CRC is wrong")]
    Crc,
    /// Its trailer gives another length.
    #[error("the length at its end is wrong")]
    Trailer,
}
