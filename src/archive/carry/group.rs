//! Reads the lines of one group from an index that was checked as a whole before.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::archive::index::{IndexVersion, KeptEntries, MemberLine, RawLine};
use crate::archive::read::index_file::MAX_LINE_BYTES;
use crate::outside::{BlockCursor, BlockRead};

const BUFFER_BYTES: usize = 256 << 10;

/// The unit of carrying: one member with all its entries, or all members of one entry.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The first member.
    pub(crate) first: MemberLine,
    /// The number of members.
    pub(crate) members: u64,
    /// Their length in the archive, if they are adjacent there.
    pub(crate) length: Option<u64>,
    /// Their length in the tar stream.
    pub(crate) tar_length: u64,
    /// The offset of their lines in the index file.
    pub(crate) at: u64,
    /// The entries in order: a single one if there are several members.
    pub(crate) entries: KeptEntries,
    /// The digest of all their headers, from the line of the member in which they end.
    pub(crate) heads: Option<[u8; 16]>,
}

/// Reads lines at any offset of an index.
#[derive(Debug)]
pub(crate) struct GroupReader {
    input: BufReader<BlockCursor>,
    version: IndexVersion,
    at: u64,
    buf: Vec<u8>,
}

impl GroupReader {
    pub(super) fn new(index: Arc<dyn BlockRead>, version: IndexVersion) -> Self {
        let input = BufReader::with_capacity(BUFFER_BYTES, BlockCursor::new(index));
        Self { input, version, at: u64::MAX, buf: Vec::new() }
    }

    /// The group whose first line is at `at`. An error if its lines do not match `check`.
    pub(super) fn read(&mut self, at: u64, check: u64) -> io::Result<Group> {
        self.seek(at)?;
        let mut lines = LinesCheck::default();
        let RawLine::Member(first) = self.line()? else { return Err(changed()) };
        lines.add(&self.buf);
        let mut tar_end = end_of(&first)?;
        let (mut members, mut heads) = (1, first.heads);
        let mut end = first.offset.checked_add(first.length);
        let mut entries = KeptEntries::with_capacity(LinesCheck::len_of(check).min(BUFFER_BYTES));
        let mut done = first.tar_offset;
        while done != tar_end {
            self.read_line()?;
            match self.parse()? {
                RawLine::Member(member) if entries.is_empty() && member.tar_offset == tar_end => {
                    tar_end = end_of(&member)?;
                    // Padding between them is not copied.
                    let is_adjacent = end == Some(member.offset) && !member.is_padding();
                    end = end.filter(|_| is_adjacent).and_then(|end| end.checked_add(member.length));
                    members += 1;
                    heads = member.heads;
                }
                RawLine::Entry(entry) if entry.facts.tar_offset == done => {
                    let end = done.checked_add(entry.facts.tar_length);
                    done = end.filter(|end| *end <= tar_end).ok_or_else(changed)?;
                    entries.push(&self.buf, &entry).map_err(|_| changed())?;
                }
                _ => return Err(changed()),
            }
            lines.add(&self.buf);
            if lines.len() > LinesCheck::len_of(check) {
                return Err(changed());
            }
        }
        if lines.finish() != check {
            return Err(changed());
        }
        let (length, tar_length) = (end.map(|end| end - first.offset), tar_end - first.tar_offset);
        Ok(Group { first, members, length, tar_length, at, entries, heads })
    }

    /// The next line of a member with data. It must start at `tar_offset` in the tar stream, and end at or before
    /// `limit`.
    pub(crate) fn next_member(&mut self, tar_offset: u64, limit: u64) -> io::Result<MemberLine> {
        loop {
            match self.line()? {
                // Padding aligned the members in the previous archive only.
                RawLine::Member(member) if member.tar_offset == tar_offset && member.is_padding() => {}
                RawLine::Member(member) if member.tar_offset == tar_offset && end_of(&member)? <= limit => {
                    return Ok(member);
                }
                _ => return Err(changed()),
            }
        }
    }

    /// Seeks to the line that starts at `at`.
    pub(crate) fn seek(&mut self, at: u64) -> io::Result<()> {
        // Groups are usually requested in order, so keep the buffer.
        match i64::try_from(i128::from(at) - i128::from(self.at)) {
            Ok(by) if self.at != u64::MAX => self.input.seek_relative(by)?,
            _ => {
                self.input.seek(SeekFrom::Start(at))?;
            }
        }
        self.at = at;
        Ok(())
    }

    fn line(&mut self) -> io::Result<RawLine<'_>> {
        self.read_line()?;
        self.parse()
    }

    /// Parses the line that was read last.
    fn parse(&self) -> io::Result<RawLine<'_>> {
        RawLine::parse(&self.buf, self.version).map_err(|_| changed())
    }

    fn read_line(&mut self) -> io::Result<()> {
        self.buf.clear();
        // After an error the position is unknown.
        let at = std::mem::replace(&mut self.at, u64::MAX);
        let len = Read::take(&mut self.input, MAX_LINE_BYTES).read_until(b'\n', &mut self.buf)?;
        self.at = at.saturating_add(len as u64);
        if self.buf.pop() == Some(b'\n') { Ok(()) } else { Err(changed()) }
    }
}

fn end_of(member: &MemberLine) -> io::Result<u64> {
    member.tar_offset.checked_add(member.tar_length).ok_or_else(changed)
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the index changed since it was read")
}

/// The check of a group's lines: CRC-32 and length. When the index was first read, its digest was compared with the
/// manifest; this check shows that the lines are still the same when they are read again.
#[derive(Default)]
pub(super) struct LinesCheck {
    crc: crc32fast::Hasher,
    len: u32,
}

impl LinesCheck {
    pub(super) fn add(&mut self, line: &[u8]) {
        self.crc.update(line);
        self.len = self.len.wrapping_add(u32::try_from(line.len()).unwrap_or(u32::MAX)).wrapping_add(1);
    }

    pub(super) fn finish(self) -> u64 {
        u64::from(self.len) << 32 | u64::from(self.crc.finalize())
    }

    /// The total length of the lines with their newlines.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }

    /// The total length of the lines behind this check.
    pub(super) fn len_of(check: u64) -> usize {
        usize::try_from(check >> 32).unwrap_or(usize::MAX)
    }
}
