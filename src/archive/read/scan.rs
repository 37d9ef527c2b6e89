//! The reading thread's work: an archive's bytes in order, cut into members by the index or by their own headers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::GzDecoder;
use sha1::{Digest, Sha1};

use super::header::{self, BLOCK};
use super::index_file::IndexPlan;
use super::stream::{Chunk, Findings, Form, Job, Over, StreamFinding, StreamOutcome, Submit};
use crate::archive::gzip::{HEADER_BYTES, MAX_MEMBER_DATA, parse_header};
use crate::error::with_causes;

const PIECE_BYTES: usize = 256 << 10;
/// What every member of ours begins with: all of its header but the two lengths.
const SIGNATURE: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 12, 0, b'V', b'B', 8, 0];
/// A first member whose header is damaged ends before this.
const FIRST_MEMBER_WITHIN: u64 = 3 << 20;
/// `FLG.FEXTRA` of RFC 1952.
const FLAG_EXTRA: u8 = 4;

/// An archive that is read from its start on, and hashed as it is.
struct Input<'a> {
    file: &'a File,
    at: u64,
    len: u64,
    sha1: Option<Sha1>,
}

impl<'a> Input<'a> {
    fn new(file: &'a File, hash: bool) -> io::Result<Self> {
        Ok(Self { file, at: 0, len: file.metadata()?.len(), sha1: hash.then(Sha1::new) })
    }

    /// Fills `buf` with the next bytes, at most `len`; fewer only at the end of the file.
    fn next(&mut self, len: u64, buf: &mut Vec<u8>) -> io::Result<()> {
        // What is longer than a member is never asked for, whatever a header says.
        let len = usize::try_from(len.min(self.len.saturating_sub(self.at))).unwrap_or(usize::MAX).min(4 << 20);
        buf.resize(len, 0);
        let read = read_at_most(self.file, self.at, buf);
        let filled = *read.as_ref().unwrap_or(&0);
        if read.is_err() {
            // The SHA-1 of an archive of which a part cannot be read is not known.
            self.sha1 = None;
            self.at = self.at.saturating_add(len as u64);
        } else {
            buf.truncate(filled);
            self.at += filled as u64;
            if let Some(sha1) = &mut self.sha1 {
                sha1.update(&*buf);
            }
        }
        read.map(|_| ())
    }

    /// Reads on to the byte `to`, for the hash alone.
    fn skip_to(&mut self, to: u64) -> io::Result<()> {
        let to = to.min(self.len);
        let mut buf = Vec::new();
        while self.sha1.is_some() && self.at < to {
            self.next((to - self.at).min(PIECE_BYTES as u64), &mut buf)?;
            if buf.is_empty() {
                break;
            }
        }
        self.at = to;
        Ok(())
    }

    fn peek_header(&self) -> io::Result<Vec<u8>> {
        let mut header = vec![0; HEADER_BYTES];
        let len = read_at_most(self.file, self.at, &mut header)?;
        header.truncate(len);
        Ok(header)
    }

    /// Where the next member begins, at or after `from`, and before `before`.
    fn find_member(&self, from: u64, before: u64) -> io::Result<Option<u64>> {
        let mut window = vec![0; PIECE_BYTES];
        let mut at = from;
        while at < before.min(self.len) {
            let len = read_at_most(self.file, at, &mut window)?;
            let bytes = &window[..len];
            let mut starts = bytes.windows(HEADER_BYTES).enumerate();
            if let Some((found, _)) =
                starts.find(|(_, bytes)| bytes.starts_with(&SIGNATURE) && parse_header(bytes).is_some())
            {
                return Ok(Some(at + found as u64));
            }
            if len < HEADER_BYTES {
                break;
            }
            at += (len - HEADER_BYTES + 1) as u64;
        }
        Ok(None)
    }

    fn outcome(self, form: Form, tally: Tally) -> StreamOutcome {
        StreamOutcome {
            form,
            archive_sha1: self
                .sha1
                .map(|sha1| sha1.finalize().into())
                .filter(|_| self.at == self.len && !tally.stopped),
            archive_bytes: self.len,
            members: tally.members,
            tar_bytes: tally.tar_bytes,
            findings: tally.findings.first,
            findings_total: tally.findings.total,
            stopped: tally.stopped,
        }
    }
}

/// What the reading thread counts and finds.
#[derive(Default)]
struct Tally {
    members: u64,
    tar_bytes: u64,
    findings: Findings,
    stopped: bool,
    /// Nobody wants more.
    over: bool,
}

