//! The contract of [`Codec`]: one suite, run on each known codec and on one that only stores. A whole archive is
//! written and read with both, which shows that the code outside depends on no particular codec.

use std::io::{self, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::contract::{
    Bounds, Codec, CodecRef, Decode, DecodeError, Encode, EncoderError, Format, MAX_MEMBER_DATA, MemberFrame,
    MemberSizes, SharedMembers,
};
use super::{KNOWN, WIDEST, WRITTEN, of_archive};
use crate::archive::index::{EntryLine, IndexedKind};
use crate::archive::level::{CompressionLevel, check_level};
use crate::archive::members::{MemberWriter, Outputs};
use crate::archive::read::index_file::IndexReader;
use crate::archive::read::index_plan::IndexPlan;
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan};
use crate::entry::Timestamp;
use crate::outside::BlockRead;

/// Stores members: a signature and both lengths, the data, its CRC-32 and its length again.
struct Stored;

const HEADER_BYTES: usize = 12;
const TRAILER_BYTES: usize = 8;

const STORED_BOUNDS: Bounds = Bounds {
    header_bytes: HEADER_BYTES,
    frame_bytes: HEADER_BYTES + TRAILER_BYTES,
    max_member_bytes: HEADER_BYTES + MAX_MEMBER_DATA + TRAILER_BYTES,
    min_padding_bytes: HEADER_BYTES + TRAILER_BYTES + 1,
    max_padding_bytes: 4096,
};

const STORED_SIZES: MemberSizes = MemberSizes {
    shared: SharedMembers { min_bytes: 20 << 10, mean_bytes: 80 << 10, mean_entries: 3, fine: None },
    file_bytes: 64 << 10,
};

static STORED_FORMAT: Format =
    Format { bounds: STORED_BOUNDS, sizes: STORED_SIZES, fine_sizes: STORED_SIZES, signature: b"VBST" };

/// The filler byte of padding.
const FILLING: u8 = 0xee;

impl Codec for Stored {
    fn format(&self) -> &'static Format {
        &STORED_FORMAT
    }

    fn frame(&self, bytes: &[u8]) -> Option<MemberFrame> {
        let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let frame = MemberFrame { member_bytes: number(4)?, data_bytes: number(8)? };
        let (len, data_len) = (frame.member_bytes as usize, frame.data_bytes as usize);
        let is_padding = data_len == 0 && len > STORED_BOUNDS.frame_bytes && len <= STORED_BOUNDS.max_padding_bytes;
        let is_exact = data_len <= MAX_MEMBER_DATA && len == data_len + STORED_BOUNDS.frame_bytes;
        (bytes.starts_with(self.signature()) && (is_padding || is_exact)).then_some(frame)
    }

    fn encoder(&self, level: i32) -> Result<Box<dyn Encode>, EncoderError> {
        check_level(level)?;
        Ok(Box::new(StoredEncoder(level)))
    }

    fn encoder_bytes(&self, _: i32) -> usize {
        0
    }

    fn decoder(&self) -> io::Result<Box<dyn Decode>> {
        Ok(Box::new(StoredDecoder))
    }

    fn padding(&self, len: usize) -> Vec<u8> {
        framed(len - STORED_BOUNDS.frame_bytes, &vec![FILLING; len - STORED_BOUNDS.frame_bytes], &[])
    }
}

fn framed(body_len: usize, body: &[u8], data: &[u8]) -> Vec<u8> {
    let (len, data_len) = (body_len + STORED_BOUNDS.frame_bytes, u32::try_from(data.len()).unwrap());
    let crc = crc32fast::hash(data).to_le_bytes();
    let lens = [u32::try_from(len).unwrap().to_le_bytes(), data_len.to_le_bytes()].concat();
    [b"VBST", lens.as_slice(), body, &crc, &data_len.to_le_bytes()].concat()
}

struct StoredEncoder(i32);

impl Encode for StoredEncoder {
    fn level(&self) -> i32 {
        self.0
    }

    fn set_level(&mut self, level: i32) -> Result<(), EncoderError> {
        check_level(level)?;
        self.0 = level;
        Ok(())
    }

    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> usize {
        let member = framed(data.len(), data, data);
        if out.len() < member.len() {
            out.resize(member.len(), 0);
        }
        out[..member.len()].copy_from_slice(&member);
        member.len()
    }
}

struct StoredDecoder;

