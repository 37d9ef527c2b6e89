//! The index of an image archive: a line for each member, and one at the end.

use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::sync::Arc;

use super::mapping::MappingDigest;
use super::zeros::zero_member_bytes;
use super::{BORDER_BYTES, MAX_ZERO_BYTES};
use crate::archive::codec::WIDEST;
use crate::digits::{parse_decimal, parse_hex, push_decimal, push_hex};
use crate::encryption::segment::{MIN_BYTES, longest};
use crate::outside::{BlockCursor, BlockRead};

/// The first line.
pub const HEADER_LINE: &str = "volbak-image-index\t1\n";
/// That of an index whose lines have digests of mappings.
pub const MAPPED_HEADER_LINE: &str = "volbak-image-index\t2\n";
/// All numbers at their longest, and three digests.
const MAX_LINE_BYTES: u64 = 320;
const BUFFER_BYTES: usize = 64 << 10;

/// What a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Zeros: the member is the one of that length.
    Zeros,
    /// Data with this BLAKE3.
    Data([u8; 32]),
}

/// A member of an image archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageMember {
    /// Its number, from 0.
    pub number: u64,
    /// Its offset in the archive.
    pub offset: u64,
    /// Its length there.
    pub length: u64,
    /// The offset of its content in the volume.
    pub volume_offset: u64,
    /// The length of its content.
    pub volume_length: u64,
    /// The BLAKE3 of its bytes in the archive.
    pub digest: [u8; 32],
    /// Its content.
    pub holds: Holds,
    /// The digest of its mapping in a thin pool and of what is used of it; `None` if these are not known.
    pub(super) mapping: Option<MappingDigest>,
}

impl ImageMember {
    /// Appends its line, in an index with or without digests of mappings.
    pub(super) fn add_to(&self, out: &mut Vec<u8>, is_mapped: bool) {
        out.push(b'M');
        for number in [self.number, self.offset, self.length, self.volume_offset, self.volume_length] {
            out.push(b'\t');
            push_decimal(out, number);
        }
        out.push(b'\t');
        push_hex(out, &self.digest);
        out.push(b'\t');
        match self.holds {
            Holds::Zeros => out.push(b'-'),
            Holds::Data(content) => push_hex(out, &content),
        }
        if is_mapped {
            out.push(b'\t');
            match &self.mapping {
                None => out.push(b'-'),
                Some(digest) => push_hex(out, digest),
            }
        }
        out.push(b'\n');
    }

    /// Where its content ends in the volume.
    pub fn volume_end(&self) -> u64 {
        self.volume_offset.saturating_add(self.volume_length)
    }

    fn parse(line: &[u8], is_mapped: bool) -> Option<Self> {
        let mut fields = line.strip_prefix(b"M\t")?.split(|byte| *byte == b'\t');
        let mut number = || parse_decimal(fields.next()?);
        let (number, offset, length, volume_offset, volume_length) =
            (number()?, number()?, number()?, number()?, number()?);
        let digest = parse_hex(fields.next()?)?;
        let holds = match fields.next()? {
            b"-" => Holds::Zeros,
            content => Holds::Data(parse_hex(content)?),
        };
        let mapping = match is_mapped.then(|| fields.next()) {
            None | Some(Some(b"-")) => None,
            Some(digest) => Some(parse_hex(digest?)?),
        };
        let is_end = fields.next().is_none();
        is_end.then_some(Self { number, offset, length, volume_offset, volume_length, digest, holds, mapping })
    }
}

/// Whether a member of so many zeros can have this length, also if it is encrypted.
fn is_length_of_zeros(member: &ImageMember) -> bool {
    let plain = zero_member_bytes(member.volume_length);
    let sealed = usize::try_from(plain).map_or(plain, |plain| longest(plain) as u64);
    member.length == plain || (plain + MIN_BYTES as u64..=sealed).contains(&member.length)
}

/// The last line of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageTotals {
    /// The number of members.
    pub members: u64,
    /// The length of the archive.
    pub archive_bytes: u64,
    /// The length of the volume.
    pub volume_bytes: u64,
}

impl ImageTotals {
    /// Appends its line.
    pub(super) fn add_to(&self, out: &mut Vec<u8>) {
        out.push(b'Z');
        for number in [self.members, self.archive_bytes, self.volume_bytes] {
            out.push(b'\t');
            push_decimal(out, number);
        }
        out.push(b'\n');
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.strip_prefix(b"Z\t")?.split(|byte| *byte == b'\t');
        let mut number = || parse_decimal(fields.next()?);
        let totals = Self { members: number()?, archive_bytes: number()?, volume_bytes: number()? };
        fields.next().is_none().then_some(totals)
    }