impl Tally {
    fn find(&mut self, in_index: bool, member: Option<u64>, offset: u64, what: impl Into<String>) {
        self.findings.add(StreamFinding { in_index, member, offset, what: what.into() });
    }

    fn end(&mut self, over: &Over) {
        self.stopped = over.stopped;
        self.over = true;
    }
}

fn read_at_most(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn unreadable(error: &io::Error) -> StreamOutcome {
    let what = format!("the archive cannot be read: {error}");
    let finding = StreamFinding { in_index: false, member: None, offset: 0, what };
    StreamOutcome { findings: vec![finding], findings_total: 1, ..StreamOutcome::default() }
}

/// Reads the members that the plan names.
pub(super) fn read_archive(file: &File, mut plan: IndexPlan, hash: bool, mut submit: Submit) -> StreamOutcome {
    let partial = plan.is_partial();
    let mut input = match Input::new(file, hash && !partial) {
        Ok(input) => input,
        Err(error) => return unreadable(&error),
    };
    let mut tally = Tally::default();
    loop {
        let planned = match plan.next_member() {
            Ok(Some(planned)) => planned,
            Ok(None) => break,
            Err(error) => {
                tally.find(true, None, input.at, with_causes(&error));
                if partial {
                    return input.outcome(Form::Members, tally);
                }
                // Members say themselves where they are, so the rest is read without the index.
                return Scanner { input, tally }.members(submit);
            }
        };
        let mut job = match submit.job() {
            Ok(job) => job,
            Err(over) => {
                tally.end(&over);
                break;
            }
        };
        let line = planned.line;
        input.at = line.offset;
        job.chunk = Chunk {
            number: line.number,
            archive_offset: line.offset,
            tar_offset: line.tar_offset,
            tar_length: line.tar_length,
            data: std::mem::take(&mut job.chunk.data),
            lost: None,
            entries: Some(planned.entries),
        };
        job.digest = Some(line.digest);
        tally.members += 1;
        tally.tar_bytes += line.tar_length;
        let lost = match input.next(line.length, &mut job.member) {
            Err(error) => Some(format!("it cannot be read: {error}")),
            Ok(()) if (job.member.len() as u64) < line.length => Some("the archive ends before it does".to_owned()),
            Ok(()) => None,
        };
        if let Some(what) = lost {
            pass_lost(job, what, &mut tally, &mut submit);
            continue;
        }
        job.header_damaged = !parse_header(&job.member).is_some_and(|frame| {
            u64::from(frame.member_bytes) == line.length && u64::from(frame.data_bytes) == line.tar_length
        });
        submit.inflate(job);
    }
    if !partial && !tally.over {
        let end = plan.totals().archive_bytes;
        if input.len > end {
            tally.find(false, None, end, format!("{} bytes follow its last member", input.len - end));
        }
        if let Err(error) = input.skip_to(input.len) {
            tally.find(false, None, input.at, format!("it cannot be read: {error}"));
        }
    }
    input.outcome(Form::Members, tally)
}

/// Hands on a member whose data is lost.
fn pass_lost(mut job: Job, what: String, tally: &mut Tally, submit: &mut Submit) {
    job.chunk.data.clear();
    tally.find(false, Some(job.chunk.number), job.chunk.archive_offset, what.clone());
    job.chunk.lost = Some(what);
    submit.pass(job);
}

/// Reads an archive without an index.
pub(super) struct Scanner<'a> {
    input: Input<'a>,
    tally: Tally,
}

/// Starts the right way of reading.
pub(super) fn scan_archive(file: &File, hash: bool, submit: Submit) -> StreamOutcome {
    match Input::new(file, hash) {
        Ok(input) => Scanner { input, tally: Tally::default() }.run(submit),
        Err(error) => unreadable(&error),
    }
}

