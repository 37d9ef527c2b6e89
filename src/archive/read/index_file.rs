//! Reads an index completely without trusting any line: each must be consistent with those before it.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use crate::archive::codec::{MAX_MEMBER_DATA, WIDEST};
use crate::archive::index::{EntryFacts, IndexVersion, Line, MemberLine, RawEntry, RawLine, Totals, parse_line};
use crate::archive::pax::BLOCK_BYTES;
use crate::outside::{BlockCursor, BlockRead};

/// Enough for the longest archived path of 64 KiB, with four bytes per byte if all are escaped.
pub(crate) const MAX_LINE_BYTES: u64 = 512 << 10;
const BUFFER_BYTES: usize = 256 << 10;
/// The number of buffers that wait to be hashed.
const WAITING_PIECES: usize = 4;
/// The maximum length of a member with any codec.
pub(crate) const MAX_MEMBER_BYTES: u64 = WIDEST.max_member_bytes as u64;

/// Why an index cannot be used from some line on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Reading it failed.
    #[error("the index cannot be read")]
    Io(#[from] io::Error),
    /// An unknown version, or no index.
    #[error("its first line is not that of an index of a version that this volbak knows")]
    NotAnIndex,
    /// A line is invalid or too long.
    #[error("line {line}: {what}")]
    Line {
        /// The line number, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The last line is missing.
    #[error("it is cut off after line {0}")]
    CutOff(u64),
}

/// An index during reading.
#[derive(Debug)]
pub struct IndexReader {
    input: BufReader<HashedFile>,
    version: IndexVersion,
    /// The offset of the next line.
    at: u64,
    /// The number of the last line read, from 1.
    line: u64,
    buf: Vec<u8>,
    sequence: Sequence,
    ended: bool,
}

/// A file; the data read is hashed in a thread, if requested.
#[derive(Debug)]
struct HashedFile {
    file: BlockCursor,
    hasher: Option<Hasher>,
}

#[derive(Debug)]
struct Hasher {
    pieces: SyncSender<Vec<u8>>,
    thread: JoinHandle<[u8; 32]>,
}

impl Hasher {
    fn start() -> io::Result<Self> {
        let (pieces, to_hash) = sync_channel::<Vec<u8>>(WAITING_PIECES);
        let hash = move || to_hash.iter().fold(Sha256::new(), Sha256::chain_update).finalize().into();
        let thread = std::thread::Builder::new().name("hash-index".to_owned()).spawn(hash)?;
        Ok(Self { pieces, thread })
    }
}

impl Read for HashedFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buf)?;
        if let Some(Hasher { pieces, .. }) = &self.hasher {
            // Fails only if the other thread panicked, which shows at the end.
            let _ = pieces.send(buf[..len].to_vec());
        }
        Ok(len)
    }
}

impl Seek for HashedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A line with its offset.
pub(crate) struct PlacedLine<'a> {
    pub(crate) line: RawLine<'a>,
    /// The line, without its newline.
    pub(crate) bytes: &'a [u8],
    /// Its offset in the file.
    pub(crate) at: u64,
    /// Whether, before this line, members and entries end at the same tar offset.
    pub(crate) was_at_border: bool,
    /// Whether they do after this line.
    pub(crate) is_at_border: bool,
}

/// The totals of the lines so far, to check the next one.
#[derive(Debug, Default)]
struct Sequence {
    seen: Totals,
    /// The tar offset at which the next entry must start.
    entry_at: u64,
    /// The tar offset of the last member; `None` before the first.
    last_member_at: Option<u64>,
}

impl IndexReader {
    /// Reads the first line of a file.
    pub fn new(index: Arc<dyn BlockRead>) -> Result<Self, IndexError> {
        Self::begin(HashedFile { file: BlockCursor::new(index), hasher: None })
    }

    /// Reads the first line of a file, and hashes all of it.
    pub(crate) fn hashing(index: Arc<dyn BlockRead>) -> Result<Self, IndexError> {
        let hasher = Some(Hasher::start()?);
        Self::begin(HashedFile { file: BlockCursor::new(index), hasher })
    }

    fn begin(file: HashedFile) -> Result<Self, IndexError> {
        let mut reader = Self {
            version: IndexVersion::Four,
            input: BufReader::with_capacity(BUFFER_BYTES, file),
            at: 0,
            line: 0,
            buf: Vec::new(),
            sequence: Sequence::default(),
            ended: false,
        };
        // Nothing was read yet.
        reader.input.seek(SeekFrom::Start(0))?;
        let version = if reader.read_raw()? { IndexVersion::of_header(&reader.buf) } else { None };
        reader.version = version.ok_or(IndexError::NotAnIndex)?;
        Ok(reader)
    }

