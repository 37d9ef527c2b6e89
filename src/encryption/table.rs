//! The table of segments: a line of text for each, `OFFSET LENGTH SHA256`, in order and without gaps.

use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::digits::{parse_decimal, parse_hex};
use crate::outside::{BlockCursor, BlockRead};
use crate::shown::hex;

/// The longest line: two numbers of 20 digits, a digest, and what is between.
const MAX_LINE_BYTES: usize = 20 + 1 + 20 + 1 + 64 + 1;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its offset in the archive.
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) length: u64,
    /// The SHA-256 of its bytes.
    pub(crate) sha256: [u8; 32],
}

/// Writes the table of a new archive.
pub(crate) type NewTable = TableWriter<BufWriter<Box<dyn Write + Send>>>;

/// Writes the table.
pub(crate) struct TableWriter<W> {
    out: W,
    offset: u64,
    sha256: Sha256,
    bytes: u64,
}

/// A written table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenTable {
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Its length in bytes.
    pub bytes: u64,
}

impl<W: Write> TableWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, offset: 0, sha256: Sha256::new(), bytes: 0 }
    }

    /// Adds the next segment.
    pub(crate) fn add(&mut self, segment: &[u8]) -> io::Result<()> {
        self.add_known(segment.len() as u64, &Sha256::digest(segment).into())
    }

    /// Adds the next segment by its length and its SHA-256.
    pub(crate) fn add_known(&mut self, length: u64, sha256: &[u8; 32]) -> io::Result<()> {
        if length == 0 {
            return Err(io::Error::other("a member could not be encrypted"));
        }
        let line = format!("{} {length} {}\n", self.offset, hex(sha256));
        self.offset += length;
        self.sha256.update(line.as_bytes());
        self.bytes += line.len() as u64;
        self.out.write_all(line.as_bytes())
    }

    /// Adds the next segment, which the previous archive has at this offset: it was compared with its digest in the index of that
    /// archive, and its SHA-256 is taken from the table. One that is not in the table is hashed.
    pub(crate) fn add_carried(&mut self, segment: &[u8], known: &mut KnownSegments, offset: u64) -> io::Result<()> {
        match known.sha256_of(offset, segment.len() as u64) {
            Ok(sha256) => self.add_known(segment.len() as u64, &sha256),
            Err(_) => self.add(segment),
        }
    }

    pub(crate) fn finish(mut self) -> io::Result<WrittenTable> {
        self.out.flush()?;
        Ok(WrittenTable { sha256: self.sha256.finalize().into(), bytes: self.bytes })
    }
}

impl NewTable {
    /// With a buffer in front of `out`.
    pub(crate) fn buffered(out: Box<dyn Write + Send>) -> Self {
        Self::new(BufWriter::with_capacity(64 << 10, out))
    }
}

/// Reads the table.
pub(crate) struct TableReader {
    lines: BufReader<BlockCursor>,
    number: u64,
    offset: u64,
}

/// A line that is none of a table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something else is there.
    #[error("line {0} is not the next segment, as `OFFSET LENGTH SHA256`")]
    Line(u64),
    /// A segment is not in it.
    #[error("it has no segment of {length} bytes at offset {offset}")]
    NotThere {
        /// The offset in the archive.
        offset: u64,
        /// The length.
        length: u64,
    },
}

impl TableReader {
    pub(crate) fn new(table: Arc<dyn BlockRead>) -> Self {
        Self { lines: BufReader::with_capacity(256 << 10, BlockCursor::new(table)), number: 0, offset: 0 }
    }

    /// The end of the segments so far.
    pub(crate) fn end(&self) -> u64 {
        self.offset
    }

    /// The next segment; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Segment>, TableError> {
        let mut line = Vec::with_capacity(MAX_LINE_BYTES);
        let mut limited = io::Read::take(&mut self.lines, MAX_LINE_BYTES as u64);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let segment = parse(&line).filter(|segment| segment.offset == self.offset);
        let segment = segment.ok_or(TableError::Line(self.number))?;
        self.offset = segment.offset.checked_add(segment.length).ok_or(TableError::Line(self.number))?;
        Ok(Some(segment))
    }
}

/// The segments of a previous archive, found by their offsets in it.
pub(crate) struct KnownSegments {
    table: Arc<dyn BlockRead>,
    /// Behind the segment that was asked for last.
    reader: TableReader,
}

impl KnownSegments {
    /// The segments in this table, whose digest was checked.
    pub(crate) fn new(table: Arc<dyn BlockRead>) -> Self {
        Self { reader: TableReader::new(Arc::clone(&table)), table }
    }