    /// Counts the next member, which must follow those before it.
    fn take(&mut self, member: &ImageMember) -> Result<(), &'static str> {
        if (member.number, member.offset, member.volume_offset) != (self.members, self.archive_bytes, self.volume_bytes)
        {
            return Err("its member does not follow the one before");
        }
        if !member.volume_offset.is_multiple_of(BORDER_BYTES) || member.volume_length == 0 {
            return Err("its member does not begin at a border of the volume");
        }
        match member.holds {
            Holds::Data(_) if member.volume_length > BORDER_BYTES || member.length > WIDEST.max_member_bytes as u64 => {
                return Err("its member is longer than a member can be");
            }
            Holds::Data(_) if member.length <= WIDEST.frame_bytes as u64 => {
                return Err("its member is shorter than a member can be");
            }
            Holds::Zeros if member.volume_length > MAX_ZERO_BYTES - member.volume_offset % MAX_ZERO_BYTES => {
                return Err("its member of zeros is longer than one can be there");
            }
            Holds::Zeros if !is_length_of_zeros(member) => {
                return Err("its member of zeros has another length than one of so many");
            }
            _ => {}
        }
        // None of these lengths is near 2^63; a sum that overflows belongs to no file.
        let add = |sum: u64, more: u64| sum.checked_add(more).filter(|sum| i64::try_from(*sum).is_ok());
        let too_long = "its lengths are those of no file";
        self.members += 1;
        self.archive_bytes = add(self.archive_bytes, member.length).ok_or(too_long)?;
        self.volume_bytes = add(self.volume_bytes, member.volume_length).ok_or(too_long)?;
        Ok(())
    }
}

/// Why an index cannot be used from some line on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageIndexError {
    /// Reading it failed.
    #[error("the index cannot be read")]
    Io(#[from] io::Error),
    /// An unknown version, or no such index.
    #[error("its first line is not that of an image's index of a version that this volbak knows")]
    NotAnIndex,
    /// A line is invalid.
    #[error("line {line}: {what}")]
    Line {
        /// The line number, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The last line is missing.
    #[error("it is cut off after line {0}")]
    CutOff(u64),
}

/// Reads an index. Each line must follow from those before it.
pub struct ImageIndexReader {
    input: BufReader<BlockCursor>,
    /// The offset of the next line, and its number from 1.
    at: u64,
    line: u64,
    buf: Vec<u8>,
    seen: ImageTotals,
    /// Whether its lines have digests of mappings.
    is_mapped: bool,
    is_ended: bool,
}

impl ImageIndexReader {
    /// Reads the first line.
    pub fn new(index: Arc<dyn BlockRead>) -> Result<Self, ImageIndexError> {
        let input = BufReader::with_capacity(BUFFER_BYTES, BlockCursor::new(index));
        let seen = ImageTotals::default();
        let mut reader = Self { input, at: 0, line: 1, buf: Vec::new(), seen, is_mapped: false, is_ended: false };
        reader.read_line()?;
        reader.is_mapped = reader.buf == MAPPED_HEADER_LINE.as_bytes();
        if !reader.is_mapped && reader.buf != HEADER_LINE.as_bytes() {
            return Err(ImageIndexError::NotAnIndex);
        }
        Ok(reader)
    }

    /// Goes on at a place that [`ImageIndexReader::place`] gave.
    pub(super) fn at(index: Arc<dyn BlockRead>, place: IndexPlace) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, BlockCursor::new(index));
        input.seek(SeekFrom::Start(place.at))?;
        let IndexPlace { at, line, seen, is_mapped } = place;
        Ok(Self { input, at, line, buf: Vec::new(), seen, is_mapped, is_ended: false })
    }

    /// Where the next line is.
    pub(super) fn place(&self) -> IndexPlace {
        IndexPlace { at: self.at, line: self.line, seen: self.seen, is_mapped: self.is_mapped }
    }

    /// The next member; `None` after the last one, when the last line agrees with all before it and nothing follows.
    pub fn next_member(&mut self) -> Result<Option<ImageMember>, ImageIndexError> {
        if self.is_ended {
            return Ok(None);
        }
        let wrong = |line: u64, what: &'static str| Err(ImageIndexError::Line { line, what });
        let line = self.line;
        if !self.read_line()? {
            return Err(ImageIndexError::CutOff(line.saturating_sub(1)));
        }
        let Some(text) = self.buf.strip_suffix(b"\n") else {
            return wrong(line, "it is longer than a line can be, or cut off");
        };
        if let Some(member) = ImageMember::parse(text, self.is_mapped) {
            return match self.seen.take(&member) {
                Ok(()) => Ok(Some(member)),
                Err(what) => wrong(line, what),
            };
        }
        match ImageTotals::parse(text) {
            Some(totals) if totals == self.seen => {
                self.is_ended = true;
                if self.read_line()? { wrong(line + 1, "it follows the last one") } else { Ok(None) }
            }
            Some(_) => wrong(line, "its totals are not those of the lines before it"),
            None => wrong(line, "it is none of an image's index"),
        }
    }

    /// What was read so far; the totals of all after the last member.
    pub fn seen(&self) -> ImageTotals {
        self.seen
    }

    /// Reads a line with its newline. False at the end of the file.
    fn read_line(&mut self) -> io::Result<bool> {
        use std::io::Read;
        self.buf.clear();
        let len = (&mut self.input).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.buf)?;
        self.at += len as u64;
        self.line += 1;
        Ok(len > 0)
    }
}

/// A place between two lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexPlace {
    at: u64,
    line: u64,
    pub(super) seen: ImageTotals,
    is_mapped: bool,
}