impl Decode for StoredDecoder {
    fn decode(&mut self, member: &[u8], data_bytes: u64, data: &mut Vec<u8>) -> Result<(), DecodeError> {
        let len = usize::try_from(data_bytes).ok().filter(|len| *len <= MAX_MEMBER_DATA);
        let (Some(expected), true) = (len, member.len() > STORED_BOUNDS.frame_bytes) else {
            return Err(DecodeError::Bounds);
        };
        let (body, trailer) = member[HEADER_BYTES..].split_at(member.len() - STORED_BOUNDS.frame_bytes);
        let found =
            if body.iter().all(|byte| *byte == FILLING) && trailer == [0; TRAILER_BYTES] { 0 } else { body.len() };
        if found != expected {
            return Err(DecodeError::Length { found, expected });
        }
        data.clear();
        data.extend_from_slice(&body[..found]);
        if trailer[..4] != crc32fast::hash(data).to_le_bytes() {
            return Err(DecodeError::Crc);
        }
        let is_len = trailer[4..] == u32::try_from(found).unwrap().to_le_bytes();
        if is_len { Ok(()) } else { Err(DecodeError::Trailer) }
    }
}

/// All codecs under test.
fn codecs() -> Vec<CodecRef> {
    let stored: CodecRef = &Stored;
    // One that encrypts makes members for recipients alone: tests/backup/encrypted.rs.
    KNOWN.into_iter().filter(|codec| codec.encoder(1).is_ok()).chain([stored]).collect()
}

/// Bytes that do not compress, the same each time.
pub(in crate::archive) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn samples() -> Vec<Vec<u8>> {
    vec![
        vec![7],
        vec![0; 512],
        b"some text that compresses ".repeat(999),
        noise(70_000),
        vec![0; MAX_MEMBER_DATA],
        noise(MAX_MEMBER_DATA),
    ]
}

fn member_of(codec: CodecRef, level: i32, data: &[u8]) -> Vec<u8> {
    let mut member = Vec::new();
    let len = codec.encoder(level).unwrap().encode(data, &mut member);
    member.truncate(len);
    member
}

fn decoded(codec: CodecRef, member: &[u8], data_bytes: u64) -> Result<Vec<u8>, DecodeError> {
    // Earlier content of the buffer does not matter.
    let mut data = vec![9; 1000];
    codec.decoder().unwrap().decode(member, data_bytes, &mut data).map(|()| data)
}

#[test]
fn encoded_data_has_a_frame_and_decodes() {
    for codec in codecs() {
        let bounds = codec.bounds();
        assert_eq!(codec.signature(), &member_of(codec, 1, b"x")[..codec.signature().len()]);
        for level in [1, 6, 12] {
            let mut encoder = codec.encoder(level).unwrap();
            // Reused for each member, like the buffer.
            let mut out = Vec::new();
            for data in samples() {
                let before = out.len();
                let len = encoder.encode(&data, &mut out);
                assert!(out.len() >= before && len > bounds.frame_bytes && len <= bounds.max_member_bytes);
                let frame = codec.frame(&out).unwrap();
                assert_eq!((frame.member_bytes as usize, frame.data_bytes as usize), (len, data.len()));
                assert_eq!(codec.frame(&out[..bounds.header_bytes]), Some(frame), "the header is enough");
                assert!(decoded(codec, &out[..len], data.len() as u64).unwrap() == data);
                assert!(out[..len] == member_of(codec, level, &data), "the same data makes the same member");
            }
        }
    }
}

#[test]
fn levels_are_1_to_12_and_can_be_changed() {
    let data = b"some text that compresses ".repeat(4000);
    for codec in codecs() {
        assert!([0, -1, 13].into_iter().all(|level| matches!(codec.encoder(level), Err(EncoderError::Level(_)))));
        let mut encoder = codec.encoder(1).unwrap();
        for level in [1, 9, 9, 3] {
            encoder.set_level(level).unwrap();
            let mut out = Vec::new();
            let len = encoder.encode(&data, &mut out);
            assert_eq!(encoder.level(), level);
            assert!(out[..len] == member_of(codec, level, &data));
        }
        assert!(encoder.set_level(13).is_err());
        assert_eq!(encoder.level(), 3, "as before");
    }
}

