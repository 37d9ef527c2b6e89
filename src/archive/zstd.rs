//! Zstandard frames that are preceded by their own length.
//!
//! Source: RFC 8878 (Zstandard), sections 3.1.1 (frames) and 3.1.2 (skippable frames). A member is a skippable frame
//! with two lengths, and one frame with a checksum of its content. `zstd` and `tar --zstd` pass over the first, so an
//! archive is read by both, and members are found without decompressing them.

use std::io;

use xxhash_rust::xxh64::xxh64;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, find_frame_compressed_size, get_error_name, get_frame_content_size};

use super::codec::contract::{
    Bounds, Codec, Decode, DecodeError, Encode, EncoderError, Format, MAX_MEMBER_DATA, MemberFrame, MemberSizes,
    SharedMembers,
};
use super::level::check_level;
use crate::outside::memory;

/// The suffix of an archive's name.
pub(super) const SUFFIX: &str = ".tar.zst";

/// The skippable frame: its magic number and length, a mark, and both lengths.
const HEADER_BYTES: usize = 8 + CONTENT_BYTES;
const CONTENT_BYTES: usize = 12;
/// Magic number of a skippable frame (0x184D2A5B).
const SKIPPABLE: [u8; 4] = [0x5b, 0x2a, 0x4d, 0x18];
/// The start of every member: its header without the two lengths. 12 is [`CONTENT_BYTES`].
const SIGNATURE: [u8; 12] = *b"\x5b\x2a\x4d\x18\x0c\0\0\0VBzs";
/// Magic number of a frame (0xFD2FB528).
const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The XXH64 at the end of a frame, its low 32 bits.
const CHECKSUM_BYTES: usize = 4;
/// The padding of a member without data is a skippable frame.
const PADDING_HEADER_BYTES: usize = 8;
const MIN_PADDING_BYTES: usize = HEADER_BYTES + PADDING_HEADER_BYTES;
const MAX_PADDING_BYTES: usize = 8192;

/// Bits of a frame's descriptor: a checksum follows; the length of a dictionary's number.
const CHECKSUM_FLAG: u8 = 0b100;
const DICTIONARY_FLAG: u8 = 0b11;

/// The lengths of members.
pub(super) const BOUNDS: Bounds = Bounds {
    header_bytes: HEADER_BYTES,
    frame_bytes: HEADER_BYTES + CHECKSUM_BYTES,
    max_member_bytes: HEADER_BYTES + frame_bound(MAX_MEMBER_DATA),
    min_padding_bytes: MIN_PADDING_BYTES,
    max_padding_bytes: MAX_PADDING_BYTES,
};

/// The shared members are larger than gzip's: Zstandard finds repetitions at larger distances than deflate, and compresses again three times as fast (decision 95).
/// In a large file: of what databases hold, the archive is 1.7 % larger than with 1 MiB, with 256 KiB 4.2 %.
pub(super) const SIZES: MemberSizes = MemberSizes {
    shared: SharedMembers { min_bytes: 256 << 10, mean_bytes: 512 << 10, mean_entries: 40, fine: None },
    file_bytes: 512 << 10,
};

static FORMAT: Format = Format { bounds: BOUNDS, sizes: SIZES, fine_sizes: SIZES, signature: &SIGNATURE };

/// The codec.
pub(super) struct Zstd;

