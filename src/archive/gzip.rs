//! Gzip members that contain their own length.
//!
//! Source: RFC 1952 (gzip), section 2.3, and RFC 1951 (deflate), section 3.2.4. Each member has an extra subfield
//! `VB` with its length, so that members are found without decompressing them.

use std::io;

use libdeflater::{CompressionLvl, Compressor, Decompressor};
use memchr::memmem;

use super::codec::contract::{
    Bounds, Codec, Decode, DecodeError, Encode, EncoderError, FineMembers, Format, MAX_MEMBER_DATA, MemberFrame,
    MemberSizes, SharedMembers,
};
use super::level::{BadLevel, check_level};
use crate::outside::memory;

/// The suffix of an archive's name.
pub const SUFFIX: &str = ".tar.gz";

/// The length before the compressed data: ten fixed bytes, the extra field's length, and the subfield.
pub const HEADER_BYTES: usize = 10 + 2 + 4 + SUBFIELD_BYTES;
/// CRC-32 and length of the data.
pub const TRAILER_BYTES: usize = 8;
/// The minimum length of [`padding`].
pub const MIN_PADDING_BYTES: usize = HEADER_BYTES + 4 * 6 + 5 + TRAILER_BYTES;
/// The maximum length of a member without data.
pub const MAX_PADDING_BYTES: usize = 8192;

const SUBFIELD_BYTES: usize = 8;
/// XLEN: the subfield with two id bytes and two length bytes; both lengths fit in one byte.
const XLEN: u8 = 12;
const SUBFIELD_LEN: u8 = 8;
const FLAG_EXTRA: u8 = 4;
const OS_UNIX: u8 = 3;
/// The common start of every member: its header without the two lengths.
const SIGNATURE: [u8; 16] = [0x1f, 0x8b, 8, FLAG_EXTRA, 0, 0, 0, 0, 0, OS_UNIX, XLEN, 0, b'V', b'B', SUBFIELD_LEN, 0];
/// The maximum length of a stored deflate block: its length field has 16 bits.
const MAX_STORED_BLOCK: usize = 0xffff;
const STORED_BLOCK_HEADER: usize = 5;
/// A stored block without data, and the same as the last one.
const EMPTY_BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];
const LAST_EMPTY_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// An empty block of fixed codes (10 bits) and an empty stored block: one byte longer than [`EMPTY_BLOCK`].
/// Sequences of both, with a final empty block, give any length from 29.
const TWO_EMPTY_BLOCKS: [u8; 6] = [2, 0, 0, 0, 0xff, 0xff];
/// The number of samples for the test whether data is compressible.
const SAMPLES: usize = 8;
const SAMPLE_BYTES: usize = 4096;
const SAMPLED_BYTES: f64 = 32768.0;
/// In bits per byte. Compressed and encrypted data has 7.99 in samples of this size; text and code are below 6.5.
const STORE_ABOVE_ENTROPY_BITS: f64 = 7.95;

/// The lengths of members.
pub(super) const BOUNDS: Bounds = Bounds {
    header_bytes: HEADER_BYTES,
    frame_bytes: HEADER_BYTES + TRAILER_BYTES,
    max_member_bytes: MemberEncoder::MAX_MEMBER_BYTES,
    min_padding_bytes: MIN_PADDING_BYTES,
    max_padding_bytes: MAX_PADDING_BYTES,
};

/// Decision 17 has the size of shared members. In a large file: of what databases hold, the archive is 0.5 % larger than
/// with 1 MiB, with 128 KiB 1.3 %.
pub(super) const SIZES: MemberSizes = MemberSizes {
    shared: SharedMembers { min_bytes: 20 << 10, mean_bytes: 80 << 10, mean_entries: 3, fine: None },
    file_bytes: 256 << 10,
};
/// Decision 104 has what these cost and save.
const FINE_SIZES: MemberSizes = MemberSizes {
    shared: SharedMembers {
        min_bytes: 28 << 10,
        mean_bytes: 28 << 10,
        mean_entries: 1,
        fine: Some(FineMembers { least_bytes: 4 << 10, apart_bytes: 12 << 10 }),
    },
    file_bytes: 32 << 10,
};

