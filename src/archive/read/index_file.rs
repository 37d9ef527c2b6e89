//! Reads an index from its first line to its last, and trusts none of them: what a line says must follow from the lines
//! before it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use crate::archive::gzip::{HEADER_BYTES, MAX_MEMBER_DATA, MAX_PADDING_BYTES, MemberEncoder, TRAILER_BYTES};
use crate::archive::index::{
    EntryFacts, EntryLine, IndexVersion, Line, MemberLine, RawEntry, RawLine, Totals, parse_line,
};
use crate::archive::pax::BLOCK_BYTES;

/// The longest path that the walk archives has 64 KiB, four bytes each when all are escaped.
pub(crate) const MAX_LINE_BYTES: u64 = 512 << 10;
/// The members of one large file that are kept; of the rest the lines are read a second time.
const MAX_KEPT_MEMBERS: usize = 4096;
const BUFFER_BYTES: usize = 256 << 10;
/// So many buffers' content waits to be hashed.
const WAITING_PIECES: usize = 4;
/// What [`MemberEncoder`] makes at most.
pub(crate) const MAX_MEMBER_BYTES: u64 = MemberEncoder::MAX_MEMBER_BYTES as u64;

/// Why an index cannot be used from some line on.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Reading it failed.
    #[error("the index cannot be read")]
    Io(#[from] io::Error),
    /// It is of another version, or no index.
    #[error("its first line is not that of an index of a version that this volbak knows")]
    NotAnIndex,
    /// A line is not one, or longer than any can be.
    #[error("line {line}: {what}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The last line is missing.
    #[error("it is cut off after line {0}")]
    CutOff(u64),
}

/// An index that is being read.
#[derive(Debug)]
pub struct IndexReader {
    input: BufReader<HashedFile>,
    version: IndexVersion,
    /// The next line's first byte.
    at: u64,
    /// The number of the last line read, from 1.
    line: u64,
    buf: Vec<u8>,
    sequence: Sequence,
    ended: bool,
}

/// A file of which all that is read is hashed where that is wanted, in a thread beside.
#[derive(Debug)]
struct HashedFile {
    file: File,
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
            // Fails only when the other thread has panicked, which is seen at the end.
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

/// A line with its place.
pub(crate) struct PlacedLine<'a> {
    pub(crate) line: RawLine<'a>,
    /// The line, without its newline.
    pub(crate) bytes: &'a [u8],
    /// Its first byte in the file.
    pub(crate) at: u64,
    /// Whether the members before it end where the entries before it do.
    pub(crate) was_at_border: bool,
    /// Whether they do with it.
    pub(crate) is_at_border: bool,
}

/// What the lines so far add up to, against which the next one is held.
#[derive(Debug, Default)]
struct Sequence {
    seen: Totals,
    /// Where the next entry must begin in the tar stream.
    entry_at: u64,
    /// Where the last member begins there; `None` before the first.
    last_member_at: Option<u64>,
}

impl IndexReader {
    /// Begins with a file's first line.
    pub fn new(file: File) -> Result<Self, IndexError> {
        Self::begin(HashedFile { file, hasher: None })
    }

    /// Begins with a file's first line, and hashes it all.
    pub(crate) fn hashing(file: File) -> Result<Self, IndexError> {
        let hasher = Some(Hasher::start()?);
        Self::begin(HashedFile { file, hasher })
    }