impl Codec for Zstd {
    fn format(&self) -> &'static Format {
        &FORMAT
    }

    fn frame(&self, bytes: &[u8]) -> Option<MemberFrame> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let number = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let frame = MemberFrame { member_bytes: number(12)?, data_bytes: number(16)? };
        let (len, data_len) = (frame.member_bytes as usize, frame.data_bytes as usize);
        let longest = if data_len == 0 { MAX_PADDING_BYTES } else { HEADER_BYTES + frame_bound(data_len) };
        let in_bounds = data_len <= MAX_MEMBER_DATA && len > BOUNDS.frame_bytes && len <= longest;
        (in_bounds && bytes.starts_with(&SIGNATURE)).then_some(frame)
    }

    fn encoder(&self, level: i32) -> Result<Box<dyn Encode>, EncoderError> {
        Ok(Box::new(FrameEncoder::new(level)?))
    }

    fn encoder_bytes(&self, level: i32) -> usize {
        context_bytes(level)
    }

    fn decoder(&self) -> io::Result<Box<dyn Decode>> {
        memory::require(DECODER_BYTES)?;
        let context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Box::new(FrameDecoder(context)))
    }

    fn padding(&self, len: usize) -> Vec<u8> {
        let mut member = Vec::with_capacity(len);
        let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        member.extend_from_slice(&header(MemberFrame { member_bytes: number(len), data_bytes: 0 }));
        member.extend_from_slice(&SKIPPABLE);
        member.extend_from_slice(&number(len.saturating_sub(MIN_PADDING_BYTES)).to_le_bytes());
        member.resize(len, 0);
        member
    }
}

/// The memory of a decoder, which decompresses from one buffer into another.
const DECODER_BYTES: usize = 256 << 10;

/// The maximum length of a frame with this much content (`ZSTD_compressBound`).
const fn frame_bound(len: usize) -> usize {
    const SMALL: usize = 128 << 10;
    len + (len >> 8) + if len < SMALL { (SMALL - len) >> 11 } else { 0 }
}

/// The level of Zstandard for a level from 1 to 12 (decision 95).
fn zstd_level(level: i32) -> i32 {
    match level {
        ..=2 => 1,
        3 | 4 => 2,
        5 | 6 => 3,
        7 => 5,
        8 => 7,
        9 => 9,
        10 => 12,
        11 => 15,
        _ => 19,
    }
}

/// An upper bound of an encoder's memory, for content of at most 1 MiB. Measured, with a margin.
fn context_bytes(level: i32) -> usize {
    if level >= 10 { 24 << 20 } else { 8 << 20 }
}

fn header(frame: MemberFrame) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..12].copy_from_slice(&SIGNATURE);
    header[12..16].copy_from_slice(&frame.member_bytes.to_le_bytes());
    header[16..].copy_from_slice(&frame.data_bytes.to_le_bytes());
    header
}

struct FrameEncoder {
    level: i32,
    context: CCtx<'static>,
}

impl FrameEncoder {
    fn new(level: i32) -> Result<Self, EncoderError> {
        check_level(level)?;
        let lacking = || EncoderError::Memory(io::ErrorKind::OutOfMemory.into());
        memory::require(context_bytes(level)).map_err(EncoderError::Memory)?;
        let mut context = CCtx::try_create().ok_or_else(lacking)?;
        for parameter in [
            CParameter::CompressionLevel(zstd_level(level)),
            CParameter::ChecksumFlag(true),
            CParameter::ContentSizeFlag(true),
        ] {
            // These values exist: only memory can be lacking.
            context.set_parameter(parameter).map_err(|_| lacking())?;
        }
        Ok(Self { level, context })
    }
}

impl Encode for FrameEncoder {
    fn level(&self) -> i32 {
        self.level
    }

    fn set_level(&mut self, level: i32) -> Result<(), EncoderError> {
        if self.level != level {
            *self = Self::new(level)?;
        }
        Ok(())
    }

    /// # Panics
    /// If there is more data than 1 MiB.
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> usize {
        assert!(data.len() <= MAX_MEMBER_DATA, "a member holds at most 1 MiB");
        let largest = HEADER_BYTES + frame_bound(data.len());
        if out.len() < largest {
            out.resize(largest, 0);
        }
        let body = &mut out[HEADER_BYTES..largest];
        // Fails only if memory is lacking, since `body` has the length of the bound.
        let frame_len = self.context.compress2(body, data).unwrap_or_else(|_| store(data, body));
        let member_len = HEADER_BYTES + frame_len;
        // At most 1 MiB of data and its frame: far below 2^32.
        let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let frame = MemberFrame { member_bytes: number(member_len), data_bytes: number(data.len()) };
        out[..HEADER_BYTES].copy_from_slice(&header(frame));
        member_len
    }
}