static FORMAT: Format = Format { bounds: BOUNDS, sizes: SIZES, fine_sizes: FINE_SIZES, signature: &SIGNATURE };

/// The memory that libdeflate needs to decompress.
const DECODER_BYTES: usize = 64 << 10;

/// The codec.
pub(super) struct Gzip;

impl Codec for Gzip {
    fn format(&self) -> &'static Format {
        &FORMAT
    }

    fn frame(&self, bytes: &[u8]) -> Option<MemberFrame> {
        parse_header(bytes)
    }

    fn encoder(&self, level: i32) -> Result<Box<dyn Encode>, EncoderError> {
        Ok(Box::new(MemberEncoder::new(level)?))
    }

    fn encoder_bytes(&self, level: i32) -> usize {
        tables_bytes(level)
    }

    fn decoder(&self) -> io::Result<Box<dyn Decode>> {
        // libdeflater panics when an allocation fails.
        Ok(Box::new(MemberDecoder(memory::made(DECODER_BYTES, Decompressor::new)?)))
    }

    fn padding(&self, len: usize) -> Vec<u8> {
        padding(len)
    }
}

impl Encode for MemberEncoder {
    fn level(&self) -> i32 {
        self.level()
    }

    fn set_level(&mut self, level: i32) -> Result<(), EncoderError> {
        self.set_level(level)
    }

    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> usize {
        self.encode(data, out)
    }
}

struct MemberDecoder(Decompressor);

impl Decode for MemberDecoder {
    fn decode(&mut self, member: &[u8], data_bytes: u64, data: &mut Vec<u8>) -> Result<(), DecodeError> {
        let len = usize::try_from(data_bytes).ok().filter(|len| *len <= MAX_MEMBER_DATA);
        let (Some(len), true) = (len, member.len() > HEADER_BYTES + TRAILER_BYTES) else {
            return Err(DecodeError::Bounds);
        };
        data.resize(len, 0);
        // libdeflate compares the CRC and the length that follow the last block. With its function for deflate alone,
        // bytes between the last block and the trailer would pass, which gunzip refuses.
        let body = &member[HEADER_BYTES..];
        let (deflated, trailer) = body.split_at(body.len() - TRAILER_BYTES);
        match self.0.gzip_decompress(member, data) {
            // No bytes behind a first trailer, with a second one at the end.
            Ok(found) if found == len && memmem::find(body, trailer) == Some(deflated.len()) => Ok(()),
            _ => self.examine(deflated, trailer, data),
        }
    }
}

impl MemberDecoder {
    /// Finds what is wrong with a member.
    fn examine(&mut self, deflated: &[u8], trailer: &[u8], data: &mut [u8]) -> Result<(), DecodeError> {
        match self.0.deflate_decompress(deflated, data) {
            Ok(found) if found == data.len() => {}
            Ok(found) => return Err(DecodeError::Length { found, expected: data.len() }),
            Err(_) => return Err(DecodeError::Data),
        }
        if trailer[..4] != libdeflater::crc32(data).to_le_bytes() {
            return Err(DecodeError::Crc);
        }
        if trailer[4..] != u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes() {
            return Err(DecodeError::Trailer);
        }
        match deflate_len(deflated, data) {
            Some(len) if len == deflated.len() as u64 => Ok(()),
            _ => Err(DecodeError::Surplus),
        }
    }
}

/// The length of the deflate stream at the start of `bytes`, in bytes; `None` if zlib finds no end, or other data.
fn deflate_len(bytes: &[u8], data: &[u8]) -> Option<u64> {
    let mut inflater = flate2::Decompress::new(false);
    // A byte more, so that there is room when the last block is read.
    let mut room = vec![0; data.len() + 1];
    let status = inflater.decompress(bytes, &mut room, flate2::FlushDecompress::Finish).ok()?;
    (status == flate2::Status::StreamEnd && room.starts_with(data)).then(|| inflater.total_in())
}

/// Makes members. Expensive to create, so it is reused.
pub struct MemberEncoder {
    level: i32,
    compressor: Compressor,
    /// For members of less than [`SMALL_DATA`], if they use another level.
    for_small: Option<Compressor>,
}