#[test]
fn a_damaged_header_is_rejected_or_differs() {
    for codec in codecs() {
        let member = member_of(codec, 6, b"data");
        let good = codec.frame(&member).unwrap();
        for at in 0..codec.bounds().header_bytes {
            for bit in 0..8 {
                let mut damaged = member.clone();
                damaged[at] ^= 1 << bit;
                assert_ne!(codec.frame(&damaged), Some(good), "byte {at}");
            }
            assert_eq!(codec.frame(&member[..at]), None, "cut off");
        }
        assert_eq!(codec.frame(&noise(100)), None);
        assert_eq!(codec.frame(&[]), None);
    }
}

#[test]
fn damaged_data_is_an_error_and_never_other_data() {
    for codec in codecs() {
        for data in [b"some text that compresses ".repeat(20), noise(600)] {
            let member = member_of(codec, 6, &data);
            let len = data.len() as u64;
            for at in codec.bounds().header_bytes..member.len() {
                let mut damaged = member.clone();
                damaged[at] ^= 0x10;
                // Bits after the end of a deflate stream are ignored.
                assert!(
                    decoded(codec, &damaged, len).is_ok_and(|found| found == data)
                        || decoded(codec, &damaged, len).is_err()
                );
                assert!(decoded(codec, &member[..at], len).is_err(), "cut off at {at}");
            }
            for wrong in [0, len - 1, len + 1, MAX_MEMBER_DATA as u64] {
                assert!(decoded(codec, &member, wrong).is_err(), "{wrong}");
            }
            assert_eq!(decoded(codec, &member, MAX_MEMBER_DATA as u64 + 1), Err(DecodeError::Bounds));
            assert_eq!(decoded(codec, &member, u64::MAX), Err(DecodeError::Bounds));
            let frame_alone = &member[..codec.bounds().frame_bytes];
            assert_eq!(decoded(codec, frame_alone, len), Err(DecodeError::Bounds));
            let mut trailer = member.clone();
            *trailer.last_mut().unwrap() ^= 1;
            assert!(decoded(codec, &trailer, len).is_err(), "the last byte counts");
        }
        assert!(decoded(codec, &[], 0).is_err());
    }
}

#[test]
fn padding_has_the_requested_length_and_no_data() {
    for codec in codecs() {
        let bounds = codec.bounds();
        for len in bounds.min_padding_bytes..=bounds.max_padding_bytes {
            let member = codec.padding(len);
            let frame = codec.frame(&member).unwrap();
            assert_eq!((member.len(), frame.member_bytes as usize, frame.data_bytes), (len, len, 0));
            assert_eq!(decoded(codec, &member, 0), Ok(Vec::new()), "{len}");
        }
        // Padding must reach any length modulo a block of 4096 bytes within two blocks.
        assert!(bounds.min_padding_bytes > bounds.frame_bytes && bounds.max_padding_bytes <= 8192);
    }
}

#[test]
fn known_codecs_are_distinct_and_within_the_widest_bounds() {
    for codec in KNOWN.into_iter().filter(|codec| codec.encoder(1).is_ok()) {
        let bounds = codec.bounds();
        assert!(bounds.max_member_bytes <= WIDEST.max_member_bytes && bounds.frame_bytes >= WIDEST.frame_bytes);
        assert!(bounds.max_padding_bytes <= WIDEST.max_padding_bytes);
        assert_eq!(of_archive(&member_of(codec, 1, b"data")).signature(), codec.signature());
        let same = KNOWN.iter().filter(|other| other.signature() == codec.signature());
        assert_eq!(same.count(), 1);
        // Of an archive whose first member is damaged.
        let mut damaged = [member_of(codec, 1, b"data"), member_of(codec, 1, b"more")].concat();
        damaged[0] ^= 1;
        assert_eq!(of_archive(&damaged).signature(), codec.signature());
    }
    assert_eq!(of_archive(&Vec::new()).signature(), WRITTEN.signature());
}