/// The maximum content of a block.
const BLOCK_BYTES: usize = 128 << 10;
/// Descriptor of a frame with the length of its content in four bytes, one segment, and a checksum.
const STORED_DESCRIPTOR: u8 = 0b1010_0000 | CHECKSUM_FLAG;

/// Writes `data` as a frame of raw blocks to `out`, which must have the length of the bound; returns its length.
fn store(data: &[u8], out: &mut [u8]) -> usize {
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        out[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    put(&FRAME_MAGIC);
    put(&[STORED_DESCRIPTOR]);
    put(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    let last = data.len().div_ceil(BLOCK_BYTES).max(1) - 1;
    for number in 0..=last {
        let block = data.chunks(BLOCK_BYTES).nth(number).unwrap_or_default();
        // Last_Block, Block_Type 0 (raw), Block_Size.
        let block_header = u32::from(number == last) | u32::try_from(block.len()).unwrap_or(u32::MAX) << 3;
        put(&block_header.to_le_bytes()[..3]);
        put(block);
    }
    // The low 32 bits.
    put(&xxh64(data, 0).to_le_bytes()[..CHECKSUM_BYTES]);
    len
}

struct FrameDecoder(DCtx<'static>);

impl Decode for FrameDecoder {
    fn decode(&mut self, member: &[u8], data_bytes: u64, data: &mut Vec<u8>) -> Result<(), DecodeError> {
        let expected = usize::try_from(data_bytes).ok().filter(|len| *len <= MAX_MEMBER_DATA);
        let (Some(expected), true) = (expected, member.len() > BOUNDS.frame_bytes) else {
            return Err(DecodeError::Bounds);
        };
        let frame = &member[HEADER_BYTES..];
        data.resize(expected, 0);
        if frame.starts_with(&SKIPPABLE) {
            return padding_of(frame, expected);
        }
        // One frame with a checksum and without a dictionary: what this program writes.
        let descriptor = *frame.get(FRAME_MAGIC.len()).ok_or(DecodeError::Data)?;
        let is_whole = find_frame_compressed_size(frame) == Ok(frame.len());
        let is_own = descriptor & CHECKSUM_FLAG != 0 && descriptor & DICTIONARY_FLAG == 0;
        if !(frame.starts_with(&FRAME_MAGIC) && is_own && is_whole) {
            return Err(DecodeError::Data);
        }
        match self.0.decompress(data.as_mut_slice(), frame) {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(DecodeError::Length { found, expected }),
            Err(code) if get_error_name(code) == CHECKSUM_IS_WRONG => Err(DecodeError::Crc),
            Err(code) if get_error_name(code) == CONTENT_IS_LONGER => {
                let found = usize::try_from(content_bytes(frame)).unwrap_or(usize::MAX);
                Err(DecodeError::Length { found, expected })
            }
            Err(_) => Err(DecodeError::Data),
        }
    }
}

/// The names of two errors of Zstandard.
const CHECKSUM_IS_WRONG: &str = "Restored data doesn't match checksum";
const CONTENT_IS_LONGER: &str = "Destination buffer is too small";

/// The length of a frame's content according to its header; 0 without one.
fn content_bytes(frame: &[u8]) -> u64 {
    get_frame_content_size(frame).ok().flatten().unwrap_or(0)
}

/// Checks the frame of a member without data.
fn padding_of(frame: &[u8], expected: usize) -> Result<(), DecodeError> {
    let len = frame[4..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    match frame.get(PADDING_HEADER_BYTES..) {
        Some(filling) if len == Some(filling.len()) && filling.iter().all(|byte| *byte == 0) => {}
        _ => return Err(DecodeError::Data),
    }
    if expected == 0 { Ok(()) } else { Err(DecodeError::Length { found: 0, expected }) }
}

#[cfg(test)]
mod tests;