    fn begin(file: HashedFile) -> Result<Self, IndexError> {
        let mut reader = Self {
            version: IndexVersion::Three,
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

    /// Which version its first line names.
    pub fn version(&self) -> IndexVersion {
        self.version
    }

    /// What the lines so far add up to.
    pub fn totals(&self) -> Totals {
        self.sequence.seen
    }

    /// The number of the last line that was read, from 1.
    pub fn line_number(&self) -> u64 {
        self.line
    }

    /// The next line, `None` after the last; checked against those before it.
    pub fn next_line(&mut self) -> Result<Option<Line>, IndexError> {
        let Some(raw) = self.next_raw()? else { return Ok(None) };
        match raw.line.whole() {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(bad(self.line, error.to_string())),
        }
    }

    /// The next line, as far as it can be checked against those before it.
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

    /// Ends reading; the SHA-256 of the whole file after its last line was read, `None` when it is not hashed.
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
        let longest = if member.is_padding() { MAX_PADDING_BYTES as u64 } else { MAX_MEMBER_BYTES };
        let length_ok = member.length > (HEADER_BYTES + TRAILER_BYTES) as u64 && member.length <= longest;
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
        // Its path is in its headers, which bounds what all paths of a member take.
        if !in_blocks || end <= member_at || end > self.seen.tar_bytes || entry.least_path_bytes() as u64 > tar_length {
            return Err("the entry does not end in the member before it");
        }
        self.entry_at = end;
        self.seen.entries += 1;
        Ok(())
    }
}

/// A member that is to be read, with the lines of the entries that start in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMember {
    /// The member.
    pub line: MemberLine,
    /// The entries, in their order.
    pub entries: Vec<EntryLine>,
}

/// Decides which entries are wanted.
pub type Select = Box<dyn FnMut(&EntryLine) -> bool + Send>;

/// What is to be read of an archive, from its index.
pub struct IndexPlan {
    reader: IndexReader,
    select: Option<Select>,
    /// The line that begins the next group, and where it is in the file.
    peeked: Option<(Line, u64)>,
    ready: VecDeque<PlannedMember>,
    /// Members that did not fit in `ready`: where their lines are, how many are left, and the group's entries.
    replay: Option<Replay>,
}

struct Replay {
    at: u64,
    left: u64,
    entries: VecDeque<EntryLine>,
    wanted: Vec<(u64, u64)>,
}

/// Members up to and with the one in which the next entries end.
#[derive(Default)]
struct Group {
    kept: Vec<MemberLine>,
    members: u64,
    /// Where the line of the first member that was not kept begins.
    rest_at: u64,
    entries: Vec<EntryLine>,
}

impl IndexPlan {
    /// All members, with all entries; or, with `select`, the members that hold an entry that it wants, with those alone.
    pub fn new(reader: IndexReader, select: Option<Select>) -> Self {
        Self { reader, select, peeked: None, ready: VecDeque::new(), replay: None }
    }

    /// Whether only a part is to be read.
    pub fn is_partial(&self) -> bool {
        self.select.is_some()
    }

    /// The index's totals; all of them only after the last member was given.
    pub fn totals(&self) -> Totals {
        self.reader.totals()
    }

    /// The next member to read, in the archive's order.
    pub fn next_member(&mut self) -> Result<Option<PlannedMember>, IndexError> {
        loop {
            if let Some(planned) = self.ready.pop_front() {
                return Ok(Some(planned));
            }
            if self.replay_some()? {
                continue;
            }
            let Some(group) = self.next_group()? else { return Ok(None) };
            self.take_in(group);
        }
    }

    fn next_group(&mut self) -> Result<Option<Group>, IndexError> {
        let mut group = Group::default();
        loop {
            let (line, at) = if let Some(peeked) = self.peeked.take() {
                peeked
            } else {
                let at = self.reader.at;
                match self.reader.next_line()? {
                    Some(line) => (line, at),
                    None => break,
                }
            };
            match line {
                Line::Member(_) if !group.entries.is_empty() => {
                    self.peeked = Some((line, at));
                    break;
                }
                Line::Member(member) => {
                    group.members += 1;
                    if group.kept.len() < MAX_KEPT_MEMBERS {
                        group.kept.push(member);
                    } else if group.members == MAX_KEPT_MEMBERS as u64 + 1 {
                        group.rest_at = at;
                    }
                }
                Line::Entry(entry) => group.entries.push(entry),
                Line::End(_) => {}
            }
        }
        Ok((group.members > 0).then_some(group))
    }

    fn take_in(&mut self, mut group: Group) {
        let everything = self.select.is_none();
        if let Some(select) = &mut self.select {
            group.entries.retain(|entry| select(entry));
            if group.entries.is_empty() {
                return;
            }
        }
        // The checks of the reader make these sums fit.
        let wanted: Vec<(u64, u64)> =
            group.entries.iter().map(|entry| (entry.tar_offset, entry.tar_offset + entry.tar_length)).collect();
        let wanted = if everything { vec![(0, u64::MAX)] } else { wanted };
        let mut entries = VecDeque::from(group.entries);
        for line in group.kept {
            self.ready.extend(plan(line, &mut entries, &wanted));
        }
        let left = group.members.saturating_sub(MAX_KEPT_MEMBERS as u64);
        if left > 0 {
            self.replay = Some(Replay { at: group.rest_at, left, entries, wanted });
        }
    }