/// Writes an archive with one entry per member; returns the bytes of archive and index.
fn archive(codec: CodecRef, data: &[Vec<u8>]) -> [Vec<u8>; 2] {
    let files = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let [archive, index] = [0, 1].map(|at: usize| Box::new(files[at].try_clone().unwrap()));
    let outputs = Outputs { archive, index, segments: None };
    let mut members = MemberWriter::new(codec, outputs, CompressionLevel::Fixed(6), 2).unwrap();
    let mut tar_offset = 0;
    for (number, data) in data.iter().enumerate() {
        members.push(data).unwrap();
        let tar_length = data.len() as u64;
        let line = EntryLine {
            kind: IndexedKind::File,
            damaged: false,
            tar_offset,
            tar_length,
            size: tar_length,
            ino: 1,
            ctime: Timestamp::default(),
            head: [0; 16],
            content: None,
            path: format!("./{number}").into_bytes(),
        };
        members.note_entry(line, b"head");
        members.end_member().unwrap();
        tar_offset += tar_length;
    }
    members.finish().unwrap();
    files.map(|mut file| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

#[test]
fn an_archive_of_any_codec_is_read_with_its_index_and_without() {
    let data: Vec<Vec<u8>> = (1..40).map(|number| noise(512 * number)).chain([vec![0; MAX_MEMBER_DATA]]).collect();
    for codec in codecs() {
        let [archive, index] = archive(codec, &data);
        for by_index in [true, false] {
            let plan = if by_index {
                let reader = IndexReader::new(Arc::new(index.clone())).unwrap();
                ReadPlan::Index(Box::new(IndexPlan::new(reader, None)))
            } else {
                ReadPlan::Scan
            };
            let options = ReadOptions { threads: 2, hash_archive: true, stop: Vec::new() };
            let archive = Arc::new(archive.clone());
            let mut stream = MemberStream::with_codec(codec, archive, plan, &options).unwrap();
            let (mut chunk, mut read) = (None, Vec::new());
            loop {
                chunk = stream.next_chunk(chunk);
                let Some(chunk) = &chunk else { break };
                assert_eq!(chunk.lost, None);
                read.push(chunk.data.clone());
            }
            let outcome = stream.finish();
            assert!(outcome.findings.is_empty() && outcome.archive_sha1.is_some(), "{:?}", outcome.findings);
            assert!(read == data, "{:?} {by_index}", codec.signature());
        }
    }
}

/// An archive of which some bytes cannot be read. Counts reads.
struct Failing {
    bytes: Vec<u8>,
    bad: std::ops::Range<u64>,
    reads: AtomicUsize,
}

impl BlockRead for Failing {
    fn len_bytes(&self) -> u64 {
        self.bytes.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if offset < self.bad.end && self.bad.start < offset + buf.len() as u64 {
            return Err(io::Error::other("a sector cannot be read"));
        }
        self.bytes.read_at(offset, buf)
    }
}

#[test]
fn bytes_that_cannot_be_read_cost_the_members_they_are_in_and_no_neighbours() {
    // About 5 MB in members of half a KiB to 40 KiB.
    let data: Vec<Vec<u8>> = (0..240).map(|number| noise(512 + 512 * (number % 80))).collect();
    for codec in codecs() {
        let [archive, index] = archive(codec, &data);
        let middle = archive.len() as u64 / 2;
        for bad in [0..0, 0..1, middle..middle + 1, middle..middle + 50_000, middle..archive.len() as u64] {
            let reader = IndexReader::new(Arc::new(index.clone())).unwrap();
            let mut plan = IndexPlan::new(reader, None);
            let mut expected = Vec::new();
            while let Some(planned) = plan.next_member().unwrap() {
                let (start, end) = (planned.line.offset, planned.line.offset + planned.line.length);
                expected.push(start < bad.end && bad.start < end);
            }
            let plan = IndexPlan::new(IndexReader::new(Arc::new(index.clone())).unwrap(), None);
            let options = ReadOptions { threads: 2, hash_archive: true, stop: Vec::new() };
            let failing = Arc::new(Failing { bytes: archive.clone(), bad: bad.clone(), reads: AtomicUsize::new(0) });
            let mut stream =
                MemberStream::with_codec(codec, failing.clone(), ReadPlan::Index(Box::new(plan)), &options).unwrap();
            let (mut chunk, mut lost, mut read) = (None, Vec::new(), Vec::new());
            loop {
                chunk = stream.next_chunk(chunk);
                let Some(chunk) = &chunk else { break };
                lost.push(chunk.lost.is_some());
                read.push(chunk.data.clone());
            }
            assert_eq!(lost, expected, "{bad:?}");
            assert!(read.iter().zip(&lost).zip(&data).all(|((read, lost), data)| *lost || read == data), "{bad:?}");
            let outcome = stream.finish();
            let losses = lost.iter().filter(|lost| **lost).count() as u64;
            assert_eq!((outcome.findings_total, outcome.archive_sha1.is_some()), (losses, losses == 0), "{bad:?}");
            if losses == 0 {
                // A stretch at a time, and not a member at a time.
                assert!(failing.reads.load(Ordering::Relaxed) < 12, "{:?}", failing.reads);
            }
        }
    }
}