/// Only the members of small files have less data than this.
const SMALL_DATA: usize = 256 << 10;

/// The libdeflate level for a volbak level, except for small members at level 1. libdeflate's levels 1 and 3 save
/// too little time for the space they cost (decision 22).
fn libdeflate_level(level: i32) -> i32 {
    match level {
        1 => 2,
        3 => 4,
        other => other,
    }
}

/// An upper bound of libdeflate's memory at a level: its near-optimal parser, from level 10, has large tables.
fn tables_bytes(level: i32) -> usize {
    if level >= 10 { 12 << 20 } else { 2 << 20 }
}

impl MemberEncoder {
    /// The maximum length of a member.
    pub const MAX_MEMBER_BYTES: usize = HEADER_BYTES + stored_bytes(MAX_MEMBER_DATA) + TRAILER_BYTES;

    /// An encoder for a level from 1 to 12.
    pub fn new(level: i32) -> Result<Self, EncoderError> {
        check_level(level)?;
        let of = |level| {
            let known = CompressionLvl::new(level).map_err(|_| BadLevel(level))?;
            // libdeflater panics when an allocation fails.
            memory::made(tables_bytes(level), || Compressor::new(known)).map_err(EncoderError::Memory)
        };
        let for_small = if level == 1 { Some(of(1)?) } else { None };
        Ok(Self { level, compressor: of(libdeflate_level(level))?, for_small })
    }

    /// The current level.
    pub fn level(&self) -> i32 {
        self.level
    }

    /// Changes the level. Cheap if it is the current one.
    pub fn set_level(&mut self, level: i32) -> Result<(), EncoderError> {
        if self.level != level {
            *self = Self::new(level)?;
        }
        Ok(())
    }

    /// Makes a member that holds `data`, at most [`MAX_MEMBER_DATA`] bytes, at the start of `out`, and returns its
    /// length. `out` grows if needed, and never shrinks.
    ///
    /// # Panics
    /// If there is more data than that.
    pub fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> usize {
        assert!(data.len() <= MAX_MEMBER_DATA, "a member holds at most 1 MiB");
        let stored_bytes = stored_bytes(data.len());
        let largest = HEADER_BYTES + stored_bytes + TRAILER_BYTES;
        if out.len() < largest {
            out.resize(largest, 0);
        }
        let body = &mut out[HEADER_BYTES..HEADER_BYTES + stored_bytes];
        let compressor = self.for_small.as_mut().filter(|_| data.len() < SMALL_DATA).unwrap_or(&mut self.compressor);
        let compressed = if looks_incompressible(data) { None } else { compressor.deflate_compress(data, body).ok() };
        let body_bytes = compressed.unwrap_or_else(|| {
            store(data, body);
            stored_bytes
        });
        let mut crc = libdeflater::Crc::new();
        crc.update(data);
        // At most 1 MiB of data, stored in blocks with 5 bytes each: both lengths are far below 2^32.
        let data_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let member_bytes = HEADER_BYTES + body_bytes + TRAILER_BYTES;
        let trailer = &mut out[HEADER_BYTES + body_bytes..member_bytes];
        trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
        trailer[4..].copy_from_slice(&data_bytes.to_le_bytes());
        let frame = MemberFrame { member_bytes: u32::try_from(member_bytes).unwrap_or(u32::MAX), data_bytes };
        out[..HEADER_BYTES].copy_from_slice(&header(frame));
        member_bytes
    }
}

/// The output length of [`store`] for this input length.
const fn stored_bytes(len: usize) -> usize {
    let blocks = len.div_ceil(MAX_STORED_BLOCK);
    len + STORED_BLOCK_HEADER * if blocks == 0 { 1 } else { blocks }
}