    /// Reads lines of members again that were read before and checked then. False when there are none.
    fn replay_some(&mut self) -> Result<bool, IndexError> {
        let Some(mut replay) = self.replay.take() else { return Ok(false) };
        let (resume_at, resume_line) = (self.reader.at, self.reader.line);
        self.reader.input.seek(SeekFrom::Start(replay.at))?;
        self.reader.at = replay.at;
        for _ in 0..replay.left.min(MAX_KEPT_MEMBERS as u64) {
            if !self.reader.read_raw()? {
                return Err(IndexError::CutOff(resume_line));
            }
            replay.left -= 1;
            let parsed = parse_line(&self.reader.buf, self.reader.version);
            if let Line::Member(line) = parsed.map_err(|error| bad(resume_line, error.to_string()))? {
                self.ready.extend(plan(line, &mut replay.entries, &replay.wanted));
            }
        }
        replay.at = self.reader.at;
        if replay.left > 0 {
            self.replay = Some(replay);
        }
        self.reader.input.seek(SeekFrom::Start(resume_at))?;
        (self.reader.at, self.reader.line) = (resume_at, resume_line);
        Ok(true)
    }
}

/// The member with the entries that start in it, if any of it is wanted.
fn plan(line: MemberLine, entries: &mut VecDeque<EntryLine>, wanted: &[(u64, u64)]) -> Option<PlannedMember> {
    let end = line.tar_offset + line.tar_length;
    let mut own = Vec::new();
    while entries.front().is_some_and(|entry| entry.tar_offset < end) {
        own.extend(entries.pop_front());
    }
    // Padding counts as the byte behind it, so that no byte of the archive is left out where all is wanted.
    let end = end.max(line.tar_offset.saturating_add(1));
    let is_wanted = wanted.iter().any(|(from, to)| *from < end && line.tar_offset < *to);
    is_wanted.then_some(PlannedMember { line, entries: own })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{IndexError, IndexPlan, IndexReader};
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
    fn index(spanned: u64) -> Vec<u8> {
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

    fn reader(text: &[u8]) -> Result<IndexReader, IndexError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        IndexReader::new(file)
    }

    fn planned(plan: &mut IndexPlan) -> Vec<(u64, Vec<String>)> {
        let mut all = Vec::new();
        while let Some(planned) = plan.next_member().unwrap() {
            let names = planned.entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap());
            all.push((planned.line.number, names.collect()));
        }
        all
    }

    #[test]
    fn entries_come_with_the_member_they_start_in() {
        for spanned in [1, 2, 5000, 9000] {
            let all = planned(&mut IndexPlan::new(reader(&index(spanned)).unwrap(), None));
            assert_eq!(all.len() as u64, spanned + 2);
            assert!(all.iter().enumerate().all(|(at, (number, _))| at as u64 == *number));
            let named: Vec<_> = all.iter().filter(|(_, names)| !names.is_empty()).cloned().collect();
            let flat: Vec<_> = named.iter().flat_map(|(_, names)| names.clone()).collect();
            assert_eq!(flat, ["small", "large", "last"]);
            assert_eq!(named[1].0, 1);
        }
    }

    #[test]
    fn only_members_with_something_wanted_are_read() {
        for spanned in [3, 5000] {
            let of = |wanted: &'static str| {
                let select = Box::new(move |entry: &EntryLine| entry.path == wanted.as_bytes());
                planned(&mut IndexPlan::new(reader(&index(spanned)).unwrap(), Some(select)))
            };
            assert_eq!(of("small"), [(0, vec!["small".to_owned()])]);
            assert_eq!(of("last"), [(spanned, vec!["last".to_owned()])]);
            assert_eq!(of("large").len() as u64, spanned);
            assert_eq!(of("none"), []);
        }
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