impl Scanner<'_> {
    fn run(self, submit: Submit) -> StreamOutcome {
        match self.kind() {
            Ok(Kind::Ours) => self.members(submit),
            Ok(Kind::Gzip) => {
                let Self { input, tally } = self;
                let data = GzipMembers::new(BufReader::with_capacity(PIECE_BYTES, HashingInput(input)));
                pieces(data, tally, Form::Gzip, submit)
            }
            Ok(Kind::Plain) => {
                let Self { input, tally } = self;
                pieces(BufReader::with_capacity(PIECE_BYTES, HashingInput(input)), tally, Form::Plain, submit)
            }
            Ok(Kind::Other(what)) => {
                let mut tally = self.tally;
                tally.find(false, None, 0, what);
                self.input.outcome(Form::Gzip, tally)
            }
            Err(error) => unreadable(&error),
        }
    }

    fn kind(&self) -> io::Result<Kind> {
        if self.is_ours()? {
            return Ok(Kind::Ours);
        }
        let mut block = vec![0; BLOCK];
        let len = read_at_most(self.input.file, 0, &mut block)?;
        block.truncate(len);
        if block.is_empty() {
            return Ok(Kind::Other("it is empty".to_owned()));
        }
        if block.starts_with(&[0x1f, 0x8b]) {
            return Ok(Kind::Gzip);
        }
        if let Some((_, program)) = COMPRESSED.iter().find(|(magic, _)| block.starts_with(magic)) {
            let what =
                format!("it is compressed with {program} and not with gzip: `{program} -dc FILE | gzip >NEW.tar.gz`");
            return Ok(Kind::Other(what));
        }
        match block.first_chunk().map(header::parse) {
            Some(Ok(header::Block::Header(_))) => Ok(Kind::Plain),
            // Whatever it is, the decoder says what is wrong with it.
            _ => Ok(Kind::Gzip),
        }
    }

    /// Whether the archive is made of members of ours, the first of which may be damaged.
    fn is_ours(&self) -> io::Result<bool> {
        let header = self.input.peek_header()?;
        if parse_header(&header).is_some() {
            return Ok(true);
        }
        // A gzip file without an extra field is somebody else's, and may hold an archive of ours.
        let is_plain_gzip =
            header.starts_with(&[0x1f, 0x8b, 8]) && header.get(3).is_some_and(|flags| flags & FLAG_EXTRA == 0);
        Ok(!is_plain_gzip && self.input.find_member(1, FIRST_MEMBER_WITHIN)?.is_some())
    }

    fn members(mut self, mut submit: Submit) -> StreamOutcome {
        if let Err(error) = self.each_member(&mut submit) {
            self.tally.find(false, None, self.input.at, format!("it cannot be read: {error}"));
        }
        self.input.outcome(Form::Members, self.tally)
    }

    fn each_member(&mut self, submit: &mut Submit) -> io::Result<()> {
        while self.input.at < self.input.len {
            let mut job = match submit.job() {
                Ok(job) => job,
                Err(over) => {
                    self.tally.end(&over);
                    return Ok(());
                }
            };
            let start = self.input.at;
            let frame = parse_header(&self.input.peek_header()?);
            job.chunk = Chunk {
                number: self.tally.members,
                archive_offset: start,
                tar_offset: self.tally.tar_bytes,
                tar_length: frame.map_or(0, |frame| frame.data_bytes.into()),
                data: std::mem::take(&mut job.chunk.data),
                lost: None,
                entries: None,
            };
            (job.digest, job.header_damaged) = (None, false);
            self.tally.members += 1;
            self.tally.tar_bytes += job.chunk.tar_length;
            let Some(frame) = frame else {
                let next = self.input.find_member(start + 1, u64::MAX)?;
                let end = next.unwrap_or(self.input.len);
                self.input.skip_to(end)?;
                pass_lost(
                    job,
                    format!("no member begins here; {} bytes are of no use", end - start),
                    &mut self.tally,
                    submit,
                );
                continue;
            };
            self.input.next(frame.member_bytes.into(), &mut job.member)?;
            if (job.member.len() as u64) < u64::from(frame.member_bytes) {
                pass_lost(job, "the archive ends before it does".to_owned(), &mut self.tally, submit);
                continue;
            }
            submit.inflate(job);
        }
        Ok(())
    }
}

/// What an archive without an index turns out to be.
enum Kind {
    Ours,
    Gzip,
    Plain,
    /// Something else, in words.
    Other(String),
}

/// What other compressed files begin with, and the program that reads them.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"LZIP", "lzip"),
    (b"\x1f\x9d", "uncompress"),
];

type Buffered<'a> = BufReader<HashingInput<'a>>;

/// A tar stream as it comes out of an archive that does not say where its pieces are.
trait TarData<'a>: Read {
    fn input(&mut self) -> &mut Input<'a>;
    fn into_input(self) -> Input<'a>;
}

impl<'a> TarData<'a> for Buffered<'a> {
    fn input(&mut self) -> &mut Input<'a> {
        &mut self.get_mut().0
    }

    fn into_input(self) -> Input<'a> {
        self.into_inner().0
    }
}