/// Writes `data` as stored blocks to `out`, which must be [`stored_bytes`] long.
fn store(data: &[u8], out: &mut [u8]) {
    let last = data.len().div_ceil(MAX_STORED_BLOCK).max(1) - 1;
    let mut rest = out;
    for number in 0..=last {
        let block = data.chunks(MAX_STORED_BLOCK).nth(number).unwrap_or_default();
        let (head, behind) = rest.split_at_mut(STORED_BLOCK_HEADER);
        // BFINAL, BTYPE 00; then LEN and its complement.
        head[0] = u8::from(number == last);
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        head[1..3].copy_from_slice(&len.to_le_bytes());
        head[3..5].copy_from_slice(&(!len).to_le_bytes());
        let (body, behind) = behind.split_at_mut(block.len());
        body.copy_from_slice(block);
        rest = behind;
    }
}

/// A member of this length without data: [`MIN_PADDING_BYTES`] to [`MAX_PADDING_BYTES`].
pub fn padding(len: usize) -> Vec<u8> {
    let mut member = Vec::with_capacity(len);
    let member_bytes = u32::try_from(len).unwrap_or(u32::MAX);
    member.extend_from_slice(&header(MemberFrame { member_bytes, data_bytes: 0 }));
    let body_bytes = len.saturating_sub(HEADER_BYTES + TRAILER_BYTES);
    let sixes = body_bytes % EMPTY_BLOCK.len();
    let fives = body_bytes.saturating_sub(sixes * TWO_EMPTY_BLOCKS.len()) / EMPTY_BLOCK.len();
    (0..sixes).for_each(|_| member.extend_from_slice(&TWO_EMPTY_BLOCKS));
    (1..fives).for_each(|_| member.extend_from_slice(&EMPTY_BLOCK));
    member.extend_from_slice(&LAST_EMPTY_BLOCK);
    // CRC-32 and length of empty data.
    member.extend_from_slice(&[0; TRAILER_BYTES]);
    member
}

pub(super) fn header(frame: MemberFrame) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    // ID1 ID2, CM deflate, FLG; MTIME is 0, so that the same data gives the same member.
    header[..4].copy_from_slice(&[0x1f, 0x8b, 8, FLAG_EXTRA]);
    header[9] = OS_UNIX;
    header[10] = XLEN;
    header[12..14].copy_from_slice(b"VB");
    header[14] = SUBFIELD_LEN;
    header[16..20].copy_from_slice(&frame.member_bytes.to_le_bytes());
    header[20..24].copy_from_slice(&frame.data_bytes.to_le_bytes());
    header
}

/// Parses a member's header. `None` if the bytes do not start with a volbak member, or its lengths are out of
/// bounds.
pub(super) fn parse_header(bytes: &[u8]) -> Option<MemberFrame> {
    let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let frame = MemberFrame {
        member_bytes: u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]),
        data_bytes: u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]),
    };
    let data_len = usize::try_from(frame.data_bytes).ok()?;
    let member_len = usize::try_from(frame.member_bytes).ok()?;
    let longest = if data_len == 0 { MAX_PADDING_BYTES } else { HEADER_BYTES + stored_bytes(data_len) + TRAILER_BYTES };
    let in_bounds = data_len <= MAX_MEMBER_DATA && member_len > HEADER_BYTES + TRAILER_BYTES && member_len <= longest;
    (in_bounds && *bytes == header(frame)).then_some(frame)
}

/// Whether compression would save almost nothing, estimated from the entropy of a few samples.
fn looks_incompressible(data: &[u8]) -> bool {
    if data.len() < 2 * SAMPLES * SAMPLE_BYTES {
        return false;
    }
    // Four tables in turn: increments of the same counter would have to wait for one another.
    let mut counts = [[0_u32; 256]; 4];
    let stride = (data.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    for sample in 0..SAMPLES {
        for bytes in data[sample * stride..sample * stride + SAMPLE_BYTES].chunks_exact(4) {
            for (count, byte) in counts.iter_mut().zip(bytes) {
                let count = &mut count[usize::from(*byte)];
                // There are fewer samples than 2^32.
                *count = count.wrapping_add(1);
            }
        }
    }
    let histogram: [u32; 256] = std::array::from_fn(|byte| counts.iter().map(|count| count[byte]).sum());
    let entropy_bits: f64 = histogram
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / SAMPLED_BYTES;
            -share * share.log2()
        })
        .sum();
    entropy_bits > STORE_ABOVE_ENTROPY_BITS
}

#[cfg(test)]
mod tests;