    /// The SHA-256 of the segment of this length at this offset.
    pub(crate) fn sha256_of(&mut self, offset: u64, length: u64) -> Result<[u8; 32], TableError> {
        if self.reader.end() != offset {
            self.reader = self.before(offset)?;
        }
        while let Some(segment) = self.reader.next()? {
            if segment.offset == offset && segment.length == length {
                return Ok(segment.sha256);
            }
            if segment.offset >= offset {
                break;
            }
        }
        Err(TableError::NotThere { offset, length })
    }

    /// A reader that begins shortly before the segment at `wanted`: the offsets in the lines ascend.
    fn before(&self, wanted: u64) -> Result<TableReader, TableError> {
        // Places in the table; the line at `low` has the offset `offset`.
        let (mut low, mut offset, mut high) = (0, 0, self.table.len_bytes());
        let mut piece = [0; 2 * MAX_LINE_BYTES];
        while high - low > piece.len() as u64 {
            let middle = low + (high - low) / 2;
            let len = self.table.read_some(middle, &mut piece)?;
            let line = memchr::memchr(b'\n', &piece[..len]).and_then(|end| {
                let first = piece[end + 1..len].split(|byte| *byte == b' ').next()?;
                Some((middle + end as u64 + 1, parse_decimal(first)?))
            });
            match line {
                Some((start, found)) if found <= wanted => (low, offset) = (start, found),
                _ => high = middle,
            }
        }
        let mut lines = BlockCursor::new(Arc::clone(&self.table));
        lines.seek(SeekFrom::Start(low))?;
        Ok(TableReader { lines: BufReader::with_capacity(64 << 10, lines), number: 0, offset })
    }
}

fn parse(line: &[u8]) -> Option<Segment> {
    let mut fields = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?.split(' ');
    let (offset, length) = (parse_decimal(fields.next()?.as_bytes())?, parse_decimal(fields.next()?.as_bytes())?);
    let sha256 = parse_hex(fields.next()?.as_bytes())?;
    (fields.next().is_none() && length > 0).then_some(Segment { offset, length, sha256 })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{KnownSegments, TableReader, TableWriter};

    #[test]
    fn a_written_table_is_read_back_and_nothing_else_is() {
        let mut table = Vec::new();
        let mut writer = TableWriter::new(&mut table);
        writer.add(b"abc").unwrap();
        writer.add(b"de").unwrap();
        assert_eq!(writer.finish().unwrap().bytes, table.len() as u64);
        let read = |bytes: &[u8]| {
            let mut reader = TableReader::new(Arc::new(bytes.to_vec()));
            let mut segments = Vec::new();
            while let Some(segment) = reader.next().map_err(|error| error.to_string())? {
                segments.push((segment.offset, segment.length));
            }
            Ok::<_, String>(segments)
        };
        assert_eq!(read(&table).unwrap(), [(0, 3), (3, 2)]);
        let text = String::from_utf8(table.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for wrong in [
            format!("{}\n{}\n", lines[1], lines[0]),
            format!("{}\n{}\n", lines[0], lines[0]),
            format!("{}\n\n{}\n", lines[0], lines[1]),
            text.trim_end().to_owned(),
            text.replacen(' ', "  ", 1),
            text.replacen("0 3", "0 0", 1),
            text.replacen("0 3", "00 3", 1),
            text.replacen("0 3", "0 +3", 1),
            text.to_uppercase(),
            "x".repeat(1 << 20),
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn segments_are_found_by_their_offsets_in_any_order() {
        let (mut table, mut at) = (Vec::new(), Vec::new());
        let mut writer = TableWriter::new(&mut table);
        let mut offset = 0;
        for number in 0..3000_u64 {
            let length = 1 + number * number % 977;
            writer.add_known(length, &[u8::try_from(number % 251).unwrap(); 32]).unwrap();
            at.push((offset, length, number));
            offset += length;
        }
        writer.finish().unwrap();
        let mut known = KnownSegments::new(Arc::new(table));
        let mut state = 1_usize;
        let mixed = (0..9000).map(|step| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if step < 3000 { step } else { (state >> 33) % 3000 }
        });
        for number in mixed {
            let (offset, length, number) = at[number];
            assert_eq!(known.sha256_of(offset, length).unwrap()[0], u8::try_from(number % 251).unwrap());
            assert!(known.sha256_of(offset, length + 1).is_err());
            assert!(known.sha256_of(offset + 1, length).is_err() || length == 1);
        }
        assert!(known.sha256_of(offset, 1).is_err());
        let mut empty = KnownSegments::new(Arc::new(Vec::new()));
        assert!(empty.sha256_of(0, 1).is_err());
    }

    #[test]
    fn a_segment_of_no_bytes_is_not_written() {
        assert!(TableWriter::new(Vec::new()).add(b"").is_err());
    }
}