    /// The version in its first line.
    pub fn version(&self) -> IndexVersion {
        self.version
    }

    /// The totals of the lines so far.
    pub fn totals(&self) -> Totals {
        self.sequence.seen
    }

    /// The number of the last line that was read, from 1.
    pub fn line_number(&self) -> u64 {
        self.line
    }

    /// The offset of the next line in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads `count` lines again from offset `at`, which were checked before, and returns to the present position.
    /// Returns the offset after them.
    pub(super) fn read_again(&mut self, at: u64, count: u64, mut with: impl FnMut(Line)) -> Result<u64, IndexError> {
        let (resume_at, resume_line) = (self.at, self.line);
        self.input.seek(SeekFrom::Start(at))?;
        self.at = at;
        for _ in 0..count {
            if !self.read_raw()? {
                return Err(IndexError::CutOff(resume_line));
            }
            let parsed = parse_line(&self.buf, self.version);
            with(parsed.map_err(|error| bad(resume_line, error.to_string()))?);
        }
        let end = self.at;
        self.input.seek(SeekFrom::Start(resume_at))?;
        (self.at, self.line) = (resume_at, resume_line);
        Ok(end)
    }

    /// The next line, checked against those before it; `None` after the last.
    pub fn next_line(&mut self) -> Result<Option<Line>, IndexError> {
        let Some(raw) = self.next_raw()? else { return Ok(None) };
        match raw.line.whole() {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(bad(self.line, error.to_string())),
        }
    }

    /// The next line, partly parsed and checked against those before it.
    pub(crate) fn next_raw(&mut self) -> Result<Option<PlacedLine<'_>>, IndexError> {
        if self.ended {
            return Ok(None);
        }
        if !self.read_raw()? {
            return Err(IndexError::CutOff(self.line));
        }
        let was_at_border = self.sequence.is_at_border();
        let Self { input, version, line, buf, sequence, ended, .. } = self;
        let bad = |what: &str| bad(*line, what);
        let raw = RawLine::parse(buf, *version).map_err(|error| bad(&error.to_string()))?;
        match &raw {
            RawLine::Member(member) => sequence.add_member(member).map_err(bad)?,
            RawLine::Entry(entry) => sequence.add_entry(entry).map_err(bad)?,
            RawLine::End(totals) if *totals != sequence.seen => {
                return Err(bad("its totals are not those of the lines before it"));
            }
            RawLine::End(_) => {
                if !input.fill_buf()?.is_empty() {
                    return Err(bad("something follows the last line"));
                }
                *ended = true;
            }
        }
        let at = self.at - buf.len() as u64 - 1;
        Ok(Some(PlacedLine { line: raw, bytes: buf, at, was_at_border, is_at_border: sequence.is_at_border() }))
    }

    /// Ends reading. Returns the SHA-256 of the whole file if its last line was read and it is hashed.
    pub(crate) fn into_sha256(self) -> Option<[u8; 32]> {
        let Hasher { pieces, thread } = self.input.into_inner().hasher.filter(|_| self.ended)?;
        drop(pieces);
        thread.join().ok()
    }

    /// Reads a line without its newline into `buf`. False at the end of the file.
    fn read_raw(&mut self) -> Result<bool, IndexError> {
        self.buf.clear();
        let mut limited = io::Read::take(&mut self.input, MAX_LINE_BYTES);
        let len = limited.read_until(b'\n', &mut self.buf)?;
        if len == 0 {
            return Ok(false);
        }
        self.line += 1;
        self.at += len as u64;
        if self.buf.pop() == Some(b'\n') {
            Ok(true)
        } else {
            Err(bad(self.line, "it is cut off, or longer than a line can be"))
        }
    }
}

fn bad(line: u64, what: impl Into<String>) -> IndexError {
    IndexError::Line { line, what: what.into() }
}

impl Sequence {
    fn is_at_border(&self) -> bool {
        self.entry_at == self.seen.tar_bytes
    }

