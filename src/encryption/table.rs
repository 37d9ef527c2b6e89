//! The table of segments: a line of text for each, `OFFSET LENGTH SHA256`, in order and without gaps.

use std::io::{self, BufRead, BufReader, Write};
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
        let length = segment.len() as u64;
        let line = format!("{} {length} {}\n", self.offset, hex(&Sha256::digest(segment)));
        self.offset += length;
        self.sha256.update(line.as_bytes());
        self.bytes += line.len() as u64;
        self.out.write_all(line.as_bytes())
    }

    pub(crate) fn finish(mut self) -> io::Result<WrittenTable> {
        self.out.flush()?;
        Ok(WrittenTable { sha256: self.sha256.finalize().into(), bytes: self.bytes })
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

fn parse(line: &[u8]) -> Option<Segment> {
    let mut fields = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?.split(' ');
    let (offset, length) = (parse_decimal(fields.next()?.as_bytes())?, parse_decimal(fields.next()?.as_bytes())?);
    let sha256 = parse_hex(fields.next()?.as_bytes())?;
    (fields.next().is_none() && length > 0).then_some(Segment { offset, length, sha256 })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{TableReader, TableWriter};

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
}