/// Gzip members end to end, and zeros behind the last: tapes and block devices are filled up with them, and gzip(1) passes
/// over them.
struct GzipMembers<'a> {
    /// `None` only while the next one is looked for.
    member: Option<GzDecoder<Buffered<'a>>>,
    ended: bool,
}

impl<'a> GzipMembers<'a> {
    fn new(input: Buffered<'a>) -> Self {
        Self { member: Some(GzDecoder::new(input)), ended: false }
    }

    /// After a member's end: true when there is another one.
    fn next_member(&mut self) -> io::Result<bool> {
        let Some(mut input) = self.member.take().map(GzDecoder::into_inner) else { return Ok(false) };
        let mut zeros = 0_u64;
        let found = loop {
            let bytes = match input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(error),
            };
            if bytes.is_empty() {
                break Ok(false);
            }
            let here = bytes.iter().take_while(|byte| **byte == 0).count();
            let ends_here = here < bytes.len();
            input.consume(here);
            zeros += here as u64;
            if ends_here {
                break if zeros == 0 {
                    Ok(true)
                } else {
                    Err(io::Error::other("something follows zeros behind a member"))
                };
            }
        };
        self.member = Some(GzDecoder::new(input));
        found
    }
}

impl Read for GzipMembers<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buf.is_empty() {
            let read = match &mut self.member {
                Some(member) => member.read(buf)?,
                None => 0,
            };
            if read > 0 {
                return Ok(read);
            }
            self.ended = !self.next_member()?;
        }
        Ok(0)
    }
}

impl<'a> TarData<'a> for GzipMembers<'a> {
    fn input(&mut self) -> &mut Input<'a> {
        // It is only taken out within `next_member`, which puts it back.
        #[expect(clippy::expect_used, reason = "see above")]
        let member = self.member.as_mut().expect("a member is being read");
        &mut member.get_mut().get_mut().0
    }

    fn into_input(mut self) -> Input<'a> {
        #[expect(clippy::expect_used, reason = "as in `input`")]
        let member = self.member.take().expect("a member is being read");
        member.into_inner().into_inner().0
    }
}

/// Hands on a tar stream in pieces of a member's size.
fn pieces<'a>(mut from: impl TarData<'a>, mut tally: Tally, form: Form, mut submit: Submit) -> StreamOutcome {
    loop {
        let mut job = match submit.job() {
            Ok(job) => job,
            Err(over) => {
                tally.end(&over);
                break;
            }
        };
        let mut data = std::mem::take(&mut job.chunk.data);
        data.resize(MAX_MEMBER_DATA, 0);
        let (filled, ended) = fill(&mut from, &mut data);
        data.truncate(filled);
        let offset = from.input().at;
        job.chunk = Chunk {
            number: tally.members,
            archive_offset: offset,
            tar_offset: tally.tar_bytes,
            tar_length: filled as u64,
            data,
            lost: None,
            entries: None,
        };
        let number = tally.members;
        if filled > 0 {
            tally.members += 1;
            tally.tar_bytes += filled as u64;
            submit.pass(job);
        }
        match ended {
            Ok(false) => {}
            Ok(true) => {
                if tally.tar_bytes == 0 {
                    tally.find(false, None, 0, "it is empty");
                }
                break;
            }
            Err(error) => {
                let what = format!("it cannot be decompressed any further: {error}");
                let lost = Chunk { number, archive_offset: offset, lost: Some(what.clone()), ..Chunk::default() };
                tally.find(false, None, offset, what);
                submit.pass(Job { chunk: lost, ..Job::default() });
                break;
            }
        }
    }
    let mut input = from.into_input();
    if !tally.over
        && let Err(error) = input.skip_to(input.len)
    {
        tally.find(false, None, input.at, format!("it cannot be read: {error}"));
    }
    input.outcome(form, tally)
}

/// Fills `buf`; says how far it came, and whether the stream ended there.
fn fill(decoder: &mut impl Read, buf: &mut [u8]) -> (usize, io::Result<bool>) {
    let mut filled = 0;
    while filled < buf.len() {
        match decoder.read(&mut buf[filled..]) {
            Ok(0) => return (filled, Ok(true)),
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(false))
}

struct HashingInput<'a>(Input<'a>);

impl Read for HashingInput<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut piece = Vec::new();
        self.0.next(buf.len() as u64, &mut piece)?;
        buf[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}