    fn add_member(&mut self, member: &MemberLine) -> Result<(), &'static str> {
        let Totals { members, archive_bytes, tar_bytes, .. } = self.seen;
        if member.number != members || member.offset != archive_bytes || member.tar_offset != tar_bytes {
            return Err("the member does not begin where the one before it ends");
        }
        let data_ok = member.tar_length <= MAX_MEMBER_DATA as u64 && member.tar_length.is_multiple_of(BLOCK_BYTES);
        let longest = if member.is_padding() { WIDEST.max_padding_bytes as u64 } else { MAX_MEMBER_BYTES };
        let length_ok = member.length > WIDEST.frame_bytes as u64 && member.length <= longest;
        if !data_ok || !length_ok {
            return Err("no member can have these lengths");
        }
        let too_far = "the archive would be longer than 2^64 bytes";
        self.seen.members += 1;
        self.seen.archive_bytes = archive_bytes.checked_add(member.length).ok_or(too_far)?;
        self.seen.tar_bytes = tar_bytes.checked_add(member.tar_length).ok_or(too_far)?;
        self.last_member_at = Some(member.tar_offset);
        Ok(())
    }

    fn add_entry(&mut self, entry: &RawEntry<'_>) -> Result<(), &'static str> {
        let member_at = self.last_member_at.ok_or("an entry comes before the first member")?;
        let EntryFacts { tar_offset, tar_length, .. } = entry.facts;
        if tar_offset != self.entry_at {
            return Err("the entry does not begin where the one before it ends");
        }
        let end = tar_offset.checked_add(tar_length).ok_or("the entry has no end")?;
        let in_blocks = tar_length > 0 && tar_length.is_multiple_of(BLOCK_BYTES);
        // The path is part of the headers, which bounds the total length of a member's paths.
        if !in_blocks || end <= member_at || end > self.seen.tar_bytes || entry.least_path_bytes() as u64 > tar_length {
            return Err("the entry does not end in the member before it");
        }
        self.entry_at = end;
        self.seen.entries += 1;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::{IndexError, IndexReader};
    use crate::archive::index::{EntryLine, HEADER_LINE, IndexedKind, MemberDigest, MemberLine, Totals};
    use crate::entry::Timestamp;

    fn member(number: u64) -> MemberLine {
        MemberLine {
            number,
            offset: number * 100,
            length: 100,
            tar_offset: number << 20,
            tar_length: 1 << 20,
            digest: MemberDigest::Blake3([1; 32]),
            heads: None,
            data: None,
        }
    }

    fn entry(tar_offset: u64, tar_length: u64, path: &str) -> EntryLine {
        EntryLine {
            kind: IndexedKind::File,
            damaged: false,
            tar_offset,
            tar_length,
            size: 0,
            ino: 0,
            ctime: Timestamp::default(),
            head: [0; 16],
            content: None,
            path: path.as_bytes().to_vec(),
        }
    }

    /// A small file, one that spans `spanned` members, and one that ends with the last of them.
    pub(in crate::archive::read) fn index(spanned: u64) -> Vec<u8> {
        let mut text = HEADER_LINE.as_bytes().to_vec();
        member(0).add_to(&mut text);
        entry(0, 1 << 20, "small").add_to(&mut text);
        for number in 1..=spanned {
            member(number).add_to(&mut text);
        }
        entry(1 << 20, (spanned << 20) - 512, "large").add_to(&mut text);
        entry(((spanned + 1) << 20) - 512, 512, "last").add_to(&mut text);
        member(spanned + 1).add_to(&mut text);
        let members = spanned + 2;
        Totals { members, entries: 3, archive_bytes: members * 100, tar_bytes: members << 20 }
            .write_to(&mut text)
            .unwrap();
        text
    }

    pub(in crate::archive::read) fn reader(text: &[u8]) -> Result<IndexReader, IndexError> {
        IndexReader::new(Arc::new(text.to_vec()))
    }

    #[test]
    fn lines_that_contradict_each_other_are_refused() {
        let good = index(2);
        let text = String::from_utf8(good.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let read = |text: &[u8]| -> Result<(), IndexError> {
            let mut reader = reader(text)?;
            while reader.next_line()?.is_some() {}
            Ok(())
        };
        assert!(read(&good).is_ok());
        for dropped in 0..lines.len() {
            let kept = lines.iter().enumerate().filter(|(at, _)| *at != dropped).map(|(_, line)| *line);
            let rest = kept.chain([""]).collect::<Vec<_>>().join("\n");
            assert!(read(rest.as_bytes()).is_err(), "line {dropped} dropped");
        }
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "cut at {end}");
        }
        assert!(matches!(read(&[good.as_slice(), b"x"].concat()), Err(IndexError::Line { .. })));
        let endless = [HEADER_LINE.as_bytes(), &vec![b'E'; 1 << 20]].concat();
        assert!(matches!(read(&endless), Err(IndexError::Line { line: 2, .. })));
    }
}
